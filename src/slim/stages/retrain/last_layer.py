"""Retraining of the linear head on frozen features, tuned without group labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from slim.errors import DataError, SettingsError
from slim.progress import track
from slim.stages.retrain.l1_path import l1_path
from slim.stages.settings import RetrainSettings

Floats = NDArray[np.floating]
Indices = NDArray[np.int64]

STRENGTHS = {"l1": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0), "l2": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)}
"""Inverse regularisation strengths that tuning tries for each penalty: scikit-learn's C, for standardised features."""

Penalty = Literal["l1", "l2"]

_CHUNK = 4_096


@dataclass(frozen=True, eq=False)
class Head:
    """A linear head for raw (not standardised) features.

    Attributes
    ----------
    weight
        (n_classes, d) weights.
    bias
        (n_classes,) biases.
    strength
        The C that was used.
    held_out_accuracy
        Smallest accuracy over the cells of held-out images, in [0, 1]; None if nothing was tuned.
    uses_val
        Recomposed images: whether val was used as it is, too.
    """

    weight: Floats
    bias: Floats
    strength: float
    held_out_accuracy: float | None
    uses_val: bool = False

    def predict(self, features: Floats) -> Indices:
        """(n,) predicted classes for features (n, d)."""
        return np.asarray((features @ self.weight.T + self.bias).argmax(1), np.int64)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Images that the head is tuned on, or fitted to as well.

    Attributes
    ----------
    features
        (m, d) penultimate features.
    y
        (m,) labels.
    cells
        (m,) what the worst accuracy is taken over: cells of the curated pool, or groups if these may be used.
    """

    features: Floats
    y: Indices
    cells: Indices


def fit_head(
    features: Floats,
    y: Indices,
    cells: Indices,
    held_out: HeldOut | None = None,
    settings: RetrainSettings | None = None,
    *,
    val: HeldOut | None = None,
    n_classes: int,
    seed: int = 0,
) -> Head:
    """Fit a penalised logistic regression to standardised features: to a subset as DFR does, or to it and val.

    Parameters
    ----------
    features
        (n, d) penultimate features of the subset.
    y
        (n,) labels.
    cells
        (n,) cells of the subset; resampling keeps their sizes.
    held_out
        Images to tune the strength on: the strength with the best worst-cell accuracy wins, and small cells count less.
        Not needed if the settings give the strength.
    settings
        See `RetrainSettings`.
    val
        More images to fit to, with the same numbering of cells. Every (class, cell) then has the same weight, the
        penalty is l2, and the strength is tuned on these images as well, by two-fold cross-validation.
    n_classes
        Number of logits.
    seed
        Random seed of resampling and of the folds.

    Returns
    -------
    Head
        A single fit with val, otherwise the average of the refits.

    Raises
    ------
    DataError
        The subset has no image of a class.
    SettingsError
        There are neither held-out images nor a strength.

    References
    ----------
    P. Kirichenko, P. Izmailov, A. G. Wilson, "Last layer re-training is sufficient for robustness to spurious
    correlations", ICLR 2023.

    Notes
    -----
    DFR tunes on group labels and refits on group-balanced draws, with an l1 penalty. Here the held-out images' curated
    cells stand in for groups, and each refit draws from the subset with replacement, cell by cell.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 20)
    >>> features = rng.normal(size=(40, 3)) + 4 * y[:, None]
    >>> head = fit_head(features, y, y, settings=RetrainSettings(strength=1.0), n_classes=2)
    >>> float((head.predict(features) == y).mean())
    1.0
    """
    settings = settings or RetrainSettings()
    missing = sorted(set(range(n_classes)) - set(y.tolist()))
    if missing:
        raise DataError(
            f"The subset must hold images of every class. Got none of class {missing[0]}. Make it larger (--size)."
        )
    rng = np.random.default_rng(seed)
    if val is not None:
        return _fit_with_val(features, y, cells, val, settings.strength, n_classes, rng)
    mean, std, scaled = _standardised(features)
    strength, accuracy = settings.strength, None
    if strength is None:
        if held_out is None:
            raise SettingsError("Tuning needs held-out images. Got neither these nor a strength. Pass one of them.")
        everything = np.concatenate([scaled, (held_out.features - mean) / std])
        labels = np.concatenate([y, held_out.y]), np.concatenate([cells, held_out.cells])
        fold = np.arange(len(y)), np.arange(len(y), len(everything))
        strength, accuracy = _tune(everything, *labels, np.ones(len(everything)), [fold], n_classes, "l1")
    fits = []
    for _ in track(range(settings.refits), "refitting the last layer"):
        draw = _resampled(cells, y, rng)
        fits += _fits(scaled[draw], y[draw], np.ones(len(draw)), [strength], n_classes, "l1")
    weight, bias = (np.mean(parts, axis=0) for parts in zip(*fits, strict=True))
    return _unscaled(weight, bias, mean, std, strength, accuracy)


def fit_weighted_head(features: Floats, y: Indices, weights: Floats, strength: float, *, n_classes: int) -> Head:
    """Fit an l2-penalised logistic regression to weighted images.

    Parameters
    ----------
    features, y, weights
        (n, d), (n,) and (n,). The features are standardised in place, since they can fill the memory.
    strength
        scikit-learn's C, for standardised features and weights of mean 1.
    n_classes
        Number of logits.

    Examples
    --------
    >>> features = np.array([[0.0], [1.0], [4.0], [5.0]])
    >>> head = fit_weighted_head(features.copy(), np.array([0, 0, 1, 1]), np.ones(4), 1.0, n_classes=2)
    >>> head.predict(features).tolist()
    [0, 0, 1, 1]
    """
    scaler = StandardScaler(copy=False)
    for start in range(0, len(features), _CHUNK):
        scaler.partial_fit(features[start : start + _CHUNK])
    scaled = scaler.transform(features)
    [(weight, bias)] = _fits(scaled, y, weights / weights.mean(), [strength], n_classes, "l2")
    return _unscaled(weight, bias, scaler.mean_, scaler.scale_, strength, None)


def _fit_with_val(
    features: Floats,
    y: Indices,
    cells: Indices,
    val: HeldOut,
    strength: float | None,
    n_classes: int,
    rng: np.random.Generator,
) -> Head:
    """A head fitted to a subset and val, with equal weight for every (class, cell)."""
    start = len(y)
    y, cells = np.concatenate([y, val.y]), np.concatenate([cells, val.cells])
    mean, std, scaled = _standardised(np.concatenate([features, val.features]))
    weights, accuracy = _equal_cells(y, cells), None
    if strength is None:
        folds = [(np.setdiff1d(np.arange(len(y)), half), half) for half in _halves(y, cells, start, rng)]
        strength, accuracy = _tune(scaled, y, cells, weights, folds, n_classes, "l2")
    [(weight, bias)] = _fits(scaled, y, weights, [strength], n_classes, "l2")
    return _unscaled(weight, bias, mean, std, strength, accuracy)


def _standardised(features: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean (d,), standard deviation (d,) and standardised features (n, d)."""
    mean, std = features.mean(0), features.std(0)
    std = np.where(std > 0, std, 1.0)
    return mean, std, (features - mean) / std


def _unscaled(weight: Floats, bias: Floats, mean: Floats, std: Floats, strength: float, accuracy: float | None) -> Head:
    """The head for raw features that equals a head for standardised ones."""
    weight = weight / std
    return Head(weight, bias - weight @ mean, strength, accuracy)


def _cell_numbers(y: Indices, cells: Indices) -> Indices:
    """(n,) number of each image's (class, cell) pair, counting only pairs that occur."""
    return np.asarray(np.unique(y * (int(cells.max()) + 1) + cells, return_inverse=True)[1], np.int64)


def _equal_cells(y: Indices, cells: Indices) -> Floats:
    """(n,) weights with mean 1 that give every (class, cell) the same total."""
    cell = _cell_numbers(y, cells)
    counts = np.bincount(cell)
    return np.asarray((len(cell) / len(counts) / counts)[cell])


def _halves(y: Indices, cells: Indices, start: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Two halves of the images from position `start` on, each with half of every (class, cell)."""
    order = start + rng.permutation(len(y) - start)
    order = order[np.argsort(_cell_numbers(y, cells)[order], kind="stable")]
    return order[::2], order[1::2]


def _tune(
    scaled: Floats,
    y: Indices,
    cells: Indices,
    weights: Floats,
    folds: Sequence[tuple[Indices, Indices]],
    n_classes: int,
    penalty: Penalty,
) -> tuple[float, float]:
    """The strength with the best worst-cell accuracy on held-out images, and that accuracy.

    A fold is a pair of positions: images to fit to, and held-out images. A cell's accuracy is shrunk towards 0.5 as if
    two more of its images had been seen, one of them classified correctly, so that a cell of one or two images does
    not decide. The mean over cells breaks ties.
    """
    held_out = np.concatenate([others for _, others in folds])
    cell = _cell_numbers(y[held_out], cells[held_out])
    n = np.bincount(cell)
    strengths = STRENGTHS[penalty]
    hits = [
        [
            (scaled[others] @ weight.T + bias).argmax(1) == y[others]
            for weight, bias in _fits(scaled[fitted], y[fitted], weights[fitted], strengths, n_classes, penalty)
        ]
        for fitted, others in folds
    ]
    best, best_accuracy = 0.0, (-1.0, -1.0)
    for strength, *of_folds in zip(strengths, *hits, strict=True):
        right = np.bincount(cell, np.concatenate(of_folds))
        accuracy = float(((right + 1) / (n + 2)).min()), float((right / n).mean())
        if accuracy > best_accuracy:
            best, best_accuracy, worst = strength, accuracy, float((right / n).min())
    return best, worst


def _fits(
    scaled: Floats, y: Indices, weights: Floats, strengths: Sequence[float], n_classes: int, penalty: Penalty
) -> list[tuple[Floats, Floats]]:
    """For each strength, weights (n_classes, d) and biases (n_classes,).

    With l2 all classes are fitted at once, with l1 each against the rest; two classes share one set of weights.
    """
    if penalty == "l1":
        targets = [y == k for k in range(n_classes)] if n_classes > 2 else [y == 1]
        each = [list(l1_path(scaled, target, weights, strengths)) for target in targets]
        fits = [
            (np.stack([weight for weight, _ in fit]), np.array([bias for _, bias in fit]))
            for fit in zip(*each, strict=True)
        ]
    else:
        fits = [_smooth(scaled, y, weights, strength) for strength in strengths]
    if n_classes > 2:
        return fits
    return [(np.concatenate([-rows, rows]) / 2, np.concatenate([-biases, biases]) / 2) for rows, biases in fits]


def _smooth(scaled: Floats, y: Indices, weights: Floats, strength: float) -> tuple[Floats, Floats]:
    """A multinomial fit with the l2 penalty."""
    solver = LogisticRegression(C=strength, tol=1e-3, max_iter=500)
    with warnings.catch_warnings():
        # A fit that has not converged is tuned and averaged like the others.
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver.fit(scaled, y, sample_weight=weights)
    return solver.coef_, solver.intercept_


def _resampled(cells: Indices, y: Indices, rng: np.random.Generator) -> Indices:
    """Positions drawn with replacement, as many from each (class, cell) as it has images."""
    cell = _cell_numbers(y, cells)
    return np.concatenate([rng.choice(np.flatnonzero(cell == k), count) for k, count in enumerate(np.bincount(cell))])
