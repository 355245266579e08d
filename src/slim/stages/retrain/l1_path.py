"""Logistic regression with an l1 penalty, for a whole path of strengths."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import lasso_path

Floats = NDArray[np.floating]

_TOLERANCE = 0.03
"""The largest violation of a fit's optimality conditions; the penalty's own gradient is 1."""

_LEAST_GAIN = 1e-6
"""Of the objective, relative to it: with a smaller one, a fit ends."""

_ROUNDS, _STEPS = 50, 6  # of working sets, and of Newton's method within one
_INNER = {"tol": 1e-3, "max_iter": 50, "precompute": False, "check_input": False}


def l1_path(
    features: Floats, target: NDArray[np.bool_], weights: Floats, strengths: Sequence[float]
) -> Iterator[tuple[Floats, float]]:
    """Fit to all images once for each strength, each fit starting from the one before.

    Minimises ``|w|_1 + |b| + strength * sum_i weight_i log(1 + exp(-sign_i (w x_i + b)))`` as liblinear does, which
    penalises the bias too. Newton's method is applied to the features of a working set, which grows by those that
    violate the optimality conditions most; a step is a weighted lasso.

    Parameters
    ----------
    features
        (n, d), standardised.
    target
        (n,) whether the label is the second of the two.
    weights
        (n,) of the images, positive.
    strengths
        scikit-learn's C. Ascending ones are fastest.

    Yields
    ------
    tuple of ndarray and float
        (d,) weights and the bias of each fit.

    References
    ----------
    G.-X. Yuan, C.-H. Ho, C.-J. Lin, "An improved GLMNET for l1-regularized logistic regression", JMLR 2012.

    Examples
    --------
    >>> features = np.array([[-1.0, 0.1], [-1.0, -0.1], [1.0, -0.1], [1.0, 0.1]])
    >>> fits = l1_path(features, np.array([False, False, True, True]), np.ones(4), [0.1, 10.0])
    >>> [weight.round(1).tolist() for weight, _ in fits]
    [[0.0, 0.0], [3.6, 0.0]]
    """
    # Float32 and rows of features: passes over all of them take most of the time, and memory sets their pace.
    signed = np.empty((features.shape[1] + 1, len(features)), np.float32)
    signed[:-1], signed[-1] = features.T, 1.0
    signed *= np.where(target, 1, -1)
    w, margins = np.zeros(len(signed), np.float32), np.zeros(len(features), np.float32)
    slope = -(signed @ weights.astype(np.float32)) / 2  # of the loss at zero, for a strength of 1
    for strength in strengths:
        each = (strength * weights).astype(np.float32)
        for _ in range(_ROUNDS):
            violation = _violation(w, strength * slope)
            if violation.max() <= _TOLERANCE:
                break
            chosen = _working_set(w, violation)
            part = w[chosen]
            gained = _newton(signed[chosen], each, part, margins, max(0.5 * _TOLERANCE, 0.1 * float(violation.max())))
            w[chosen] = part
            slope = signed @ (-weights * expit(-margins)).astype(np.float32)
            if not gained:
                break
        yield w[:-1].astype(np.float64), float(w[-1])


def _violation(w: Floats, slope: Floats) -> Floats:
    """By how much each weight violates the optimality conditions, given the loss's slope."""
    return np.where(w != 0, np.abs(slope + np.sign(w)), np.maximum(np.abs(slope) - 1, 0))


def _working_set(w: Floats, violation: Floats) -> NDArray[np.int64]:
    """The features in use, and about as many of those that should be."""
    used = int((w != 0).sum())
    missing = int((violation[w == 0] > 0).sum())
    return np.argsort(np.where(w != 0, -np.inf, -violation), kind="stable")[: used + min(used + 16, missing)]


def _newton(signed: Floats, each: Floats, w: Floats, margins: Floats, tolerance: float) -> bool:
    """Improve the weights of some features, and the margins of all images, in place; whether there was a gain."""
    objective = start = _objective(w, each, margins)
    for _ in range(_STEPS):
        wrong = expit(-margins)
        slope, curvature = -each * wrong, np.maximum(each * wrong * (1 - wrong), 1e-12)
        gradient = signed @ slope
        if _violation(w, gradient).max() <= tolerance:
            break
        root = np.sqrt(curvature)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the next step goes on from there
            _, path, _ = lasso_path(
                (signed * root).T,
                root * margins - slope / root,
                alphas=[1 / len(margins)],
                coef_init=w.copy(),
                **_INNER,
            )
        step = path[:, 0] - w
        across = step @ signed
        length, reached = 1.0, _objective(w + step, each, margins + across)
        while reached > objective and length > 1e-3:
            length /= 2
            reached = _objective(w + length * step, each, margins + length * across)
        if reached > objective * (1 - _LEAST_GAIN):
            break
        w += length * step
        margins += length * across
        objective = reached
    return objective < start


def _objective(w: Floats, each: Floats, margins: Floats) -> float:
    return float(np.abs(w).sum() + each @ np.logaddexp(0, -margins))
