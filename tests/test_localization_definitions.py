"""Localizers and object maps against their definitions, written out by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from tests.test_localization import GRID, NOWHERE, scenes

from slim.arrays import Flags, Floats
from slim.localization import (
    Localizer,
    PlaceAnswers,
    _fitting_cut,
    answered_localizer,
    supposed_localizer,
    unanswered_localizer,
)
from slim.matting import CUT, relative_scores

Fit = tuple[Floats, Floats, Localizer]


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Fit]:
    """What localizers were fitted to, and they themselves."""
    made: list[Fit] = []
    real = Localizer.fit

    def fit(places: Any, inside: Floats, outside: Floats) -> Localizer | None:
        localizer = real(places, inside, outside)
        if localizer is not None:
            made.append((inside, outside, localizer))
        return localizer

    monkeypatch.setattr(Localizer, "fit", staticmethod(fit))
    return made


def _random_places(n: int, side: int, width: int) -> np.ndarray:
    return np.random.default_rng(n).integers(-127, 128, (n, side, side, width)).astype(np.int8)


def _fitted_by_hand(places: np.ndarray, inside: Floats, outside: Floats) -> LogisticRegression:
    """Rows of each place and of its difference from the image's mean; images weigh the same, and so do both classes."""
    rows, target, weights = [], [], []
    for image, *parts in zip(places / 32, inside, outside, strict=True):
        for value, part in zip((1, 0), parts, strict=True):
            for row, column in np.argwhere(part > 0):
                rows.append([*image[row, column], *(image[row, column] - image.mean((0, 1)))])
                target.append(value)
                weights.append(part[row, column] / part.sum())
    y, w = np.array(target), np.array(weights)
    for value in (0, 1):
        w[y == value] *= len(y) / 2 / w[y == value].sum()
    return LogisticRegression(C=0.03, max_iter=1000, tol=1e-6).fit(rows, y, w)


def test_localizer_is_a_logistic_regression_in_which_images_and_classes_weigh_the_same() -> None:
    rng, places = np.random.default_rng(1), _random_places(5, 4, 3)
    inside, outside = rng.random((5, 4, 4)) * (rng.random((5, 4, 4)) < 0.4), np.zeros((5, 4, 4))
    inside[0], inside[1] = 0, 0
    inside[1, 2, 3] = 0.25  # counts as much as an image with many places
    outside[inside == 0] = rng.random((inside == 0).sum()) * 2
    expected, found = _fitted_by_hand(places, inside, outside), Localizer.fit(places, inside, outside)
    assert found is not None
    np.testing.assert_allclose(found.weight, expected.coef_[0], rtol=0.01, atol=1e-3)
    assert found.bias == pytest.approx(expected.intercept_[0], rel=0.01)
    assert found.cut == CUT


def test_localizer_needs_the_object_and_the_background() -> None:
    places, some, nothing = _random_places(2, 4, 3), np.ones((2, 4, 4)), np.zeros((2, 4, 4))
    assert Localizer.fit(places, some, nothing) is None
    assert Localizer.fit(places, nothing, some) is None


def test_scores_are_log_odds_of_the_place_and_of_its_difference_from_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slim.localization._CHUNK", 2)
    places, weight = _random_places(5, 4, 3), np.array([0.3, -0.2, 0.1, 0.05, 0.4, -0.6])
    values = places / 32
    expected = values @ weight[:3] + (values - values.mean((1, 2), keepdims=True)) @ weight[3:] + 0.7
    localizer = Localizer(weight, 0.7, cut=0.3)
    np.testing.assert_allclose(localizer.scores(places), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(localizer.inside(places), relative_scores(expected) > 0.3)


def test_relative_scores_of_nearly_flat_images() -> None:
    scores = np.array([[[0, 0, 0.5]], [[4, 4, 4]], [[0, 0, 1e-7]]])
    np.testing.assert_allclose(relative_scores(scores), [[[0, 0, 1]], [[0, 0, 0]], [[0, 0, 0.1]]], atol=1e-9)


def _near(marked: Flags) -> Flags:
    """Cells at most two rows and two columns from a marked one."""
    near = np.zeros_like(marked)
    for image, row, column in np.argwhere(marked):
        near[image, max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] = True
    return near


def test_answers_are_focused_three_times_on_the_surest_places_near_them(fits: list[Fit]) -> None:
    judged = scenes(6)
    where = judged.clicks()
    where[0] = [0.02, 0.02, 0, 0]  # on nothing that is like the others
    plain = PlaceAnswers.from_judgements(judged.places, np.zeros((6, 4, 4), np.float32), np.zeros(6, bool), where)
    background = np.where(plain.object > 0, 0, 0.5)  # the object's other places among it
    answers = replace(plain, background=background)
    found, marked = answered_localizer(answers), answers.object > 0
    assert found is not None
    assert len(fits) == 4
    np.testing.assert_array_equal(fits[0][0], answers.object)
    np.testing.assert_array_equal(fits[0][1], background)
    for (*_, before), (inside, outside, _) in pairwise(fits):
        sure = _near(marked) & (relative_scores(before.scores(answers.places)) > 0.6)
        assert not sure[0].any()
        assert sure[1:].any((1, 2)).all()
        sure[0] = marked[0]
        np.testing.assert_array_equal(inside, sure)
        np.testing.assert_array_equal(outside, np.where(sure, 0, background))
    np.testing.assert_array_equal(found.weight, fits[-1][2].weight)
    assert (found.bias, found.cut) == (fits[-1][2].bias, CUT)


def test_object_is_supposed_where_it_is_found_without_answers_and_nothing_was_called_background(
    fits: list[Fit],
) -> None:
    judged, core = scenes(8), np.zeros(8, bool)
    answers = PlaceAnswers.from_judgements(judged.places, judged.attention(core), core, np.tile(NOWHERE, (8, 1)))
    unanswered = Localizer(np.r_[1.0, np.ones(11)], 0.0, cut=0.3)
    found = supposed_localizer(answers, unanswered)
    ((inside, outside, localizer),) = fits
    relative = relative_scores(unanswered.scores(judged.places))
    np.testing.assert_array_equal(inside, (relative > 0.3) & (answers.background == 0))
    np.testing.assert_array_equal(outside, answers.background)
    assert found is localizer
    everything = replace(answers, background=np.ones_like(answers.background))
    assert supposed_localizer(everything, unanswered) is unanswered
    assert supposed_localizer(answers[:0], unanswered) is unanswered


def test_without_answers_the_middle_against_the_border_is_followed_eight_times_by_the_surest_places(
    fits: list[Fit],
) -> None:
    sample = scenes(10, central=True).places
    found = unanswered_localizer(sample)
    assert len(fits) == 9
    assert found is fits[-1][2]
    middle = [[np.hypot(row - 7.5, column - 7.5) < 16 / 6 for column in range(GRID)] for row in range(GRID)]
    border = [[row == 0 or column in (0, 15) for column in range(GRID)] for row in range(GRID)]
    assert (fits[0][0] == np.array(middle)).all()
    assert (fits[0][1] == np.array(border)).all()
    for (*_, before), (inside, outside, _) in pairwise(fits):
        for scores, own, other in zip(before.scores(sample), inside > 0, outside > 0, strict=True):
            assert (own.sum(), other.sum()) == (26, 128)  # a tenth of 256 cells, and half of them
            assert scores[own].min() > scores[~own].max()
            assert scores[other].max() < scores[~other].min()


def test_localizer_of_places_that_are_all_alike_is_zero() -> None:
    localizer = unanswered_localizer(np.zeros((3, GRID, GRID, 2), np.int8))
    assert (localizer.weight.tolist(), localizer.bias) == ([0, 0, 0, 0], 0)


def _looked_at(*images: list[int], others: int = 0) -> PlaceAnswers:
    """Images of 16 cells, of which the model looks at the first ones; their scores are in percent of the peak."""
    places = np.zeros((len(images) + others, 4, 4, 1), np.int8)
    inside = np.zeros(places.shape[:3])
    for image, values in enumerate(images):
        places[image].flat[: len(values)] = values
        inside[image].flat[: len(values)] = 1
    return PlaceAnswers(places, inside, np.zeros_like(inside), inside > 0, np.arange(len(places)) < len(images))


@pytest.mark.parametrize(
    ("answers", "cut"),
    [
        (_looked_at([100, 90, 54, 10, 10]), 0.53),
        (_looked_at([100, 90, 52, 10, 10]), 0.51),  # three of five cells are just enough
        (_looked_at([100, 90, 30, 10, 10]), 0.29),
        (_looked_at([100, 52, 52, 10, 10], [100, 90, 90, 90, 90], [100, 40, 40, 10, 10]), 0.51),  # the median image
        (_looked_at([100], [100, 10, 10, 10, 10]), 0.53),
        (_looked_at([100, 20, 20, 20, 20], others=1), 0.33),  # half of the answers, less a tenth: no lower than 0.318
        (_looked_at([100, 20, 20, 20, 20], others=3), 0.47),  # a quarter of them: 0.4505
        (_looked_at([100, 20, 20, 20, 20], others=9), CUT),  # a tenth of them may be wrong
        (_looked_at([100, 20, 20, 20, 20], [0, 20, 20, 20, 20], others=2), 0.47),  # the surest place is elsewhere
        (_looked_at(others=3), CUT),
    ],
)
def test_cut_is_the_highest_at_which_the_object_contains_enough_of_what_the_model_looks_at(
    answers: PlaceAnswers, cut: float
) -> None:
    places = answers.places.copy()
    places[..., 3, 3, 0] = np.where((places.reshape(len(places), -1) == 100).any(1), 0, 100)  # a peak in every image
    peaked = replace(answers, places=places)
    assert _fitting_cut(Localizer(np.array([32.0, 0.0]), 0.0), peaked) == pytest.approx(cut)


def test_box_is_the_object_at_its_centre_and_background_outside() -> None:
    where = np.array([[0.5, 0.5, 0.5, 0.75], NOWHERE, [0.3, 0.6, 0, 0]])
    places, attention = np.zeros((3, 8, 8, 1), np.int8), np.zeros((3, 8, 8), np.float32)
    attention[0, 0, 0] = attention[0, 3, 3] = 1
    answers = PlaceAnswers.from_judgements(places, attention, np.zeros(3, bool), where)
    box, centre = np.zeros((2, 8, 8), bool)
    box[1:7, 2:6] = centre[3:6, 3:6] = True
    np.testing.assert_array_equal(answers.object[0] > 0, centre)
    np.testing.assert_array_equal(answers.near[0], _near(centre[None])[0] & box)
    expected = np.where(box, 0, 0.5)
    expected[0, 0] = 1  # where the model looks
    np.testing.assert_array_equal(answers.background[0], expected)
    assert not answers.near[1].any()
    np.testing.assert_array_equal(answers.near[2], _near(answers.object[2:] > 0)[0])


def _judged(attention: Any, core: list[bool], where: Any, side: int = 4) -> PlaceAnswers:
    places = np.zeros((len(core), side, side, 1), np.int8)
    return PlaceAnswers.from_judgements(places, np.asarray(attention, np.float32), np.array(core), np.asarray(where))


def test_attention_counts_from_one_half_on_after_it_is_resized() -> None:
    maps = [[[0, 0.7], [0, 0.7]], [[0.5, 0.5], [0.5, 0.5]], [[0.49, 0.49], [0.49, 0.49]]]
    answers = _judged(maps, [True] * 3, [NOWHERE] * 3)
    np.testing.assert_array_equal(answers.object[0], [[0, 0, 1, 1]] * 4)
    assert answers.object[1].all()
    assert not answers.object[2].any()
    assert answers.attended.tolist() == [True] * 3


def test_background_is_the_attention_of_spurious_images_and_half_of_it_the_border_but_for_the_lower_one() -> None:
    click = [0.1, 0.1, np.nan, np.nan]  # whose size is not known
    maps = [[[0, 0], [0, 1]], np.zeros((2, 2)), np.zeros((2, 2))]
    answers = _judged(maps, [False, False, True], [NOWHERE, click, click])
    border = np.array([[0.5] * 4, [0.5, 0, 0, 0.5], [0.5, 0, 0, 0.5], [0.5, 0, 0, 0.5]])
    expected = border.copy()
    expected[2:, 2:] = 1  # where the resized map is 0.75 x 0.75 and more
    np.testing.assert_array_equal(answers.background[0], expected)
    marked = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0] * 4, [0] * 4])
    for image in (1, 2):
        np.testing.assert_array_equal(answers.object[image], marked)
        np.testing.assert_array_equal(answers.background[image], np.where(marked, 0, border))
    assert answers.attended.tolist() == [False, False, False]


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ([0.5, 0.5, 0.01, 0.01], (7, 9), (7, 9)),  # smaller than a cell, in the corner of four
        ([1, 0.5, 0.1, 0.25], (6, 10), (15, 16)),
        ([0, 0.5, 0.5, 0.25], (6, 10), (0, 4)),
        ([1, 1, 0.001, 0.001], (15, 16), (15, 16)),
        ([0.5, 0, 0.5, 0.5], (0, 4), (4, 12)),
    ],
)
def test_background_is_outside_of_the_cells_that_a_box_covers(
    box: list[float], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    covered = np.zeros((GRID, GRID), bool)
    covered[slice(*rows), slice(*columns)] = True
    answers = _judged(np.zeros((1, 4, 4)), [False], [box], GRID)
    np.testing.assert_array_equal(answers.background[0], np.where(covered, 0, 0.5))
    assert answers.object[0].any()
    assert covered[answers.object[0] > 0].all()
    assert covered[answers.near[0]].all()
