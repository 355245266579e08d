"""One logistic regression of the judgements of all classes, and its predictions without some of them.

The ways in which a model looks at the object, or beside it, are largely shared between its classes. So one regression
serves all classes, and every judgement informs the scores of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slim.arrays import Flags, Floats, Ints
from slim.stages.propagate.auc_interval import comparisons

STRENGTH = 1.0
"""Inverse of the ridge penalty, for points whose mean squared length is 1."""

MAX_PAIRS = 2000
"""Pairs per class up to which each is left out; above, one judgement more or less hardly matters."""

_STEPS = 12
_STEPS_WITHOUT = 4


@dataclass(frozen=True, eq=False)
class Regression:
    """A logistic regression in which the core judgements weigh as much in total as the spurious ones.

    Attributes
    ----------
    inputs
        (m, d + 1) judged points, with a last column of ones.
    core
        (m,) whether each was judged core.
    weight
        (d + 1,) coefficients of the log odds of core; the last is the intercept.
    """

    inputs: Floats
    core: Flags
    weight: Floats

    @classmethod
    def fit(cls, points: Floats, core: Flags) -> Regression:
        """Fit to judged points (m, d), whose mean squared length is about 1, and whether each was judged core (m,).

        Both judgements must occur.

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
        """Compare each core image of a class with each spurious one, by a regression without their judgements.

        Parameters
        ----------
        among
            (m,) which of the judged images belong to the class; both judgements must occur among them.

        Returns
        -------
        ndarray of shape (n_core, n_spurious)
            1 where the core image has the higher probability of core, 0.5 at ties and where no other judgement of
            either kind is left, else 0. Their mean is the AUC.

        Notes
        -----
        For each pair, the regression is refitted without both judgements. Above 2,000 pairs, it is refitted for each
        image without its own judgement only.

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
        return comparisons(difference)

    def _without(self, left_out: Ints) -> Floats:
        """(r, d + 1) weights of r regressions, each without j judgements (r, j); 0 where it has none of a kind."""
        used = np.ones((len(left_out), len(self.core)))
        np.put_along_axis(used, left_out, 0.0, 1)
        weights = _balanced(self.core, used)
        start = np.repeat(self.weight[None], len(left_out), 0)
        known = np.logical_and(used[:, self.core].any(1), used[:, ~self.core].any(1))
        return np.asarray(known[:, None] * _newton(self.inputs, self.core, weights, start, _STEPS_WITHOUT))


def _balanced(core: Flags, used: Floats) -> Floats:
    """(r, m) weights of the judgements in use (r, m), 1 or 0: core ones sum to as much as spurious ones."""
    of_core, of_spurious = used * core, used * ~core
    half = used.sum(1, keepdims=True) / 2
    each = half / np.maximum(of_core.sum(1, keepdims=True), 1), half / np.maximum(of_spurious.sum(1, keepdims=True), 1)
    return np.asarray(of_core * each[0] + of_spurious * each[1])


def _newton(inputs: Floats, core: Flags, weights: Floats, start: Floats, steps: int) -> Floats:
    """(r, d + 1) minimisers of r penalised log losses, which differ in the weights (r, m) of the judgements."""
    minimisers, size = start, inputs.shape[1]
    penalty = np.append(np.full(size - 1, 1 / STRENGTH), 1e-6)
    products = (inputs[:, :, None] * inputs[:, None, :]).reshape(len(inputs), -1)
    for _ in range(steps):
        chance = _sigmoid(minimisers @ inputs.T)
        gradient = (weights * (chance - core)) @ inputs + minimisers * penalty
        curvature = ((weights * chance * (1 - chance)) @ products).reshape(-1, size, size) + np.diag(penalty)
        minimisers = minimisers - np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
    return minimisers


def _sigmoid(odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -500, 500))))
