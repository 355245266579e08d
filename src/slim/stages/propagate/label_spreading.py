"""Label spreading within one class, on the plane, in memory linear in the number of images.

The probabilities are those that scikit-learn's ``LabelSpreading(kernel="rbf")`` predicts for its own points. It
iterates ``F <- alpha S F + (1 - alpha) Y`` until F changes by less than 1e-3. At the published alpha of 1e-6 and with
up to some hundred judgements, that is after the first step, which is all we compute. It costs O(n m) with m judged
images. Working with logarithms, a point at any distance goes with the judged points nearest to it, where scikit-learn
runs out of floating point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slim.arrays import Flags, Floats, Ints
from slim.stages.propagate.gauss import gauss_sums, squared_distances

ALPHA = 1e-6  # the paper's: how much a point takes from its neighbours, rather than from its own judgement

CHUNK_ENTRIES = 1 << 15  # of a (points, judged) matrix: few enough for the processor's cache


@dataclass(frozen=True, eq=False)
class JudgedPoints:
    """A class's z-scored points (n, 2), the indices (m,) of the judged ones, and whether each was judged core (m,)."""

    points: Floats
    judged: Ints
    core: Flags


def core_probabilities(task: JudgedPoints, gamma: float) -> Floats:
    """Spread the judgements by one step, then smooth with the kernel over all points.

    Parameters
    ----------
    task
        The points and the judgements, of both kinds.
    gamma
        The kernel is ``exp(-gamma * squared distance)``.

    Returns
    -------
    numpy.ndarray
        (n,) probability of core.

    Examples
    --------
    >>> line = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    >>> judged = JudgedPoints(line, np.array([0, 2]), np.array([True, False]))
    >>> core_probabilities(judged, gamma=2.0).round(2)
    array([0.94, 0.5 , 0.06])
    """
    degrees = log_degrees(task, gamma)
    core = np.empty(len(task.points))
    for start in range(0, len(core), rows_per_chunk(task)):
        rows = slice(start, start + rows_per_chunk(task))
        core[rows] = core_share(log_pulls_on(task, gamma, degrees, task.points[rows]), task.core)
    core[task.judged] = core_share(log_pulls_on_judged(task, gamma, degrees), task.core)
    sums = gauss_sums(task.points, np.stack([core, np.ones_like(core)], axis=1), gamma)
    return np.asarray(np.clip(sums[:, 0] / sums[:, 1], 0.0, 1.0))


def rows_per_chunk(task: JudgedPoints) -> int:
    """How many points to handle at once, each with all judged points."""
    return max(1, CHUNK_ENTRIES // len(task.judged))


def log_degrees(task: JudgedPoints, gamma: float) -> Floats:
    """(m,) logarithm of each judged point's degree, the sum of the kernel over all other points."""
    degrees = np.empty(len(task.judged))
    for column, point in enumerate(task.judged):
        exponents = -gamma * squared_distances(task.points, task.points[[point]])[:, 0]
        exponents[point] = -np.inf
        top = exponents.max()
        degrees[column] = top + np.log(np.exp(exponents - top).sum())
    return degrees


def log_pulls_on(task: JudgedPoints, gamma: float, degrees: Floats, points: Floats) -> Floats:
    """(r, m) logarithm of how strongly each judged point pulls on points (r, 2): kernel / sqrt(degree).

    In one step, point i receives ``alpha k_ij / sqrt(d_i d_j)`` from a judged point j, and a judged point keeps
    ``1 - alpha`` of its own label. Only the share of core in these counts, so ``alpha / sqrt(d_i)`` drops out.
    """
    return np.asarray(-gamma * squared_distances(points, task.points[task.judged]) - 0.5 * degrees)


def log_pulls_on_judged(task: JudgedPoints, gamma: float, degrees: Floats) -> Floats:
    """(m, m) logarithm of how strongly each judged point pulls on the judged ones, itself included."""
    pulls = log_pulls_on(task, gamma, degrees, task.points[task.judged])
    np.fill_diagonal(pulls, np.log1p(-ALPHA) - np.log(ALPHA) + 0.5 * degrees)
    return pulls


def core_share(log_pulls: Floats, core: Flags) -> Floats:
    """(r,) share of core in the pulls (r, m) on each point; 0.5 where there are none (all minus infinity)."""
    top = log_pulls.max(axis=1, keepdims=True, initial=np.finfo(float).min)
    pulls = np.exp(log_pulls - top)
    total = pulls.sum(axis=1)
    return np.where(total > 0, pulls @ core.astype(np.float64) / np.maximum(total, 1.0), 0.5)
