"""Measures: ranges, equality with plain loops, and the mistakes of the released code that must not come back."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score, precision_score, recall_score

from slim.metrics import (
    accuracy_by_group,
    adjusted_iou,
    difference_interval,
    energy_inside,
    inside_fraction,
    intersection_over_union,
    paired_difference,
    pointing_game,
    wilson_interval,
)

SHAPE = (3, 2, 4)
LEVELS = st.sampled_from([0.0, 0.2, 0.5, 0.79, 0.8, 0.9, 1.0])
MAPS = arrays(np.float64, SHAPE, elements=LEVELS)
MASKS = arrays(np.bool_, SHAPE)
MEASURES = {
    "inside_fraction": inside_fraction,
    "energy_inside": energy_inside,
    "intersection_over_union": intersection_over_union,
    "pointing_game": pointing_game,
}
Measured = Callable[[np.ndarray, np.ndarray], np.ndarray]


def by_loops(name: str, attention: np.ndarray, mask: np.ndarray) -> float:
    """Each measure of one map, pixel by pixel."""
    pixels = [(float(a), bool(m)) for a, m in zip(attention.ravel(), mask.ravel(), strict=True)]
    top = max(a for a, _ in pixels)
    part, whole = {
        "inside_fraction": (sum(a for a, m in pixels if m and a >= 0.8), sum(a for a, _ in pixels if a >= 0.8)),
        "energy_inside": (sum(a for a, m in pixels if m), sum(a for a, _ in pixels)),
        "intersection_over_union": (sum(min(a, m) for a, m in pixels), sum(max(a, m) for a, m in pixels)),
        "pointing_game": (
            sum(m for a, m in pixels if a == top and top > 0),
            sum(1 for a, _ in pixels if a == top and top > 0),
        ),
    }[name]
    return part / whole if whole else math.nan


@pytest.mark.parametrize("name", MEASURES)
@settings(max_examples=40)
@given(maps=MAPS, masks=MASKS)
def test_attention_measures_equal_a_loop_over_pixels(name: str, maps: np.ndarray, masks: np.ndarray) -> None:
    expected = [by_loops(name, *pair) for pair in zip(maps, masks, strict=True)]
    np.testing.assert_allclose(MEASURES[name](maps, masks), expected, atol=1e-12)


@pytest.mark.parametrize("name", MEASURES)
@settings(max_examples=40)
@given(maps=MAPS, masks=MASKS)
def test_attention_measures_lie_in_the_unit_interval_or_are_undefined(
    name: str, maps: np.ndarray, masks: np.ndarray
) -> None:
    values = MEASURES[name](maps, masks)
    defined = ~np.isnan(values)
    assert ((values[defined] >= 0) & (values[defined] <= 1 + 1e-12)).all()
    flat = maps.max((1, 2)) == 0
    if name == "intersection_over_union":
        flat &= ~masks.any((1, 2))
    assert not defined[flat].any()


@pytest.mark.parametrize("name", MEASURES)
@settings(max_examples=40)
@given(maps=MAPS, masks=MASKS)
def test_all_attention_on_the_object_counts_one_and_all_beside_it_zero(
    name: str, maps: np.ndarray, masks: np.ndarray
) -> None:
    on = masks.astype(float)
    assume(masks.any((1, 2)).all())
    assert (MEASURES[name](on, masks) == 1).all()
    beside = np.where(masks, 0.0, maps)
    values = MEASURES[name](beside, masks)
    assert (values[~np.isnan(values)] == 0).all()


@pytest.mark.parametrize("name", MEASURES)
@settings(max_examples=40)
@given(masks=MASKS)
def test_a_map_of_ones_gets_the_share_of_the_object(name: str, masks: np.ndarray) -> None:
    values = MEASURES[name](np.ones(SHAPE), masks)
    np.testing.assert_allclose(values, masks.mean((1, 2)))


@pytest.mark.parametrize("name", MEASURES)
def test_thresholds_do_not_change_the_callers_map(name: str) -> None:
    """The released code zeroes everything below the threshold in the array that it is given."""
    maps = np.linspace(0, 1, 24).reshape(SHAPE)
    masks = np.indices(SHAPE).sum(0) % 2 == 0
    kept_maps, kept_masks = maps.copy(), masks.copy()
    maps.setflags(write=False)
    masks.setflags(write=False)
    MEASURES[name](maps, masks)
    np.testing.assert_array_equal(maps, kept_maps)
    np.testing.assert_array_equal(masks, kept_masks)


def test_adjusted_iou_does_not_change_its_input() -> None:
    ious = np.array([[0.6, 0.2], [0.1, 0.3]])
    ious.setflags(write=False)
    adjusted_iou(ious, np.array([0, 1]))
    assert ious.tolist() == [[0.6, 0.2], [0.1, 0.3]]


def test_inside_fraction_and_aiou_are_two_quantities_under_two_names() -> None:
    """The released code calls both AIoU. The same two maps, by hand: half of the strong attention is inside;
    the label's map has IoU 1 / 3 and the other class's 1 / 2."""
    mask = np.array([[[True, True, False, False]]])
    own = np.array([[[1.0, 0.0, 1.0, 0.0]]])
    other = np.array([[[1.0, 0.0, 0.0, 0.0]]])
    ious = np.stack([intersection_over_union(own, mask), intersection_over_union(other, mask)], axis=1)
    np.testing.assert_allclose(ious, [[1 / 3, 1 / 2]])
    np.testing.assert_allclose(inside_fraction(own, mask), [0.5])
    np.testing.assert_allclose(adjusted_iou(ious, np.array([0])), [(1 / 3) / (1 / 3 + 1 / 2)])


def test_the_inside_fraction_looks_only_at_strong_attention() -> None:
    mask = np.array([[[True, False, False]]])
    maps = np.array([[[0.8, 0.79, 0.9]]])
    np.testing.assert_allclose(inside_fraction(maps, mask), [0.8 / 1.7])
    np.testing.assert_allclose(inside_fraction(maps, mask, threshold=0.5), [0.8 / 2.49])
    assert np.isnan(inside_fraction(maps, mask, threshold=0.95)).all()


@given(arrays(np.float64, (5, 4), elements=st.floats(0, 1)), arrays(np.int64, 5, elements=st.integers(0, 3)))
def test_adjusted_iou_sets_the_label_against_the_best_other_class(ious: np.ndarray, y: np.ndarray) -> None:
    expected = []
    for row, label in zip(ious, y, strict=True):
        rival = max(value for k, value in enumerate(row) if k != label)
        expected.append(row[label] / (row[label] + rival) if row[label] + rival > 0 else math.nan)
    values = adjusted_iou(ious, y)
    np.testing.assert_allclose(values, expected)
    defined = values[~np.isnan(values)]
    assert ((defined >= 0) & (defined <= 1)).all()


@given(st.integers(0, 400), st.integers(1, 400))
def test_the_wilson_interval_contains_the_share_and_equals_scipys(correct: int, n: int) -> None:
    assume(correct <= n)
    low, high = wilson_interval(correct, n)
    assert 0 <= low <= correct / n + 1e-12
    assert correct / n - 1e-12 <= high <= 1
    expected = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_the_wilson_interval_of_nothing_is_everything() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


CORRECT = np.array([True] * 9 + [False] + [True, False] + [True, True, True, False])
GROUPS = np.array([0] * 10 + [1] * 2 + [2] * 4)
SHARES = np.array([0.6, 0.1, 0.2, 0.1])


def test_the_four_averages_are_four_numbers_computed_by_hand() -> None:
    """Accuracies 0.9, 0.5, 0.75. The released code takes the worst group into the mean once more."""
    result = accuracy_by_group(CORRECT, GROUPS, ["a", "b", "c"], np.array([0.7, 0.1, 0.2]))
    assert result.worst_group_accuracy == 0.5
    assert result.worst_group == "b"
    assert result.average_accuracy == pytest.approx(13 / 16)
    assert result.adjusted_average_accuracy == pytest.approx(0.7 * 0.9 + 0.1 * 0.5 + 0.2 * 0.75)
    assert result.group_mean_accuracy == pytest.approx((0.9 + 0.5 + 0.75) / 3)
    assert result.missing == ()
    assert result.table["n"].tolist() == [10, 2, 4]
    assert result.table["correct"].tolist() == [9, 1, 3]
    assert result.table["low"].iloc[0] == pytest.approx(wilson_interval(9, 10)[0])


def test_an_empty_group_is_reported_missing_and_never_counts_as_zero() -> None:
    result = accuracy_by_group(CORRECT, GROUPS, ["a", "b", "c", "d"], SHARES)
    assert result.missing == ("d",)
    assert result.worst_group == "b"
    assert result.group_mean_accuracy == pytest.approx((0.9 + 0.5 + 0.75) / 3)
    assert result.adjusted_average_accuracy == pytest.approx((0.6 * 0.9 + 0.1 * 0.5 + 0.2 * 0.75) / 0.9)
    row = result.table.iloc[3]
    assert (row["name"], row["n"], row["low"], row["high"]) == ("d", 0, 0.0, 1.0)
    assert np.isnan(row["accuracy"])


def test_without_training_shares_there_is_no_adjusted_average() -> None:
    result = accuracy_by_group(CORRECT, GROUPS, ["a", "b", "c"])
    assert result.adjusted_average_accuracy is None
    assert result.table["training_share"].isna().all()


@settings(max_examples=60)
@given(st.data(), st.integers(1, 5))
def test_group_accuracies_equal_a_loop_and_frame_the_averages(data: st.DataObject, n_groups: int) -> None:
    n = data.draw(st.integers(1, 30))
    correct = data.draw(arrays(np.bool_, n))
    groups = data.draw(arrays(np.int64, n, elements=st.integers(0, n_groups - 1)))
    shares = data.draw(arrays(np.float64, n_groups, elements=st.floats(0.01, 1)))
    names = [f"group {g}" for g in range(n_groups)]
    result = accuracy_by_group(correct, groups, names, shares)
    present = {g: float(correct[groups == g].mean()) for g in range(n_groups) if (groups == g).any()}
    assert result.missing == tuple(names[g] for g in range(n_groups) if g not in present)
    assert result.worst_group_accuracy == min(present.values())
    assert present[names.index(result.worst_group)] == min(present.values())
    assert result.average_accuracy == pytest.approx(correct.mean())
    assert result.group_mean_accuracy == pytest.approx(np.mean([*present.values()]))
    for average in (result.average_accuracy, result.adjusted_average_accuracy, result.group_mean_accuracy):
        assert average is not None
        assert min(present.values()) - 1e-9 <= average <= max(present.values()) + 1e-9
    for g, value in present.items():
        row = result.table.iloc[g]
        assert row["accuracy"] == value
        assert row["low"] - 1e-9 <= value <= row["high"] + 1e-9


@settings(max_examples=15)
@given(st.data(), st.integers(2, 4))
def test_accuracies_of_classes_equal_scikit_learns(data: st.DataObject, n_classes: int) -> None:
    labels = st.integers(0, n_classes - 1)
    y = np.append(np.arange(n_classes), data.draw(arrays(np.int64, 12, elements=labels)))
    predicted = data.draw(arrays(np.int64, len(y), elements=labels))
    result = accuracy_by_group(predicted == y, y, [str(k) for k in range(n_classes)])
    recalls = recall_score(y, predicted, labels=range(n_classes), average=None, zero_division=0)
    np.testing.assert_allclose(result.table["accuracy"], recalls)
    assert result.worst_group_accuracy == pytest.approx(recalls.min())
    assert result.group_mean_accuracy == pytest.approx(balanced_accuracy_score(y, predicted))
    assert result.average_accuracy == pytest.approx(accuracy_score(y, predicted))


@settings(max_examples=15)
@given(maps=MASKS, masks=MASKS)
def test_measures_of_maps_of_zeros_and_ones_equal_scikit_learns(maps: np.ndarray, masks: np.ndarray) -> None:
    assume(maps.any((1, 2)).all())
    pairs = [(mask.ravel(), one.ravel()) for mask, one in zip(masks, maps, strict=True)]
    precisions = [precision_score(*pair, zero_division=0) for pair in pairs]
    for name in ("inside_fraction", "energy_inside", "pointing_game"):
        np.testing.assert_allclose(MEASURES[name](maps.astype(float), masks), precisions)
    np.testing.assert_allclose(
        intersection_over_union(maps.astype(float), masks), [jaccard_score(*pair, zero_division=0) for pair in pairs]
    )


def covers(interval: Callable[[np.ndarray, np.ndarray], tuple[float, float]], shared: float) -> float:
    """How often the interval of a difference of 0.2 holds it, where so large a share of two samples' luck is shared."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(500):
        luck = rng.random((2, 60))
        luck[1] = np.where(rng.random(60) < shared, luck[0], luck[1])
        low, high = interval(luck[0] < 0.7, luck[1] < 0.5)
        held += low <= 0.2 <= high
    return held / 500


def test_intervals_of_differences_hold_the_truth_about_as_often_as_they_say() -> None:
    def unpaired(*flags: np.ndarray) -> tuple[float, float]:
        return difference_interval(*[(int(some.sum()), len(some)) for some in flags])

    assert 0.92 < covers(unpaired, shared=0.0) < 0.98
    for shared in (0.0, 0.8):
        assert 0.91 < covers(lambda first, second: paired_difference(first, second)[1:], shared) < 0.98


@given(*[st.integers(0, 30)] * 4)
def test_differences_the_other_way_round_change_their_sign(a: int, b: int, c: int, d: int) -> None:
    first, second = (a, a + b), (c, c + d)
    low, high = difference_interval(first, second)
    assert (-high, -low) == pytest.approx(difference_interval(second, first))
    assert -1 <= low <= high <= 1
    flags = np.repeat([True, True, False, False], [a, b, c, d]), np.repeat([True, False, True, False], [a, b, c, d])
    assume(a + b + c + d)
    difference, low, high = paired_difference(*flags)
    assert (-difference, -high, -low) == pytest.approx(paired_difference(*flags[::-1]))
    assert difference == pytest.approx((b - c) / (a + b + c + d))
    assert -1 <= low <= high <= 1


def test_difference_of_samples_without_an_image_can_be_anything() -> None:
    assert difference_interval((0, 0), (3, 4)) == difference_interval((3, 4), (0, 0)) == (-1, 1)


# Rows by columns 2 x 3: a mix-up of the two axes gives other numbers, or none.
WIDE_MAP = np.array([[[1.0, 0.9, 0.1], [0.8, 0.0, 0.2]]])
WIDE_MASK = np.array([[[True, False, False], [True, True, False]]])
BY_HAND = {
    "inside_fraction": 1.8 / 2.7,
    "energy_inside": 1.8 / 3.0,
    "intersection_over_union": 1.8 / (1.0 + 0.9 + 0.1 + 1.0 + 1.0 + 0.2),
    "pointing_game": 1.0,
}


@pytest.mark.parametrize("name", MEASURES)
def test_measures_of_a_map_wider_than_high_are_those_by_hand(name: str) -> None:
    assert MEASURES[name](WIDE_MAP, WIDE_MASK) == pytest.approx([BY_HAND[name]])
    turned = WIDE_MAP.transpose(0, 2, 1), WIDE_MASK.transpose(0, 2, 1)
    assert MEASURES[name](*turned) == pytest.approx([BY_HAND[name]])


@pytest.mark.parametrize("name", MEASURES)
def test_map_and_mask_of_exchanged_axes_do_not_fit(name: str) -> None:
    with pytest.raises(ValueError, match="broadcast"):
        MEASURES[name](WIDE_MAP, WIDE_MASK.transpose(0, 2, 1))


@pytest.mark.parametrize("name", MEASURES)
def test_each_image_is_measured_by_itself(name: str) -> None:
    maps, masks = np.concatenate([WIDE_MAP, 1 - WIDE_MAP]), np.concatenate([WIDE_MASK, ~WIDE_MASK])
    together = MEASURES[name](maps, masks)
    alone = [MEASURES[name](maps[i : i + 1], masks[i : i + 1])[0] for i in range(2)]
    assert together.tolist() == alone
