"""Attention scores by one logistic regression of the answers, over all classes, and how it does without some of them.

A model tends to look at the object, or beside it, in ways that its classes share. So one regression serves them all: it
learns from every answer what the object looks like where the model looks at it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

STRENGTH = 1.0
"""Inverse of the ridge penalty, for points of mean square length 1."""

MAX_PAIRS = 2000
"""Pairs of a class up to which each is left out; above, one answer more or less hardly counts."""

_STEPS = 12
_STEPS_WITHOUT = 4


@dataclass(frozen=True, eq=False)
class Regression:
    """A logistic regression in which answers core and spurious weigh the same together.

    Attributes
    ----------
    inputs
        (m, d + 1) judged points and a last column of ones.
    core
        (m,) whether each was answered core.
    weight
        (d + 1,) of the log odds of core.
    """

    inputs: Floats
    core: Flags
    weight: Floats

    @classmethod
    def fit(cls, points: Floats, core: Flags) -> Regression:
        """From judged points (m, d), of mean square length about 1, and (m,) whether each was answered core.

        Both answers must occur.

        Examples
        --------
        >>> points = np.array([[-1.0], [-0.5], [0.5], [1.0]])
        >>> fitted = Regression.fit(points, points[:, 0] > 0)
        >>> fitted.probabilities(np.array([[-2.0], [0.0], [2.0]])).round(2)
        array([0.13, 0.5 , 0.87])
        """
        inputs = np.concatenate([np.asarray(points, np.float64), np.ones((len(points), 1))], 1)
        weights = _balanced(core, np.ones((1, len(core))))
        weight = _newton(inputs, core, weights, np.zeros((1, inputs.shape[1])), _STEPS)[0]
        return cls(inputs, core, weight)

    def probabilities(self, points: Floats) -> Floats:
        """(n,) probability of core at points (n, d)."""
        return _sigmoid(np.asarray(points, np.float64) @ self.weight[:-1] + self.weight[-1])

    def left_out_comparisons(self, among: Flags) -> Floats:
        """Compare each core image with each spurious one among some of the judged, without their answers.

        Parameters
        ----------
        among
            (m,) the judged images of one class; both answers must occur.

        Returns
        -------
        ndarray of shape (n_core, n_spurious)
            1 where the core image has the higher probability, 0.5 at ties and where no answer of a kind is left, else
            0. Their mean is the AUC.

        Notes
        -----
        Each pair loses both answers, and the regression is fitted again. Above 2,000 pairs each image loses its own
        answer only.

        Examples
        --------
        >>> points = np.array([[-1.0], [-0.5], [0.5], [1.0]])
        >>> Regression.fit(points, points[:, 0] > 0).left_out_comparisons(np.ones(4, bool))
        array([[1., 1.],
               [1., 1.]])
        """
        core, spurious = np.flatnonzero(among & self.core), np.flatnonzero(among & ~self.core)
        if len(core) * len(spurious) > MAX_PAIRS:
            both = np.concatenate([core, spurious])
            own = (self.inputs[both] * self._without(both[:, None])).sum(1)
            difference = own[: len(core), None] - own[None, len(core) :]
        else:
            pairs = np.stack(np.meshgrid(core, spurious, indexing="ij"), -1).reshape(-1, 2)
            apart = self.inputs[pairs[:, 0]] - self.inputs[pairs[:, 1]]
            difference = (apart * self._without(pairs)).sum(1).reshape(len(core), len(spurious))
        difference = difference.round(9)
        return np.asarray((difference > 0) + 0.5 * (difference == 0))

    def _without(self, left_out: NDArray[np.int64]) -> Floats:
        """(r, d + 1) weights without the answers (r, j), of which each row is left out; 0 where a kind is gone."""
        used = np.ones((len(left_out), len(self.core)))
        np.put_along_axis(used, left_out, 0.0, 1)
        weights = _balanced(self.core, used)
        start = np.repeat(self.weight[None], len(left_out), 0)
        known = np.logical_and(used[:, self.core].any(1), used[:, ~self.core].any(1))
        return np.asarray(known[:, None] * _newton(self.inputs, self.core, weights, start, _STEPS_WITHOUT))


def _balanced(core: Flags, used: Floats) -> Floats:
    """(r, m) weights of the answers that are used, (r, m) of 0 and 1: core and spurious sum to the same."""
    of_core, of_spurious = used * core, used * ~core
    half = used.sum(1, keepdims=True) / 2
    each = half / np.maximum(of_core.sum(1, keepdims=True), 1), half / np.maximum(of_spurious.sum(1, keepdims=True), 1)
    return np.asarray(of_core * each[0] + of_spurious * each[1])


def _newton(inputs: Floats, core: Flags, weights: Floats, start: Floats, steps: int) -> Floats:
    """(r, d + 1) minimisers of r penalised log losses that differ in how they weigh the answers (r, m)."""
    found, size = start, inputs.shape[1]
    penalty = np.append(np.full(size - 1, 1 / STRENGTH), 1e-6)
    products = (inputs[:, :, None] * inputs[:, None, :]).reshape(len(inputs), -1)
    for _ in range(steps):
        chance = _sigmoid(found @ inputs.T)
        gradient = (weights * (chance - core)) @ inputs + found * penalty
        curvature = ((weights * chance * (1 - chance)) @ products).reshape(-1, size, size) + np.diag(penalty)
        found = found - np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
    return found


def _sigmoid(odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -500, 500))))
