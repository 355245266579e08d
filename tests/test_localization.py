"""Object maps from answers, on grids where the object is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from slim.arrays import Flags, Floats
from slim.localization import (
    Localizer,
    PlaceAnswers,
    Places,
    answered_localizer,
    fit_localizer,
    unanswered_localizer,
)

GRID = 16
NOWHERE = np.full(4, np.nan)


@dataclass(frozen=True)
class Scenes:
    """Images of noise with an object, and with a shortcut at another place."""

    places: Places
    objects: Flags
    shortcuts: Flags

    def attention(self, core: Flags) -> Floats:
        """Maps of a model that looks at the object where `core` is true, and at the shortcut elsewhere."""
        return np.where(core[:, None, None], self.objects, self.shortcuts).astype(np.float32)

    def clicks(self) -> Floats:
        """A click in the middle of each object."""
        return np.stack([[*np.argwhere(inside).mean(0)[::-1] / GRID + 0.5 / GRID, 0, 0] for inside in self.objects])

    def hits(self, localizer: Localizer) -> float:
        """Share of the images whose best place lies on the object."""
        best = localizer.scores(self.places).reshape(len(self.places), -1).argmax(1)
        return float(self.objects.reshape(len(self.places), -1)[np.arange(len(best)), best].mean())


def scenes(n: int, seed: int = 0, *, central: bool = False) -> Scenes:
    """Objects of 4 x 4 cells in the upper or lower half, shortcuts in the other; or objects near the centre."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 12, (n, GRID, GRID, 6))
    objects, shortcuts = np.zeros((2, n, GRID, GRID), bool)
    for i, above in enumerate(rng.random(n) < 0.5):
        top, left = rng.integers(2, 4) + 8 * (not above), rng.integers(1, 11)
        other = rng.integers(2, 4) + 8 * above
        if central:
            top, left, other = rng.integers(5, 8), rng.integers(5, 8), 12
        objects[i, top : top + 4, left : left + 4] = True
        shortcuts[i, other : other + 4, rng.integers(1, 11) :][:, :4] = True
    values[..., 0] += 60 * objects
    values[..., 1] += 60 * shortcuts
    return Scenes(values.clip(-127, 127).astype(np.int8), objects, shortcuts)


def answered(judged: Scenes, core: Flags, where: Floats) -> PlaceAnswers:
    return PlaceAnswers.from_judgements(judged.places, judged.attention(core), core, where)


def test_clicks_find_the_object_of_other_images() -> None:
    judged, core = scenes(6), np.zeros(6, bool)
    answers = answered(judged, core, judged.clicks())
    assert scenes(60, 1).hits(fit_localizer(answers, judged.places)) == 1


def test_places_beside_the_object_that_answers_mark_are_not_taken_for_it() -> None:
    judged, rest = scenes(40, seed=1), scenes(100, seed=2)
    where = judged.clicks()
    where[:, :2] = np.clip(where[:, :2] + np.random.default_rng(3).uniform(-0.125, 0.125, (40, 2)), 0, 1)
    answers = answered(judged, np.zeros(40, bool), where)

    def margin(localizer: Localizer | None) -> float:
        """Mean score of the object's places over that of the others, in units of the others' deviation."""
        assert localizer is not None
        scores = localizer.scores(rest.places)
        others = scores[~rest.objects]
        return float((scores[rest.objects].mean() - others.mean()) / others.std())

    once = Localizer.fit(answers.places, answers.object, answers.background)
    assert margin(answered_localizer(answers)) > 1.15 * margin(once)


def test_yes_and_no_alone_find_the_object() -> None:
    judged, core = scenes(8), np.arange(8) % 2 == 0
    answers = answered(judged, core, np.tile(NOWHERE, (8, 1)))
    assert scenes(60, 1).hits(fit_localizer(answers, judged.places)) == 1


def test_no_alone_keeps_off_what_was_called_background() -> None:
    judged, core = scenes(8), np.zeros(8, bool)
    found = scenes(60, 1)
    localizer = fit_localizer(answered(judged, core, np.tile(NOWHERE, (8, 1))), scenes(100, 2).places)
    on_shortcut = localizer.scores(found.places)[found.shortcuts].mean()
    assert on_shortcut < localizer.scores(found.places)[found.objects].mean()


def test_without_answers_the_object_is_what_stands_out_in_the_middle() -> None:
    sample = scenes(80, central=True)
    none = PlaceAnswers.from_judgements(
        sample.places[:0], np.zeros((0, 7, 7), np.float32), np.zeros(0, bool), np.zeros((0, 4))
    )
    localizer = fit_localizer(none, sample.places)
    assert scenes(60, 1, central=True).hits(localizer) > 0.95
    np.testing.assert_array_equal(localizer.weight, unanswered_localizer(sample.places).weight)


def test_places_that_are_all_alike_give_maps_that_mean_nothing() -> None:
    alike = np.zeros((3, GRID, GRID, 2), np.int8)
    assert np.ptp(unanswered_localizer(alike).scores(alike)) == 0


@pytest.mark.parametrize(("core", "cut"), [(0, 0.53), (2, 0.47), (3, 0.39), (4, 0.33), (8, 0.31)])
def test_object_is_larger_than_what_is_surest_as_far_as_answers_say_that_the_model_looks_at_it(
    core: int, cut: float
) -> None:
    """Answers lower the cut by their share, less a tenth, at most; from a third of them on the maps contain enough."""
    judged = scenes(8)
    surest = judged.objects & ~np.roll(judged.objects, 1, 1)  # its upper quarter
    judged.places[..., 0][judged.objects & ~surest] //= 3
    right = np.arange(8) < core
    localizer = answered_localizer(answered(judged, right, np.where(right[:, None], NOWHERE, judged.clicks())))
    assert localizer is not None
    assert localizer.cut == pytest.approx(cut)
    covered = (localizer.inside(judged.places) & judged.objects).sum() / judged.objects.sum()
    assert (covered > 0.4) == (cut < 0.4)


def test_left_out_answer_has_no_influence() -> None:
    judged, core = scenes(6), np.zeros(6, bool)
    wrong = judged.clicks()
    wrong[2] = [0.02, 0.02, 0, 0]
    with_it, without = answered(judged, core, wrong), answered(judged, core, judged.clicks())
    for name in ("places", "object", "background"):
        np.testing.assert_array_equal(getattr(with_it.without(2), name), getattr(without.without(2), name))


def test_click_marks_its_cell_and_those_beside_it_and_a_box_those_about_its_centre_that_it_contains() -> None:
    places = np.zeros((5, GRID, GRID, 2), np.int8)
    where = np.array([[0.5, 0.25, 0.25, 0.125], [0.5, 0.25, 0, 0], [1, 1, 0, 0], [0, 1, 0.1, 0.3], NOWHERE])
    attention, core = np.zeros((5, 4, 4), np.float32), np.zeros(5, bool)
    cells = [np.argwhere(one) for one in PlaceAnswers.from_judgements(places, attention, core, where).object]
    spans = [(*one.min(0), *one.max(0)) if len(one) else None for one in cells]
    assert spans == [(3, 7, 4, 9), (3, 7, 5, 9), (14, 14, 15, 15), (14, 0, 15, 0), None]
    assert [len(one) for one in cells] == [2 * 3, 9, 4, 2, 0]


def test_attention_is_the_object_where_it_is_judged_core_and_background_where_it_is_spurious() -> None:
    places, attention = np.zeros((3, GRID, GRID, 2), np.int8), np.zeros((3, GRID, GRID), np.float32)
    attention[:, 8:10, 8:10] = 1
    core = np.array([True, False, True])
    where = np.array([NOWHERE, NOWHERE, [0.25, 0.25, 0, 0]])  # a click says more than the attention
    answers = PlaceAnswers.from_judgements(places, attention, core, where)
    assert [one[9, 9] for one in answers.object] == [1, 0, 0]
    assert [one[9, 9] for one in answers.background] == [0, 1, 0]
    assert answers.background[0, 0, 5] == answers.background[0, 5, 0] == 0.5
    assert answers.background[0, -1, 5] == 0  # an object often touches the lower border
    assert not ((answers.object > 0) & (answers.background > 0)).any()


def test_scores_do_not_depend_on_how_many_images_are_scored_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    judged, found = scenes(6), scenes(10, 1)
    localizer = fit_localizer(answered(judged, np.zeros(6, bool), judged.clicks()), judged.places)
    together = localizer.scores(found.places)
    monkeypatch.setattr("slim.localization._CHUNK", 3)
    np.testing.assert_allclose(localizer.scores(found.places), together, rtol=1e-5, atol=1e-5)
