"""How far a class's attention scores can be trusted: what they say of judged images whose answers they never saw.

Each judged image in turn loses its answer, and the first step of label spreading and the smoothing give its probability
without it. Where gamma is picked, the picking is repeated without each left-out image, so that its answer has no say in
its own probability.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from slim.gauss import FloatArray, IntArray, squared_distances
from slim.spreading import BoolArray, JudgedPoints, log_degrees, log_own_pulls, log_pulls

GAMMAS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
LOSS_CLIP = 0.01  # a left-out probability counts as no surer than this when gamma is picked
MAX_PAIRS_OUT = 60  # judged images up to which gamma is picked anew with each of them left out
THIN_ABOVE = 4096  # other points above which near ones are merged when it is


def left_out_probabilities(task: JudgedPoints, gamma: float | None, alpha: float) -> tuple[float, FloatArray]:
    """Pick gamma where none is given, and score each judged image without its answer.

    Parameters
    ----------
    task
        The points and the answers, of both kinds.
    gamma
        Of the kernel. When None, the one of `GAMMAS` with the smallest log loss of the left-out probabilities, clipped
        to [0.01, 0.99], ties to the smaller.
    alpha
        As for `slim.spreading.core_probabilities`.

    Returns
    -------
    gamma, probabilities
        The gamma to use, and (m,) probability of core of each judged image without its answer.

    Notes
    -----
    The repeated picking is approximate in two ways: above 4,096 images of a class, points nearer than a quarter of the
    kernel's width are merged; above 60 judged images, the left-out image's loss is dropped but its influence on the
    others' is not.

    Examples
    --------
    >>> points = np.array([[0.0, 0.0], [0.1, 0.0], [2.0, 0.0], [2.1, 0.0]])
    >>> task = JudgedPoints(points, np.arange(4), np.array([True, True, False, False]))
    >>> gamma, probabilities = left_out_probabilities(task, None, 1e-6)
    >>> gamma, probabilities.round(2)
    (2.0, array([1., 1., 0., 0.]))
    """
    if gamma is not None:
        return float(gamma), _without_own_answer(task, gamma, alpha)
    probabilities = np.stack([_without_own_answer(task, gamma, alpha) for gamma in GAMMAS])
    losses = _log_loss(probabilities, task.core)
    if len(task.judged) <= MAX_PAIRS_OUT:
        pairs = np.stack([_without_pairs(task, gamma, alpha) for gamma in GAMMAS])
        losses_of_others = _log_loss(pairs, task.core[:, None])
    else:
        losses_of_others = np.repeat(losses[:, :, None], losses.shape[1], axis=2)
    diagonal = np.arange(len(task.judged))
    losses_of_others[:, diagonal, diagonal] = 0.0
    picked = _smallest(losses_of_others.sum(axis=1))
    return GAMMAS[int(_smallest(losses.sum(axis=1)))], probabilities[picked, diagonal]


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


def auc_with_interval(scores: FloatArray, core: BoolArray) -> tuple[float, float, float]:
    """Area under the ROC curve of scores against answers, ties (to round-off) counting half, and its 95 % interval.

    The interval is method 5 of Newcombe (2006): each bound lies 1.96 of its own Hanley-McNeil standard errors away.

    Examples
    --------
    >>> auc_with_interval(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))[0]
    0.875
    """
    rounded = scores.round(9)
    differences = np.subtract.outer(rounded[core], rounded[~core])
    auc = float(np.mean((differences > 0) + 0.5 * (differences == 0)))
    n_core, n_spurious = differences.shape
    return auc, _lower_bound(auc, n_core, n_spurious), 1.0 - _lower_bound(1.0 - auc, n_core, n_spurious)


def _lower_bound(auc: float, n_core: int, n_spurious: int) -> float:
    """The AUC that lies 1.96 of its own standard errors below the observed one."""
    middle = (n_core + n_spurious) / 2 - 1

    def gap(true: float) -> float:
        excess = middle * ((1 - true) / (2 - true) + true / (1 + true))
        return auc - true - 1.959964 * float(np.sqrt(true * (1 - true) * (1 + excess) / (n_core * n_spurious)))

    if auc == 0.0:
        return 0.0
    return float(brentq(gap, 0.0, min(auc, 1.0 - 1e-9)))
