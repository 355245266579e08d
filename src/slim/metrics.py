"""Measures: accuracies over groups, and how much of the attention lies on the object. Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.floating]

STRONG = 0.8
"""Attention at or above this is strong; the inside fraction counts strong attention only."""


def wilson_interval(correct: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    Parameters
    ----------
    correct, n
        Successes among trials.
    z
        Standard normal quantile; 95 % by default.

    Returns
    -------
    tuple of float
        Lower and upper bound, in [0, 1]; (0, 1) without any trials.

    References
    ----------
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.

    Examples
    --------
    >>> low, high = wilson_interval(9, 10)
    >>> round(low, 3), round(high, 3)
    (0.596, 0.982)
    """
    if n == 0:
        return 0.0, 1.0
    share = correct / n
    centre = share + z * z / (2 * n)
    spread = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, float((centre - spread) / scale)), min(1.0, float((centre + spread) / scale))


def difference_interval(first: tuple[int, int], second: tuple[int, int], z: float = 1.959964) -> tuple[float, float]:
    """Newcombe's interval of the difference of two proportions that were measured on different images.

    Parameters
    ----------
    first, second
        Successes and trials.
    z
        Standard normal quantile; 95 % by default.

    Returns
    -------
    tuple of float
        Lower and upper bound of first minus second, in [-1, 1]; (-1, 1) where either has no trial.

    References
    ----------
    R. G. Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine
    1998, method 10.

    Examples
    --------
    >>> low, high = difference_interval((56, 70), (48, 80))
    >>> round(low, 4), round(high, 4)
    (0.0524, 0.3339)
    """
    if not (first[1] and second[1]):
        return -1.0, 1.0
    (p, q), bounds = (first[0] / first[1], second[0] / second[1]), [wilson_interval(*one, z) for one in (first, second)]
    below = np.hypot(p - bounds[0][0], bounds[1][1] - q)
    above = np.hypot(bounds[0][1] - p, q - bounds[1][0])
    return max(-1.0, float(p - q - below)), min(1.0, float(p - q + above))


def paired_difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_], z: float = 1.959964
) -> tuple[float, float, float]:
    """Difference of two proportions that were measured on the same images, and its interval.

    Parameters
    ----------
    first, second
        (n,) whether each image is a success, once and again.
    z
        Standard normal quantile; 95 % by default.

    Returns
    -------
    tuple of float
        The difference first minus second, and its lower and upper bound, in [-1, 1].

    References
    ----------
    A. Agresti, Y. Min, "Simple improved confidence intervals for comparing matched proportions", Statistics in
    Medicine 2005: half a pair is added to each of the four counts, so that no interval is empty.

    Examples
    --------
    >>> first = np.array([True] * 9 + [False])
    >>> difference, low, high = paired_difference(first, ~first)
    >>> round(difference, 3), round(low, 3), round(high, 3)
    (0.8, 0.278, 1.0)
    """
    n, gained, lost = len(first), int((first & ~second).sum()), int((second & ~first).sum())
    share = (gained - lost) / (n + 2)
    spread = z * np.sqrt(((gained + lost + 1) / (n + 2) - share * share) / (n + 2))
    return (gained - lost) / n, max(-1.0, float(share - spread)), min(1.0, float(share + spread))


@dataclass(frozen=True, eq=False)
class GroupAccuracy:
    """Accuracy of each group, and four averages that are easily confused.

    Attributes
    ----------
    table
        One row per group: ``name, n, correct, accuracy, low, high, training_share``. ``low`` and ``high`` are
        Wilson's 95 % interval. Groups without an image have accuracy NaN.
    worst_group
        Name of the group with the smallest accuracy.
    worst_group_accuracy
        Its accuracy.
    average_accuracy
        Over images.
    adjusted_average_accuracy
        Group accuracies weighted by the groups' shares of the training images; None if these are unknown.
    group_mean_accuracy
        Unweighted mean over groups.
    missing
        Names of the groups without an image, which cannot be the worst group.
    """

    table: pd.DataFrame
    worst_group: str
    worst_group_accuracy: float
    average_accuracy: float
    adjusted_average_accuracy: float | None
    group_mean_accuracy: float
    missing: tuple[str, ...]


def accuracy_by_group(
    correct: NDArray[np.bool_],
    groups: NDArray[np.int64],
    group_names: Sequence[str],
    training_shares: Floats | None = None,
) -> GroupAccuracy:
    """Accuracies over groups.

    Parameters
    ----------
    correct
        (n,) whether each image is classified correctly.
    groups
        (n,) indices into `group_names`.
    group_names
        Name of every group, including groups without an image.
    training_shares
        (n_groups,) share of each group among the training images.

    Examples
    --------
    >>> result = accuracy_by_group(np.array([True, True, False, True]), np.array([0, 0, 1, 1]), ["a", "b", "c"])
    >>> result.worst_group, result.worst_group_accuracy, result.average_accuracy, result.missing
    ('b', 0.5, 0.75, ('c',))
    """
    n_groups = len(group_names)
    n = np.bincount(groups, minlength=n_groups)
    right = np.bincount(groups, weights=correct, minlength=n_groups).astype(np.int64)
    accuracy = np.full(n_groups, np.nan)
    np.divide(right, n, out=accuracy, where=n > 0)
    intervals = [wilson_interval(int(c), int(m)) for c, m in zip(right, n, strict=True)]
    shares = np.full(n_groups, np.nan) if training_shares is None else np.asarray(training_shares, float)
    table = pd.DataFrame(
        {
            "name": list(group_names),
            "n": n,
            "correct": right,
            "accuracy": accuracy,
            "low": [low for low, _ in intervals],
            "high": [high for _, high in intervals],
            "training_share": shares,
        }
    )
    worst = int(np.nanargmin(accuracy))
    present = n > 0
    adjusted = None
    if training_shares is not None and shares[present].sum() > 0:
        adjusted = float(np.average(accuracy[present], weights=shares[present]))
    return GroupAccuracy(
        table=table,
        worst_group=group_names[worst],
        worst_group_accuracy=float(accuracy[worst]),
        average_accuracy=float(np.mean(correct)),
        adjusted_average_accuracy=adjusted,
        group_mean_accuracy=float(np.nanmean(accuracy)),
        missing=tuple(name for name, m in zip(group_names, n, strict=True) if m == 0),
    )


def _ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole, NaN where the whole is zero."""
    result = np.full(part.shape, np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def inside_fraction(maps: Floats, masks: NDArray[np.bool_], threshold: float = STRONG) -> Floats:
    """Share of the strong attention that lies inside the mask.

    ``sum(map * mask where map >= threshold) / sum(map where map >= threshold)``

    Parameters
    ----------
    maps
        (n, h, w) attention maps in [0, 1].
    masks
        (n, h, w) True on the object.
    threshold
        Attention at or above this value is strong.

    Returns
    -------
    ndarray of shape (n,)
        In [0, 1]; 1 = all strong attention is on the object. NaN for a map without strong attention.

    Notes
    -----
    SLIM's released code calls this AIoU in one place. A uniform map gets the mask's share of the image.

    Examples
    --------
    >>> maps = np.array([[[1.0, 0.9], [0.2, 0.0]]])
    >>> masks = np.array([[[True, False], [True, False]]])
    >>> inside_fraction(maps, masks).round(3)
    array([0.526])
    """
    strong = np.where(maps >= threshold, maps, 0.0)
    return _ratio((strong * masks).sum((1, 2)), strong.sum((1, 2)))


def energy_inside(maps: Floats, masks: NDArray[np.bool_]) -> Floats:
    """Share of all attention that lies inside the mask: the energy-based pointing game, EBPG.

    Parameters and returned values as for `inside_fraction`, without a threshold.

    References
    ----------
    H. Wang et al., "Score-CAM", CVPR workshops 2020.

    Examples
    --------
    >>> energy_inside(np.array([[[1.0, 0.5], [0.5, 0.0]]]), np.array([[[True, False], [True, False]]]))
    array([0.75])
    """
    return _ratio((maps * masks).sum((1, 2)), maps.sum((1, 2)))


def intersection_over_union(maps: Any, masks: Any) -> Any:
    """Soft intersection over union: ``sum min(map, mask) / sum max(map, mask)``.

    Parameters
    ----------
    maps, masks
        (n, h, w) as for `inside_fraction`: arrays, or tensors on one device.

    Returns
    -------
    ndarray or Tensor of shape (n,)
        In [0, 1]; 1 = the map is the mask. NaN where both are empty.

    Examples
    --------
    >>> intersection_over_union(np.array([[[1.0, 0.5]]]), np.array([[[True, False]]])).round(3)
    array([0.667])
    """
    inside = (maps * masks).sum((1, 2))
    with np.errstate(invalid="ignore"):
        return inside / (maps.sum((1, 2)) + masks.sum((1, 2)) - inside)


def adjusted_iou(iou_of_classes: Floats, y: NDArray[np.int64]) -> Floats:
    """AIoU: the label's IoU relative to the best IoU of another class, ``iou_y / (iou_y + max over k != y of iou_k)``.

    Parameters
    ----------
    iou_of_classes
        (n, n_classes) IoU of each class's map with the mask.
    y
        (n,) labels.

    Returns
    -------
    ndarray of shape (n,)
        In [0, 1]; 1 = only the label's map is on the object, 0.5 = no better than another class's. NaN if both are
        zero.

    Examples
    --------
    >>> adjusted_iou(np.array([[0.6, 0.2], [0.3, 0.3]]), np.array([0, 1]))
    array([0.75, 0.5 ])
    """
    rows = np.arange(len(y))
    own = iou_of_classes[rows, y]
    others = iou_of_classes.copy()
    others[rows, y] = -np.inf
    return _ratio(own, own + others.max(1))


def pointing_game(maps: Floats, masks: NDArray[np.bool_]) -> Floats:
    """Whether the strongest attention lies inside the mask; ties count by their share.

    Returns
    -------
    ndarray of shape (n,)
        In [0, 1]; NaN for a map that is zero everywhere.

    References
    ----------
    J. Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016.

    Examples
    --------
    >>> pointing_game(np.array([[[1.0, 0.5]], [[1.0, 1.0]]]), np.array([[[True, False]], [[True, False]]]))
    array([1. , 0.5])
    """
    top = maps.max((1, 2), keepdims=True)
    peaks = (maps == top) & (top > 0)
    return _ratio((peaks & masks).sum((1, 2)).astype(float), peaks.sum((1, 2)).astype(float))
