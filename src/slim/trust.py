"""How far a class's attention scores can be trusted: whether they rank judged images whose answers they never saw.

Each pair of a core and a spurious image in turn loses both its answers, and the first step of label spreading and the
smoothing give the two probabilities without them: leave-pair-out. Leaving out one image at a time would be unfair: the
answers that stay then hold one more of the other kind, which pulls every left-out core image down and every spurious
one up. Where gamma is picked, it is picked without the pair.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from slim.gauss import FloatArray, IntArray, squared_distances
from slim.spreading import BoolArray, JudgedPoints, log_degrees, log_own_pulls, log_pulls

GAMMAS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
LOSS_CLIP = 0.01  # a left-out probability counts as no surer than this when gamma is picked
MAX_PAIRS_OUT = 60  # judged images up to which pairs are left out; above, one more or less hardly counts
SHARED_ANSWERS = 4 / 3  # see `auc_with_interval`
THIN_ABOVE = 4096  # other points above which near ones are merged when it is


def left_out_comparisons(task: JudgedPoints, gamma: float | None, alpha: float) -> tuple[float, FloatArray]:
    """Pick gamma where none is given, and compare each core image with each spurious one without their answers.

    Parameters
    ----------
    task
        The points and the answers, of both kinds.
    gamma
        Of the kernel. When None, the one of `GAMMAS` with the smallest log loss of the probabilities without each
        image's own answer, clipped to [0.01, 0.99], ties to the smaller.
    alpha
        As for `slim.spreading.core_probabilities`.

    Returns
    -------
    gamma, comparisons
        The gamma to use, and (n_core, n_spurious): 1 where the core image has the higher probability of core, 0.5 at
        ties to round-off, else 0. Their mean is the AUC.

    Notes
    -----
    Without a pair, gamma is picked by the losses of the other images, each without its own answer and that of one of
    the two. Above 4,096 images of a class, points nearer than a quarter of the kernel's width are merged. Above 60
    judged images each loses its own answer only, since one answer hardly shifts the balance of so many.

    References
    ----------
    A. Airola et al., "An experimental comparison of cross-validation techniques for estimating the area under the ROC
    curve", Computational Statistics and Data Analysis 55, 2011.

    Examples
    --------
    >>> points = np.array([[0.0, 0.0], [0.1, 0.0], [2.0, 0.0], [2.1, 0.0]])
    >>> task = JudgedPoints(points, np.arange(4), np.array([True, True, False, False]))
    >>> left_out_comparisons(task, None, 1e-6)
    (2.0, array([[1., 1.],
           [1., 1.]]))
    """
    gammas = GAMMAS if gamma is None else (float(gamma),)
    alone = np.stack([_without_own_answer(task, gamma, alpha) for gamma in gammas])
    losses = _log_loss(alone, task.core)
    best = gammas[int(_smallest(losses.sum(axis=1)))]
    core, spurious = np.flatnonzero(task.core), np.flatnonzero(~task.core)
    if len(task.judged) > MAX_PAIRS_OUT:
        rest = losses.sum(axis=1, keepdims=True) - losses
        own = alone[_smallest(rest), np.arange(len(task.judged))]
        return best, _comparisons(own[core][:, None], own[spurious][None, :])
    pairs = np.stack([_without_pairs(task, gamma, alpha) for gamma in gammas])
    losses_of_others = _log_loss(pairs, task.core[:, None])
    diagonal = np.arange(len(task.judged))
    losses_of_others[:, diagonal, diagonal] = 0.0
    without_one = losses_of_others.sum(axis=1)
    between = losses_of_others + losses_of_others.transpose(0, 2, 1)
    picked = _smallest((without_one[:, :, None] + without_one[:, None, :] - between)[:, core][:, :, spurious])
    rows, columns = core[:, None], spurious[None, :]
    return best, _comparisons(pairs[picked, rows, columns], pairs[picked, columns, rows])


def _comparisons(of_core: FloatArray, of_spurious: FloatArray) -> FloatArray:
    """1 where the first is larger, 0.5 where both are the same to round-off, else 0."""
    difference = of_core.round(9) - of_spurious.round(9)
    return np.asarray((difference > 0) + 0.5 * (difference == 0))


def _log_loss(probabilities: FloatArray, core: BoolArray) -> FloatArray:
    """Log loss of each probability of core."""
    clipped = np.clip(probabilities, LOSS_CLIP, 1 - LOSS_CLIP)
    return np.asarray(-np.log(np.where(core, clipped, 1 - clipped)))


def _smallest(losses: FloatArray) -> IntArray:
    """First index along the first axis within round-off of the smallest."""
    return np.asarray(np.argmax(losses <= losses.min(axis=0) + 1e-9, axis=0))


def _without_own_answer(task: JudgedPoints, gamma: float, alpha: float) -> FloatArray:
    """(m,) probability of core at each judged image when its own answer is not known, in O(n m)."""
    log_judged = log_degrees(task, gamma)
    sums = np.zeros((2, len(task.judged)))
    for rows, pulls in log_pulls(task, log_judged, log_own_pulls(log_judged, alpha), gamma):
        near = np.exp(-gamma * squared_distances(task.points[rows], task.points[task.judged]))
        sums += (near * _share_without_each(pulls, task.core)).sum(axis=0), near.sum(axis=0)
    return np.asarray(sums[0] / sums[1])


def _without_pairs(task: JudgedPoints, gamma: float, alpha: float) -> FloatArray:
    """(m, m) probability of core at judged image l when neither its answer nor that of image k is known."""
    log_judged = log_degrees(task, gamma)
    others, counts = _thinned(np.delete(task.points, task.judged, axis=0), gamma)
    judged = task.points[task.judged]
    exponents = -gamma * squared_distances(np.concatenate([judged, others]), judged)
    kernel = np.exp(exponents) * np.concatenate([np.ones(len(judged)), counts])[:, None]
    pulls = exponents - 0.5 * log_judged
    np.fill_diagonal(pulls, log_own_pulls(log_judged, alpha))
    probabilities = np.empty((len(judged), len(judged)))
    for image, weights in enumerate(kernel.T):
        near = weights > 1e-12
        unknown = pulls[near]
        unknown[:, image] = -np.inf
        probabilities[image] = weights[near] @ _share_without_each(unknown, task.core) / weights[near].sum()
    return probabilities


def _thinned(points: FloatArray, gamma: float) -> tuple[FloatArray, FloatArray]:
    """Where they are many, points merged by cells of a quarter of the kernel's width, and how many each stands for."""
    if len(points) <= THIN_ABOVE:
        return points, np.ones(len(points))
    cells = np.floor((points - points.min(axis=0)) * (4.0 * np.sqrt(2.0 * gamma))).astype(np.int64)
    keys = cells[:, 0] * (cells[:, 1].max() + 1) + cells[:, 1]
    _, cell, counts = np.unique(keys, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(cell, along) for along in points.T], axis=1)
    return sums / counts[:, None], counts.astype(np.float64)


def _share_without_each(exponents: FloatArray, core: BoolArray) -> FloatArray:
    """(r, m) share of core in the pulls on each of r points without judged image k; 0.5 where nothing is left.

    Taking the strongest pull off a sum that it dominates would leave round-off: that sum is made afresh.
    """
    rows, strongest = np.arange(len(exponents)), exponents.argmax(axis=1)
    pulls = np.exp(exponents - exponents[rows, strongest][:, None])
    rest = pulls.sum(axis=1, keepdims=True) - pulls
    weak = np.flatnonzero(rest[rows, strongest] < 1e-3)
    taken = weak, strongest[weak]
    rest[taken] = 1.0
    shares = ((pulls @ core.astype(np.float64))[:, None] - pulls * core) / rest
    weaker = exponents[weak]
    weaker[np.arange(len(weak)), strongest[weak]] = -np.inf
    shares[taken] = _share(weaker, core)
    return np.asarray(np.clip(shares, 0.0, 1.0))


def _share(exponents: FloatArray, core: BoolArray) -> FloatArray:
    """(r,) share of core in the pulls on each of r points; 0.5 where there is none."""
    top = exponents.max(axis=1, keepdims=True, initial=np.finfo(float).min)
    pulls = np.exp(exponents - top)
    total = pulls.sum(axis=1)
    return np.where(total > 0, pulls @ core.astype(np.float64) / np.maximum(total, 1.0), 0.5)


def auc_with_interval(comparisons: FloatArray, widening: float = SHARED_ANSWERS) -> tuple[float, float, float]:
    """Area under the ROC curve, from comparisons as `left_out_comparisons` makes them, and its 95 % interval.

    The interval is method 5 of Newcombe (2006): each bound lies 1.96 of its own Hanley-McNeil standard errors away.
    These hold for scores that nothing connects. Left-out scores share the answers that they are made from and vary
    more: where answers and space are unrelated, the plain interval held 0.5 in 85 to 86 % of 900 draws of 20 or 40
    answers, and with errors 4/3 times as large in 94 to 96 %.

    Parameters
    ----------
    comparisons
        (n_core, n_spurious) of 0, 0.5 and 1.
    widening
        What the standard errors are multiplied by; 1 for scores made without the answers.

    Examples
    --------
    >>> auc_with_interval(np.array([[1.0, 1.0], [0.5, 1.0]]))[0]
    0.875
    """
    auc = float(comparisons.mean())
    n_core, n_spurious = comparisons.shape
    errors = 1.959964 * widening
    low, high = (_lower_bound(value, n_core, n_spurious, errors) for value in (auc, 1.0 - auc))
    return auc, low, 1.0 - high


def _lower_bound(auc: float, n_core: int, n_spurious: int, errors: float) -> float:
    """The AUC that lies so many of its own standard errors below the observed one."""
    middle = (n_core + n_spurious) / 2 - 1

    def gap(true: float) -> float:
        excess = middle * ((1 - true) / (2 - true) + true / (1 + true))
        return auc - true - errors * float(np.sqrt(true * (1 - true) * (1 + excess) / (n_core * n_spurious)))

    if auc == 0.0:
        return 0.0
    return float(brentq(gap, 0.0, min(auc, 1.0 - 1e-9)))
