"""Simple properties of whole images, such as brightness, that are associated with a label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata

from slim.arrays import Flags, Floats, Ints
from slim.data import ImageTable
from slim.data.archives import file_size
from slim.data.pixels import squared
from slim.metrics import wilson_interval
from slim.progress import track
from slim.stages.explain.effects import Effect

_SIDE = 128
_BORDER, _CORNER = 8, 16  # pixels of `_SIDE`
_OUTLYING = 3.5  # robust standard deviations from the median
_LEAST_OUTLIERS, _MOST_OUTLIERS = 10, 0.15
_LEAST_AUC, _LEAST_SHARE = 0.1, 0.15

CORNERS, BORDER = "brightness of the corners", "brightness of the border"
"""Properties of a part of the image."""

Kind = Literal["level", "low", "high"]


@dataclass(frozen=True)
class Property:
    """A property that is associated with a class in the train images.

    Attributes
    ----------
    name
        For instance ``"brightness of the corners"``.
    class_name
        The class.
    kind
        "level": its images have higher or lower values. "low" or "high": most images with unusually low or high
        values are of this class, or unusually few.
    n
        Images that this is measured on: all for "level", else those with unusual values.
    effect
        In [0, 1]. For "level", the AUC: how often an image of the class has a higher value than one of another. Else
        the share of the class among the images with unusual values.
    low, high
        Its interval, at 95 % for all properties and classes together.
    expected
        What the effect would be without a relation: 0.5, or the share of the class among all images.
    n_usual, accuracy_usual
        Held-out images whose value fits their class as in train, and the model's accuracy on them.
    n_unusual, accuracy_unusual
        Held-out images whose value points to another class.
    limit
        The value from which it is unusual; the median for "level".
    needs, misleads
        For unusual corners and borders: the effect of swapping them on images of the class, and of other classes; see
        `Effect`. None where this was not measured.
    """

    name: str
    class_name: str
    kind: Kind
    n: int
    effect: float
    low: float
    high: float
    expected: float
    n_usual: int
    accuracy_usual: float | None
    n_unusual: int
    accuracy_unusual: float | None
    limit: float
    needs: Effect | None = None
    misleads: Effect | None = None

    @property
    def direction(self) -> int:
        """1 where high values are what goes with the class, or what is unusual; -1 where low ones are."""
        return -1 if self.kind == "low" or (self.kind == "level" and self.effect < self.expected) else 1


def _luminance(pixels: Floats) -> Floats:
    return np.asarray(pixels @ np.array([0.299, 0.587, 0.114]))


def _sharpness(pixels: Floats) -> float:
    grey = _luminance(pixels)
    edges = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(np.log(edges.var() + 1e-3))


def _corners(pixels: Floats) -> float:
    """The median of four, so that one dark object in a corner does not count."""
    grey, edges = _luminance(pixels), (slice(_CORNER), slice(-_CORNER, None))
    return float(np.median([grey[rows, columns].mean() for rows in edges for columns in edges]))


def _border(pixels: Floats) -> float:
    grey, inner = _luminance(pixels), np.s_[_BORDER:-_BORDER]
    return float((grey.sum() - grey[inner, inner].sum()) / (grey.size - grey[inner, inner].size))


_PIXELS: dict[str, Callable[[Floats], float]] = {
    "brightness": lambda pixels: float(_luminance(pixels).mean()),
    "contrast": lambda pixels: float(_luminance(pixels).std()),
    "sharpness": _sharpness,
    "saturation": lambda pixels: float(np.ptp(pixels, axis=2).mean()),
    "warmth": lambda pixels: float((pixels[..., 0] - pixels[..., 2]).mean()),
    "greenness": lambda pixels: float((pixels[..., 1] - pixels[..., ::2].mean(2)).mean()),
    CORNERS: _corners,
    BORDER: _border,
}
_FILES: dict[str, Callable[[tuple[int, int], int], float]] = {
    "size": lambda size, _: float(np.sqrt(size[0] * size[1])),
    "aspect": lambda size, _: size[0] / size[1],
    "bytes per pixel": lambda size, bytes_: bytes_ / (size[0] * size[1]),
}


def measure_properties(table: ImageTable) -> pd.DataFrame:
    """The properties of images, one row per image.

    Returns
    -------
    DataFrame
        ``brightness``, ``contrast`` (standard deviation of the luminance), ``saturation`` (largest minus smallest
        channel), ``warmth`` (red minus blue), ``greenness`` (green minus the mean of the others), ``brightness of the
        corners`` (their median) and ``brightness of the border``, in 0..255 or differences of such; ``sharpness`` (log
        variance of the Laplacian); ``size`` (square root of the pixels of the file), ``aspect`` (width over height)
        and ``bytes per pixel``.
    """
    rows = []
    for i in track(range(len(table)), f"measuring the properties of {len(table)} {table.split} images"):
        image = table.image(i)
        pixels = squared(image, _SIDE).astype(np.float32)
        values = {name: measure(pixels) for name, measure in _PIXELS.items()}
        stored = file_size(table.paths[i])
        rows.append(values | {name: measure(image.size, stored) for name, measure in _FILES.items()})
    return pd.DataFrame(rows)


def related_properties(
    train: pd.DataFrame, y: Ints, held_out: pd.DataFrame, held_out_y: Ints, right: Flags, class_names: tuple[str, ...]
) -> tuple[Property, ...]:
    """The properties that go with a class: shown beyond chance, and not small.

    Parameters
    ----------
    train, y
        Properties and labels of train images.
    held_out, held_out_y, right
        Of images that the model was not trained on, and whether it is right about each.
    class_names
        Of each label.

    Returns
    -------
    tuple of Property
        The strongest first; of two classes, the second one's.

    Notes
    -----
    Intervals are Bonferroni's over properties, kinds and classes. Unusual values lie 3.5 robust standard deviations
    from the median (Iglewicz and Hoaglin, 1993). A relation is small below 10 points of AUC, or 15 points of a share.

    Examples
    --------
    >>> y = np.arange(200) % 2
    >>> train = pd.DataFrame({"brightness": 100.0 + 50 * y + np.arange(200) % 7, "size": np.arange(200) // 2})
    >>> [one.name for one in related_properties(train, y, train, y, y == y, ("cat", "dog"))]
    ['brightness']
    """
    labels = range(len(class_names)) if len(class_names) > 2 else [1]
    z = float(norm.isf(0.025 / (3 * len(labels) * len(train.columns))))
    related = []
    for name in train:
        for label in labels:
            for relation in _relations(train[name].to_numpy(), y == label, z):
                errors = _errors(relation, held_out[name].to_numpy(), held_out_y == label, right)
                bounds = (relation.n, relation.effect, relation.low, relation.high, relation.expected)
                related.append(Property(str(name), class_names[label], relation.kind, *bounds, *errors, relation.limit))
    return tuple(sorted(related, key=lambda one: -abs(one.effect - one.expected)))


@dataclass(frozen=True)
class _Relation:
    """What ties a property to a class, and the value from which it does."""

    kind: Kind
    n: int
    effect: float
    low: float
    high: float
    expected: float
    limit: float

    def holds(self, least: float) -> bool:
        """Whether it is shown, and not small."""
        shown = self.low > self.expected or self.high < self.expected
        return shown and abs(self.effect - self.expected) >= least


def _relations(values: Floats, own: Flags, z: float) -> list[_Relation]:
    """The relations between a property and a class that are shown and not small."""
    if not 0 < own.sum() < len(own) or np.ptp(values) == 0:
        return []
    levels = [level] if (level := _level(values, own, z)).holds(_LEAST_AUC) else []
    return levels + [tail for tail in _tails(values, own, z) if tail.holds(_LEAST_SHARE)]


def _level(values: Floats, own: Flags, z: float) -> _Relation:
    """Whether the images of a class have higher or lower values: the AUC, with Hanley and McNeil's error (1982)."""
    m, n = int(own.sum()), int((~own).sum())
    auc = float((rankdata(values)[own].sum() - m * (m + 1) / 2) / (m * n))
    q, r = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    error = np.sqrt((auc * (1 - auc) + (m - 1) * (q - auc * auc) + (n - 1) * (r - auc * auc)) / (m * n))
    low, high = max(0.0, auc - z * float(error)), min(1.0, auc + z * float(error))
    return _Relation("level", len(own), auc, low, high, 0.5, float(np.median(values)))


def _tails(values: Floats, own: Flags, z: float) -> list[_Relation]:
    """The share of a class among the images with unusually low, and unusually high values."""
    centre = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - centre)))
    kinds: tuple[tuple[Kind, int], ...] = (("low", -1), ("high", 1))
    tails = []
    for kind, sign in kinds:
        limit = centre + sign * _OUTLYING * spread
        n = int((unusual := sign * (values - limit) > 0).sum())
        if spread > 0 and _LEAST_OUTLIERS <= n <= _MOST_OUTLIERS * len(values):
            hits = int(own[unusual].sum())
            tails.append(_Relation(kind, n, hits / n, *wilson_interval(hits, n, z), float(own.mean()), limit))
    return tails


def _errors(
    relation: _Relation, values: Floats, own: Flags, right: Flags
) -> tuple[int, float | None, int, float | None]:
    """Number and accuracy of the images whose value goes with their class, and of those where it speaks against it."""
    beyond = values < relation.limit if relation.kind == "low" else values > relation.limit
    speaks_for_class = beyond == (relation.effect > relation.expected)
    counted = beyond if relation.kind != "level" else np.ones(len(values), bool)
    parts = (counted & (speaks_for_class == own), counted & (speaks_for_class != own))
    (n, accuracy), (m, other) = ((int(part.sum()), float(right[part].mean()) if part.any() else None) for part in parts)
    return n, accuracy, m, other
