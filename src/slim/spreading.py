"""Label spreading of one class over a plane, without a matrix of all pairs.

The probabilities are those of scikit-learn's ``LabelSpreading(kernel="rbf")`` and its ``predict_proba`` on its own
points, the number of steps included. The first step, from the m judged points to all others, is exact, in O(n m): it is
computed with logarithms, so that a point at any distance goes with the judged points nearest to it, where scikit-learn
runs out of floating point. Degrees, further steps and smoothing use `slim.gauss.gauss_sums`. At the default alpha, with
up to some hundred answers, the first step is all there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from slim.gauss import FloatArray, IntArray, gauss_sums, squared_distances

TOLERANCE, MAX_STEPS = 1e-3, 30  # when scikit-learn's LabelSpreading stops
ALONE = 1e-10  # sum of the kernel to all other points below which a point has no neighbours
NEIGHBOURS = 64  # the points that one which no answer reaches takes its value from
CHUNK_ENTRIES = 1 << 15  # of a (points, judged) matrix at once: they fit the processor's cache

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class JudgedPoints:
    """A class's (n, 2) z-scored points, the (m,) judged ones among them, and whether (m,) each was answered core."""

    points: FloatArray
    judged: IntArray
    core: BoolArray


def core_probabilities(task: JudgedPoints, gamma: float, alpha: float) -> FloatArray:
    """Spread the answers, then take the kernel-weighted mean over all points, each itself included.

    Parameters
    ----------
    task
        The points and the answers, of both kinds.
    gamma
        The kernel is ``exp(-gamma * squared distance)``.
    alpha
        How much a point takes from its neighbours, between 0 and 1.

    Returns
    -------
    numpy.ndarray
        (n,) probability of core.

    Examples
    --------
    >>> line = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    >>> judged = JudgedPoints(line, np.array([0, 2]), np.array([True, False]))
    >>> core_probabilities(judged, gamma=2.0, alpha=1e-6).round(2)
    array([0.94, 0.5 , 0.06])
    """
    core = _label_distribution(task, gamma, alpha)
    sums = gauss_sums(task.points, np.stack([core, np.ones_like(core)], axis=1), gamma)
    return np.asarray(np.clip(sums[:, 0] / sums[:, 1], 0.0, 1.0))


def log_degrees(task: JudgedPoints, gamma: float) -> FloatArray:
    """(m,) logarithm of each judged point's degree, the sum of the kernel to all other points."""
    degrees = np.empty(len(task.judged))
    for column, point in enumerate(task.judged):
        exponents = -gamma * squared_distances(task.points, task.points[[point]])[:, 0]
        exponents[point] = -np.inf
        top = exponents.max()
        degrees[column] = top + np.log(np.exp(exponents - top).sum())
    return degrees


def log_own_pulls(log_judged: FloatArray, alpha: float) -> FloatArray:
    """(m,) what a judged point pulls on itself: its own answer counts 1 - alpha, all others together alpha."""
    return np.asarray(np.log1p(-alpha) - np.log(alpha) + 0.5 * log_judged)


def log_pulls(
    task: JudgedPoints, log_judged: FloatArray, own: FloatArray | float, gamma: float
) -> Iterator[tuple[slice, FloatArray]]:
    """Chunk by chunk, (chunk, m) log of kernel / sqrt(degree), each judged point's pull on each; `own` on itself."""
    owns = np.broadcast_to(own, len(task.judged))
    size = max(1, CHUNK_ENTRIES // len(task.judged))
    for start in range(0, len(task.points), size):
        rows = slice(start, start + size)
        pulls = -gamma * squared_distances(task.points[rows], task.points[task.judged]) - 0.5 * log_judged
        columns = np.flatnonzero((task.judged >= rows.start) & (task.judged < rows.stop))
        pulls[task.judged[columns] - start, columns] = owns[columns]
        yield rows, pulls


def _label_distribution(task: JudgedPoints, gamma: float, alpha: float) -> FloatArray:
    """(n,) probability of core that label spreading gives each point, before the smoothing.

    In terms of v = F / sqrt(degree) a step of label spreading is v <- alpha P v + (1 - alpha) v0, where P averages over
    the neighbours. The rows of F are normalised at the end, so v does as well as F and degrees drop out.
    """
    log_judged = log_degrees(task, gamma)
    log_sums = _log_first_step(task, log_judged, gamma)
    graph = _graph(task, log_judged, gamma)
    kind = np.where(task.core, 0, 1)
    start = np.zeros_like(log_sums)
    start[task.judged, kind] = _exp(-0.5 * log_judged)
    hop = np.where(graph.alone[:, None], 0.0, _exp(log_sums - graph.log_degrees[:, None]))
    if alpha * graph.change(start, hop) < TOLERANCE:
        own = log_own_pulls(log_judged, alpha)
        log_sums[task.judged, kind] = np.logaddexp(log_sums[task.judged, kind], own)
        return np.asarray(np.exp(log_sums[:, 0] - np.logaddexp.reduce(log_sums, axis=1)))
    return _filled(task.points, _further_steps(graph, start, hop, alpha), gamma)


def _log_first_step(task: JudgedPoints, log_judged: FloatArray, gamma: float) -> FloatArray:
    """(n, 2) log of the summed pulls of core and of spurious images on each point, none on itself."""
    sums = np.empty((len(task.points), 2))
    for rows, pulls in log_pulls(task, log_judged, -np.inf, gamma):
        for kind, of_kind in enumerate((task.core, ~task.core)):
            sums[rows, kind] = np.logaddexp.reduce(pulls[:, of_kind], axis=1)
    return sums


def _exp(exponents: FloatArray) -> FloatArray:
    """The exponential, held back before it overflows."""
    return np.asarray(np.exp(np.minimum(exponents, 600.0)))


@dataclass(frozen=True, eq=False)
class _Graph:
    """(n,) log degrees, and which points are alone: too far from others to have neighbours."""

    points: FloatArray
    gamma: float
    log_degrees: FloatArray
    alone: BoolArray

    def average(self, values: FloatArray) -> FloatArray:
        """(n, c) mean of the (n, c) values over each point's neighbours, weighted by the kernel, itself excluded."""
        sums = np.maximum(gauss_sums(self.points, values, self.gamma, own=False), 0.0)
        return np.where(self.alone[:, None], 0.0, sums * _exp(-self.log_degrees)[:, None])

    def change(self, before: FloatArray, after: FloatArray) -> float:
        """Summed change of F = sqrt(degree) v, by which scikit-learn decides to stop."""
        return float((_exp(0.5 * self.log_degrees)[:, None] * np.abs(after - before)).sum())


def _graph(task: JudgedPoints, log_judged: FloatArray, gamma: float) -> _Graph:
    """The degree of every point, exact where one is judged."""
    degrees = gauss_sums(task.points, np.ones((len(task.points), 1)), gamma, own=False)[:, 0]
    logs = np.log(np.maximum(degrees, ALONE))
    logs[task.judged] = log_judged
    return _Graph(task.points, gamma, logs, degrees <= ALONE)


def _further_steps(graph: _Graph, start: FloatArray, hop: FloatArray, alpha: float) -> FloatArray:
    """(n, 2) v after as many steps as scikit-learn takes: alpha^t P^t v0 + (1 - alpha) sum of alpha^i P^i v0, i < t."""
    total, before, now, power = (1 - alpha) * start, start, hop, alpha
    for _ in range(MAX_STEPS - 1):
        if power * graph.change(before, now) < TOLERANCE:
            break
        total = total + (1 - alpha) * power * now
        before, now = now, graph.average(now)
        power *= alpha
    return np.asarray(total + power * now)


def _filled(points: FloatArray, values: FloatArray, gamma: float) -> FloatArray:
    """(n,) share of core in (n, 2) values; points without a value take it from the nearest points that have one."""
    reached = values.sum(axis=1) > 0
    donors = np.flatnonzero(reached)
    distances, nearest = cKDTree(points[donors]).query(points[~reached], k=range(1, min(NEIGHBOURS, len(donors)) + 1))
    near = np.exp(-gamma * (distances**2 - distances[:, :1] ** 2))
    values = values.copy()
    values[~reached] = np.einsum("nk,nkc->nc", near, values[donors][nearest])
    return np.asarray(values[:, 0] / values.sum(axis=1))
