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

from slim.errors import DataError, SettingsError
from slim.progress import track

Floats = NDArray[np.floating]
Indices = NDArray[np.int64]

STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Inverse regularisation strengths that are tried: scikit-learn's C, for standardised features."""


@dataclass(frozen=True)
class RetrainSettings:
    """How the model is retrained on the subset.

    Parameters
    ----------
    mode
        "last-layer" refits the linear head on the reference's frozen features; "full" trains the network again.
    strength
        Last layer: scikit-learn's C, the inverse strength of the l1 penalty; tuned on held-out images by default.
    refits
        Last layer: fits to resampled subsets whose weights are averaged.
    use_val
        Last layer: whether the val images are fitted to as well, by their class labels, every cell counting the same.
        The reference was not trained on them, so that their features tell more than as many of the pool's.
    tune_on
        Last layer: val's (where it is used) or held-out images of the pool, over their "cells", or the val split over
        its "groups"; the latter uses group labels, and the report says so. Val then only tunes.
    start
        Full: from the "weights" that the reference began with, or from the trained "reference".
    epochs
        Full: how often the subset is seen.
    lr
        Full: highest learning rate; the reference's by default.
    """

    mode: Literal["last-layer", "full"] = "last-layer"
    strength: float | None = None
    refits: int = 10
    use_val: bool = True
    tune_on: Literal["cells", "groups"] = "cells"
    start: Literal["weights", "reference"] = "weights"
    epochs: int = 20
    lr: float | None = None

    def __post_init__(self) -> None:
        if self.strength is not None and self.strength <= 0:
            raise SettingsError(f"The strength must be positive. Got {self.strength}. Leave it out to have it tuned.")
        for name in ("refits", "epochs"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1. Got {getattr(self, name)}. Leave it out.")
        if self.lr is not None and self.lr <= 0:
            raise SettingsError(f"lr must be above 0. Got {self.lr}. Leave it out to take the reference's.")


@dataclass(frozen=True, eq=False)
class Head:
    """A linear head for features that are not standardised.

    Attributes
    ----------
    weight
        (n_classes, d).
    bias
        (n_classes,).
    strength
        The C that was used.
    held_out_accuracy
        Smallest accuracy over the held-out images' cells, in [0, 1]; None where nothing was tuned.
    """

    weight: Floats
    bias: Floats
    strength: float
    held_out_accuracy: float | None

    def predict(self, features: Floats) -> Indices:
        """The class (n,) of features (n, d)."""
        return np.asarray((features @ self.weight.T + self.bias).argmax(1), np.int64)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Images that the head is tuned on.

    Attributes
    ----------
    features
        (m, d).
    y
        (m,) labels.
    cells
        (m,) what the worst accuracy is taken over: cells of the curated pool, or groups where these may be used.
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
    """Fit an l1-penalised logistic regression to standardised features, as in DFR.

    Parameters
    ----------
    features
        (n, d) penultimate features of the subset.
    y
        (n,) labels.
    cells
        (n,) the subset's cells; resampling keeps their sizes.
    held_out
        Images to tune the strength on: the one of the best worst-cell accuracy wins, small cells counting less.
        Not needed where the settings give the strength.
    settings
        See `RetrainSettings`.
    val
        More images to fit to, of the same numbering of cells. Every (class, cell) then counts the same, and these
        images tune the strength too, each half of them on the other.
    n_classes
        Number of logits.
    seed
        Of resampling, and of halves.

    Returns
    -------
    Head
        Average of the refits.

    Raises
    ------
    DataError
        A class has no image in the subset.

    References
    ----------
    P. Kirichenko, P. Izmailov, A. G. Wilson, "Last layer re-training is sufficient for robustness to spurious
    correlations", ICLR 2023.

    Notes
    -----
    DFR tunes on group labels and refits on group-balanced draws. Here the held-out images' curated cells stand in
    for groups, and each refit draws from the subset with replacement, cell by cell.

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
        raise DataError(f"The subset needs images of every class. Got none of class {missing[0]}. Make it larger.")
    rng = np.random.default_rng(seed)
    weights: Floats = np.ones(len(y))
    of_subset = len(y)
    if val is not None:
        features, y = np.concatenate([features, val.features]), np.concatenate([y, val.y])
        cells = np.concatenate([cells, val.cells])
        weights = _equal_cells(y, cells)
    mean, std = features.mean(0), features.std(0)
    std = np.where(std > 0, std, 1.0)
    scaled = (features - mean) / std
    strength, accuracy = settings.strength, None
    if strength is None and val is not None:
        folds = [(np.setdiff1d(np.arange(len(y)), half), half) for half in _halves(y, cells, of_subset, rng)]
        strength, accuracy = _tune(scaled, y, cells, weights, folds, n_classes)
    elif strength is None:
        if held_out is None:
            raise SettingsError("Tuning needs held-out images. Got neither them nor a strength. Give one of them.")
        others = (held_out.features - mean) / std
        everything = np.concatenate([scaled, others]), np.concatenate([y, held_out.y])
        fold = np.arange(len(y)), np.arange(len(y), len(y) + len(others))
        of = np.concatenate([cells, held_out.cells])
        strength, accuracy = _tune(*everything, of, np.ones(len(of)), [fold], n_classes)
    fits = [
        _fit(scaled[draw], y[draw], weights[draw], strength, n_classes)
        for draw in (_resampled(cells, y, rng) for _ in track(range(settings.refits), "refitting the last layer"))
    ]
    weight = np.mean([weight for weight, _ in fits], axis=0) / std
    bias = np.mean([bias for _, bias in fits], axis=0) - weight @ mean
    return Head(weight, bias, strength, accuracy)


def _cell_numbers(y: Indices, cells: Indices) -> Indices:
    """Numbers (n,) of the (class, cell) pairs that occur."""
    return np.asarray(np.unique(y * (int(cells.max()) + 1) + cells, return_inverse=True)[1], np.int64)


def _equal_cells(y: Indices, cells: Indices) -> Floats:
    """Weights (n,) of mean 1 by which every (class, cell) counts the same."""
    of = _cell_numbers(y, cells)
    counts = np.bincount(of)
    return np.asarray((len(of) / len(counts) / counts)[of])


def _halves(y: Indices, cells: Indices, start: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Two halves of the images from a position on, each with half of every (class, cell)."""
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
) -> tuple[float, float]:
    """The strength of the best worst-cell accuracy where it was not fitted, and that accuracy.

    A fold is the images that are fitted to and those that are judged. A cell's accuracy is drawn towards 0.5 as if two
    more images of it were seen, one of them right: a cell of one or two images, right or wrong at every strength,
    decides nothing. The mean over cells decides between equals.
    """
    judged = np.concatenate([others for _, others in folds])
    of = _cell_numbers(y[judged], cells[judged])
    n = np.bincount(of)
    best, best_accuracy = STRENGTHS[0], (-1.0, -1.0)
    for strength in STRENGTHS:
        hits = []
        for fitted, others in folds:
            weight, bias = _fit(scaled[fitted], y[fitted], weights[fitted], strength, n_classes)
            hits.append((scaled[others] @ weight.T + bias).argmax(1) == y[others])
        right = np.bincount(of, np.concatenate(hits))
        accuracy = float(((right + 1) / (n + 2)).min()), float((right / n).mean())
        if accuracy > best_accuracy:
            best, best_accuracy, worst = strength, accuracy, float((right / n).min())
    return best, worst


def _fit(scaled: Floats, y: Indices, weights: Floats, strength: float, n_classes: int) -> tuple[Floats, Floats]:
    """One weight row and bias a class, one class against the rest."""
    if n_classes == 2:
        row, bias = _binary(scaled, y == 1, weights, strength)
        return np.stack([-row, row]) / 2, np.array([-bias, bias]) / 2
    rows = [_binary(scaled, y == k, weights, strength) for k in range(n_classes)]
    return np.stack([row for row, _ in rows]), np.array([bias for _, bias in rows])


def _binary(scaled: Floats, positive: NDArray[np.bool_], weights: Floats, strength: float) -> tuple[Floats, float]:
    solver = LogisticRegression(l1_ratio=1.0, C=strength, solver="liblinear", tol=1e-3, max_iter=500, random_state=0)
    with warnings.catch_warnings():
        # A fit that stops early is averaged with others and judged on held-out images like them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver.fit(scaled, positive, sample_weight=weights)
    return solver.coef_[0], float(solver.intercept_[0])


def _resampled(cells: Indices, y: Indices, rng: np.random.Generator) -> Indices:
    """Positions drawn with replacement, as many from each (class, cell) as it has."""
    of = _cell_numbers(y, cells)
    return np.concatenate([rng.choice(np.flatnonzero(of == k), count) for k, count in enumerate(np.bincount(of))])
