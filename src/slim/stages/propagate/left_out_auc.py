"""Whether label spreading ranks judged images correctly without having seen their judgements.

Each pair of a core and a spurious image in turn loses both judgements, and one step of label spreading and the
smoothing predict both images from the rest: leave-pair-out. Leaving out one image at a time would be biased: the
remaining judgements then hold one more of the other kind, which lowers the probability of every left-out core image and
raises that of every spurious one. Where gamma is picked, it is picked again without each pair.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slim.arrays import Flags, Floats, Ints
from slim.stages.propagate.auc_interval import comparisons
from slim.stages.propagate.gauss import squared_distances
from slim.stages.propagate.label_spreading import (
    JudgedPoints,
    core_share,
    log_degrees,
    log_pulls_on,
    log_pulls_on_judged,
    rows_per_chunk,
)

GAMMAS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
LOSS_CLIP = 0.01  # when picking gamma, a left-out probability counts as no surer than this
MAX_PAIRS_OUT = 60  # judged images up to which pairs are left out; above, one judgement hardly shifts the balance
MAX_POINTS = 4096  # unjudged points up to which pairs are left out exactly; above, near points are merged


def left_out_comparisons(task: JudgedPoints, gamma: float | None) -> tuple[float, Floats]:
    """Pick gamma where it is None, and compare each core image with each spurious one without their judgements.

    Parameters
    ----------
    task
        The points and the judgements, of both kinds.
    gamma
        Of the kernel. When None, the one of `GAMMAS` with the smallest log loss of the judged images' probabilities
        without their own judgement, clipped to [0.01, 0.99]. Ties go to the smaller gamma.

    Returns
    -------
    gamma, comparisons
        The gamma to use, and (n_core, n_spurious): 1 where the core image has the higher probability of core, 0.5 at
        ties, else 0. Their mean is the AUC.

    Notes
    -----
    Without a pair, gamma is picked by the losses of the other images, each without its own judgement and that of one
    of the two. Above 4,096 unjudged images, those nearer to one another than a quarter of the kernel's width are
    merged. Above 60 judged images, each loses only its own judgement.

    References
    ----------
    A. Airola et al., "An experimental comparison of cross-validation techniques for estimating the area under the ROC
    curve", Computational Statistics and Data Analysis 55, 2011.

    Examples
    --------
    >>> points = np.array([[0.0, 0.0], [0.1, 0.0], [2.0, 0.0], [2.1, 0.0]])
    >>> task = JudgedPoints(points, np.arange(4), np.array([True, True, False, False]))
    >>> left_out_comparisons(task, None)
    (2.0, array([[1., 1.],
           [1., 1.]]))
    """
    gammas = GAMMAS if gamma is None else (float(gamma),)
    alone = np.stack([_without_own_answer(task, gamma) for gamma in gammas])
    losses = _log_loss(alone, task.core)
    best = gammas[int(_smallest(losses.sum(axis=1)))]
    core, spurious = np.flatnonzero(task.core)[:, None], np.flatnonzero(~task.core)[None, :]
    if len(task.judged) > MAX_PAIRS_OUT:
        own = alone[_smallest(losses.sum(axis=1, keepdims=True) - losses), np.arange(len(task.judged))].round(9)
        return best, comparisons(own[core] - own[spurious])
    pairs = np.stack([_without_pairs(task, gamma) for gamma in gammas])
    losses = _log_loss(pairs, task.core[:, None]) * ~np.eye(len(task.judged), dtype=bool)
    without_one = losses.sum(axis=1)
    of_the_pair = losses + losses.transpose(0, 2, 1)
    picked = _smallest(without_one[:, :, None] + without_one[:, None, :] - of_the_pair)[core, spurious]
    pairs = pairs.round(9)
    return best, comparisons(pairs[picked, core, spurious] - pairs[picked, spurious, core])


def _log_loss(probabilities: Floats, core: Flags) -> Floats:
    """Log loss of each probability of core."""
    clipped = np.clip(probabilities, LOSS_CLIP, 1 - LOSS_CLIP)
    return np.asarray(-np.log(np.where(core, clipped, 1 - clipped)))


def _smallest(losses: Floats) -> Ints:
    """First index along the first axis within round-off of the smallest."""
    return np.asarray(np.argmax(losses <= losses.min(axis=0) + 1e-9, axis=0))


def _without_own_answer(task: JudgedPoints, gamma: float) -> Floats:
    """(m,) probability of core at each judged image without its own judgement, in O(n m)."""
    others = np.delete(task.points, task.judged, axis=0)
    sums = np.zeros((2, len(task.judged)))
    for near, pulls in _kernel_and_pulls(task, others, np.ones(len(others)), gamma):
        sums += (near * _share_without_each(pulls, task.core)).sum(axis=0), near.sum(axis=0)
    return np.asarray(sums[0] / sums[1])


def _without_pairs(task: JudgedPoints, gamma: float) -> Floats:
    """(m, m) probability of core at judged image l without its own judgement and that of image k."""
    others = _merged(np.delete(task.points, task.judged, axis=0), gamma)
    sums, totals = np.zeros((len(task.judged), len(task.judged))), np.zeros(len(task.judged))
    for near, pulls in _kernel_and_pulls(task, *others, gamma):
        totals += near.sum(axis=0)
        for image, weights in enumerate(near.T):
            rows = weights > 1e-12
            without_own = pulls[rows]
            without_own[:, image] = -np.inf
            sums[image] += weights[rows] @ _share_without_each(without_own, task.core)
    return np.asarray(sums / totals[:, None])


def _kernel_and_pulls(
    task: JudgedPoints, others: Floats, counts: Floats, gamma: float
) -> Iterator[tuple[Floats, Floats]]:
    """First for the judged points, then chunk by chunk for the others: (r, m) kernels times counts, and log pulls."""
    degrees, judged = log_degrees(task, gamma), task.points[task.judged]
    yield np.exp(-gamma * squared_distances(judged, judged)), log_pulls_on_judged(task, gamma, degrees)
    for start in range(0, len(others), rows_per_chunk(task)):
        rows = slice(start, start + rows_per_chunk(task))
        kernel = np.exp(-gamma * squared_distances(others[rows], judged))
        yield kernel * counts[rows, None], log_pulls_on(task, gamma, degrees, others[rows])


def _merged(points: Floats, gamma: float) -> tuple[Floats, Floats]:
    """Where they are many, the means of points by square cells, a quarter of the kernel's width wide; and counts."""
    if len(points) <= MAX_POINTS:
        return points, np.ones(len(points))
    cells = np.floor((points - points.min(axis=0)) * (4.0 * np.sqrt(2.0 * gamma))).astype(np.int64)
    keys = cells[:, 0] * (cells[:, 1].max() + 1) + cells[:, 1]
    _, cell, counts = np.unique(keys, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(cell, along) for along in points.T], axis=1)
    return sums / counts[:, None], counts.astype(np.float64)


def _share_without_each(log_pulls: Floats, core: Flags) -> Floats:
    """(r, m) share of core in the pulls on each of r points without judged image k; 0.5 where none is left.

    Subtracting the strongest pull from the sum could leave nothing but round-off, so without it the sum is made anew.
    """
    strongest = np.arange(len(log_pulls)), log_pulls.argmax(axis=1)
    pulls = np.exp(log_pulls - log_pulls[strongest][:, None])
    rest = pulls.sum(axis=1, keepdims=True) - pulls
    rest[strongest] = 1.0
    shares = ((pulls @ core.astype(np.float64))[:, None] - pulls * core) / rest
    weaker = log_pulls.copy()
    weaker[strongest] = -np.inf
    shares[strongest] = core_share(weaker, core)
    return np.asarray(shares)
