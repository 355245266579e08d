"""When asking may end: the maps stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slim import AnnotateSettings, Attention, Place, Queries, Query, TerminalAnnotator, annotate, ask
from slim.errors import SettingsError
from slim.localization import fit_localizer
from slim.stages.annotate.annotator import Oracle
from slim.stages.annotate.registry import choose_annotator
from slim.stages.annotate.settling import LAST, STAYING, Objects, Progress, _overlap
from slim.stages.judgements import PLACE_COLUMNS, Judgements

N, GRID = 60, 16
INSIDE = slice(5, 11)  # rows of the two objects
LEFT, MIDDLE = slice(1, 5), slice(6, 10)  # and their columns


@pytest.fixture
def places() -> np.ndarray:
    """Sixty images with one thing in the middle and another one at the left, which the upper border resembles."""
    places = np.random.default_rng(0).integers(-8, 9, (N, GRID, GRID, 4), dtype=np.int8)
    places[:, INSIDE, MIDDLE, 0] += 90
    places[:, INSIDE, LEFT, 1] += 90
    places[:, 0, :, 1] += 40
    return places


def clicks(n: int, columns: slice) -> pd.DataFrame:
    """Clicks on one of the things in n images."""
    x = (columns.start + columns.stop) / 2 / GRID
    rows = [("spurious", x, 0.5, 0.0, 0.0)] * n
    return pd.DataFrame(rows, columns=["answer", "place_x", "place_y", "place_width", "place_height"])


def progress(places: np.ndarray, rows: pd.DataFrame) -> Progress:
    objects = Objects(places, np.zeros((len(places), 7, 7), np.float32))
    answers = objects.answers(rows.reset_index(drop=True))
    return objects.progress(answers, objects.localizer(answers))


def test_without_an_answer_that_says_what_the_object_is_it_is_what_stands_out_in_images_at_even_distances() -> None:
    places = np.random.default_rng(0).integers(-90, 91, (700, GRID, GRID, 2), dtype=np.int8)
    objects = Objects(places, np.zeros((700, 7, 7), np.float32))
    for n in (0, 3):
        rows = pd.DataFrame({"answer": ["spurious"] * n}).reindex(columns=["answer", *PLACE_COLUMNS])
        answers = objects.answers(rows)
        found, expected = objects.localizer(answers), fit_localizer(answers, places[::3])
        np.testing.assert_array_equal(found.weight, expected.weight)
        assert (found.bias, found.cut) == (expected.bias, expected.cut)


def test_nothing_is_said_after_few_answers(places: np.ndarray) -> None:
    assert progress(places, clicks(2 * LAST - 1, MIDDLE)) == Progress()


def test_maps_that_stay_without_the_last_answers_are_settled(places: np.ndarray) -> None:
    now = progress(places, clicks(2 * LAST, LEFT))
    assert now.staying is not None
    assert now.staying > STAYING
    assert now.settled
    assert now.note.startswith("More clicks would hardly change")


def test_maps_that_the_last_answers_changed_are_not_settled(places: np.ndarray) -> None:
    places[:, INSIDE, 11:15, 2] += 90
    now = progress(places, pd.concat([clicks(5, LEFT), clicks(5, slice(11, 15))]))
    assert now.staying is not None
    assert now.staying < STAYING
    assert not now.settled
    assert now.note.startswith("The object maps are still changing")


@pytest.mark.parametrize(("staying", "settled"), [(None, False), (0.899, False), (STAYING, True), (1.0, True)])
def test_nine_tenths_that_stay_are_enough(staying: float | None, settled: bool) -> None:
    assert Progress(staying).settled is settled


def test_overlap_is_the_mean_intersection_over_union_of_the_images_that_have_an_object() -> None:
    one = np.array([[[1, 1], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]], bool)
    other = np.array([[[1, 0], [1, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]], bool)
    assert _overlap(one, other) == pytest.approx((1 / 3 + 1) / 2)
    assert _overlap(one[2:], other[2:]) is None


def test_progress_compares_some_images_with_and_without_the_last_answers(
    places: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slim.stages.annotate.settling._COMPARED", 7)
    objects = Objects(places, np.zeros((N, 7, 7), np.float32))
    answers = objects.answers(pd.concat([clicks(6, MIDDLE), clicks(6, LEFT)], ignore_index=True))
    now, before = objects.localizer(answers), objects.localizer(answers[slice(0, 7)])
    some = places[[0, 9, 18, 27, 36, 45, 54]]
    assert objects.progress(answers, now) == Progress(_overlap(now.inside(some), before.inside(some)))


def test_answers_are_those_about_the_object_in_the_images_that_they_name(places: np.ndarray) -> None:
    maps = np.zeros((N, 16, 16), np.float32)
    maps[5, 8, 8] = maps[9, 4, 4] = 1
    rows = clicks(4, LEFT).assign(answer=["core", "unsure", "spurious", "undone"])
    rows[["place_x", "place_y"]] = np.nan
    answers = Objects(places, maps).answers(rows.set_index(pd.Index([5, 2, 9, 3])))
    np.testing.assert_array_equal(answers.places, places[[5, 9]])
    assert np.argwhere(answers.object).tolist() == [[0, 8, 8]]
    assert np.argwhere(answers.background == 1).tolist() == [[1, 4, 4]]
    assert answers.attended.tolist() == [True, False]


def test_asking_ends_once_the_judgements_are_enough(ask_about: Callable[..., Queries], certain: Any) -> None:
    seen = []

    def enough(judgements: Judgements) -> bool:
        seen.append(judgements.frame["index"].tolist())
        return len(judgements) == 2

    judgements = ask(ask_about(4, 2, 6, 1), certain(), enough=enough)
    assert judgements.frame["index"].tolist() == [4, 2]
    assert seen == [[4], [4, 2]]


class Pointing(Oracle):
    """Always clicks on the same place."""

    name = "pointing"

    def answer(self, query: Query) -> Any:
        return "spurious", Place(0.5, 0.5)


Inputs = Callable[..., tuple[Any, Attention, Any]]


@pytest.fixture
def attended(inputs: Inputs, places: np.ndarray) -> tuple[Any, Attention, Any]:
    """The stage's inputs, with places: eight images."""
    data, attention, space = inputs()
    return data, replace(attention, train=replace(attention.train, places=places[:8])), space


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four answers are enough to tell whether the last two change anything."""
    monkeypatch.setattr("slim.stages.annotate.settling.LAST", 2)


@pytest.mark.usefixtures("early")
def test_an_annotator_without_a_person_ends_when_the_maps_are_settled_only_if_told_to(
    attended: Any, tmp_path: Path
) -> None:
    assert len(annotate(*attended, AnnotateSettings(budget=4), annotator=Pointing())) == 8
    settings = AnnotateSettings(budget=4, until="settled")
    ended = annotate(*attended, settings, annotator=Pointing(), folder=tmp_path)
    assert len(ended) == 4
    assert sorted(ended.frame["y"]) == [0, 0, 1, 1]  # the classes take turns
    assert annotate(*attended, settings, annotator=Pointing(), folder=tmp_path).frame.equals(ended.frame)


@pytest.mark.usefixtures("early")
def test_a_person_at_the_terminal_is_told_once_and_goes_on(
    attended: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = iter(["e5"] * 8)
    person = TerminalAnnotator(tmp_path, read=lambda: next(keys))
    assert len(annotate(*attended, AnnotateSettings(budget=4), annotator=person)) == 8
    assert capsys.readouterr().err.count("More clicks would hardly change") == 1


def test_ending_by_itself_is_refused_where_a_person_decides(pool: Any, without: Any) -> None:
    with pytest.raises(SettingsError, match="until settled must be used with an oracle or recorded answers"):
        AnnotateSettings(until="settled", annotator="terminal")
    with pytest.raises(SettingsError, match="Got a data set that only a person can answer for"):
        choose_annotator(AnnotateSettings(until="settled"), without(pool, "mask", "box_x"))
    with pytest.raises(SettingsError, match="until must be budget or settled"):
        AnnotateSettings(until="never")  # type: ignore[arg-type]
