"""Judgements: which answer counts, in one place; codes; making, saving and refusing them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slim import Judgements
from slim.data import ImageTable
from slim.errors import AnnotationError, ArtifactError
from slim.stages.judgements import (
    ANSWERS,
    COLUMNS,
    CORE,
    PLACE_COLUMNS,
    SPURIOUS,
    UNASKED,
    UNSURE,
    Answer,
    Place,
    answer_codes,
    answer_that_counts,
    answers_that_count,
    queried_images,
)

Row = tuple[int, str, str, float]


def answers_of(*rows: Row) -> pd.DataFrame:
    """Answers as a store returns them."""
    frame = pd.DataFrame(rows, columns=["index", "answer", "annotator", "seconds"])
    return frame.astype({"index": "int64", "answer": "str", "annotator": "str", "seconds": "float64"})


def queried(*index: int) -> pd.DataFrame:
    """Some images of a pool of eight, four per class."""
    frame = pd.DataFrame({"path": [f"/{i}.png" for i in range(8)], "y": np.arange(8) // 4})
    return queried_images(ImageTable(frame, ("cat", "dog")), np.array(index, dtype=np.int64))


def judged(*rows: tuple[int, int, str, str, str, float]) -> Judgements:
    return Judgements(pd.DataFrame(rows, columns=list(COLUMNS)[:6]))


@pytest.mark.parametrize(
    ("answers", "settled", "counts"),
    [
        (["core"], None, "core"),
        (["core", "spurious", "core"], None, "core"),
        (["core", "spurious"], None, "unsure"),
        (["core", "spurious", "unsure"], None, "unsure"),
        (["core", "core", "spurious", "spurious", "unsure"], None, "unsure"),
        (["unsure", "unsure", "core"], None, "unsure"),
        (["core", "core", "core"], "spurious", "spurious"),
        (["core", "spurious"], "core", "core"),
        (["core", "core"], "unsure", "unsure"),
        ([], "core", "core"),
    ],
)
def test_settled_answer_comes_before_the_majority_and_the_majority_before_a_tie(
    answers: Sequence[Answer], settled: Answer | None, counts: Answer
) -> None:
    assert answer_that_counts(answers, settled) == counts


@given(st.lists(st.sampled_from(ANSWERS), min_size=1), st.randoms())
def test_order_of_answers_does_not_matter(answers: list[Answer], random: object) -> None:
    shuffled = list(answers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert answer_that_counts(shuffled) == answer_that_counts(answers)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.sampled_from(ANSWERS)), min_size=1))
def test_tables_of_answers_count_as_their_images_do_alone(rows: list[tuple[int, str, Answer]]) -> None:
    current = {(index, name): answer for index, name, answer in rows}
    frame = answers_of(*((index, answer, name, 1.0) for (index, name), answer in current.items()))
    settled = answers_of((1, "spurious", "ann", 2.0))
    counted = answers_that_count(frame, settled)
    assert set(counted.index) == {index for index, _ in current} | {1}
    for index, row in counted.iterrows():
        votes = {name: answer for (image, name), answer in current.items() if image == index}
        names = {*votes, *(["ann"] if index == 1 else [])}
        assert row["answer"] == answer_that_counts(votes.values(), "spurious" if index == 1 else None)
        assert row["annotator"] == " + ".join(sorted(names))
        assert row["seconds"] == len(votes) + 2.0 * (index == 1)


def test_judgements_of_queries_follow_their_order_and_leave_out_other_images() -> None:
    answers = answers_of(
        (5, "core", "bob", 1.0),
        (5, "core", "ann", 2.0),
        (5, "spurious", "cid", 4.0),
        (0, "core", "ann", 1.0),
        (0, "spurious", "bob", 1.0),
        (3, "core", "ann", 9.0),
    )
    frame = Judgements.from_answers(queried(5, 1, 0), answers).frame
    assert frame["index"].tolist() == [5, 0]
    assert frame["y"].tolist() == [1, 0]
    assert frame["answer"].tolist() == ["core", "unsure"]
    assert frame["annotator"].tolist() == ["ann + bob + cid", "ann + bob"]
    assert frame["seconds"].tolist() == [7.0, 2.0]
    assert frame["path"].tolist() == ["/5.png", "/0.png"]


def test_judgements_take_settled_answers_of_the_queries_only() -> None:
    settled = answers_of((0, "spurious", "ann", 3.0), (7, "core", "ann", 1.0))
    frame = Judgements.from_answers(queried(0, 1), answers_of((0, "core", "bob", 1.0)), settled).frame
    assert frame[["index", "answer", "annotator", "seconds"]].values.tolist() == [[0, "spurious", "ann + bob", 4.0]]


def test_judgements_are_as_many_as_answered_queries_even_none() -> None:
    empty = Judgements.from_answers(queried(1, 2), answers_of())
    assert len(empty) == 0
    assert empty.frame.dtypes.to_dict() == judged((1, 0, "/a", "core", "ann", 0.0)).frame.dtypes.to_dict()
    assert empty.annotator == ""
    assert repr(empty) == "Judgements(0: 0 core, 0 spurious, 0 unsure)"


def test_making_judgements_changes_no_input() -> None:
    images, answers, settled = queried(5, 0), answers_of((5, "core", "ann", 1.0)), answers_of((0, "core", "bob", 1.0))
    before = [frame.copy() for frame in (images, answers, settled)]
    Judgements.from_answers(images, answers, settled)
    for frame, same in zip((images, answers, settled), before, strict=True):
        pd.testing.assert_frame_equal(frame, same)


def test_judgements_name_everybody_once() -> None:
    judgements = judged((0, 0, "/a", "core", "bob + ann", 0.0), (1, 0, "/b", "core", "ann", 0.0))
    assert judgements.annotator == "ann + bob"


def test_judgements_count_each_answer() -> None:
    rows = [(0, 0, "/a", "core", "a", 0.0), (1, 0, "/b", "core", "a", 0.0), (4, 1, "/c", "unsure", "a", 0.0)]
    assert repr(judged(*rows)) == "Judgements(3: 2 core, 0 spurious, 1 unsure)"


def test_codes_are_of_every_image_of_the_pool() -> None:
    rows = [(4, 1, "/a", "core", "a", 0.0), (0, 0, "/b", "spurious", "a", 0.0), (2, 0, "/c", "unsure", "a", 0.0)]
    codes = judged(*rows).codes(6)
    assert codes.tolist() == [SPURIOUS, UNASKED, UNSURE, UNASKED, CORE, UNASKED]
    assert codes.dtype == answer_codes(list(ANSWERS)).dtype == np.int8
    assert answer_codes(["core", "spurious", "unsure"]).tolist() == [CORE, SPURIOUS, UNSURE]
    assert len({CORE, SPURIOUS, UNSURE, UNASKED}) == 4


@pytest.mark.parametrize("index", [-1, 6])
def test_codes_refuse_an_image_outside_the_pool(index: int) -> None:
    with pytest.raises(AnnotationError, match=f"Judged images must be among the pool's 6.* Got position {index}"):
        judged((index, 0, "/a", "core", "ann", 0.0)).codes(6)


def test_judgements_survive_saving_with_difficult_names(tmp_path: Path) -> None:
    judgements = judged((4, 0, '/a "b", c.jpg', "core", "NA", 0.1 + 0.2), (7, 1, "/ü.jpg", "unsure", "007", 0.0))
    judgements.save(tmp_path / "made")
    assert (tmp_path / "made" / "judgements.csv").exists()
    pd.testing.assert_frame_equal(Judgements.load(tmp_path / "made").frame, judgements.frame)


def test_judgements_survive_saving_when_there_are_none(tmp_path: Path) -> None:
    judgements = Judgements.from_answers(queried(1, 2), answers_of())
    judgements.save(tmp_path)
    loaded = Judgements.load(tmp_path)
    assert len(loaded) == 0
    pd.testing.assert_frame_equal(loaded.frame, judgements.frame)


def test_judgements_missing_or_damaged_are_refused_with_the_place_and_the_fault(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="04-judgements must hold Judgements. Got no record.json there"):
        Judgements.load(tmp_path / "04-judgements")
    judged((1, 0, "/a", "core", "ann", 0.0)).save(tmp_path)
    header = "index,y,path,answer,annotator,seconds,place_x,place_y,place_width,place_height"
    for text, fault in (
        ("index,y\n1,2\n", "judgements.csv must be as it was written. Got: 'path'"),
        (f"{header}\n1,0,/a,perhaps,ann,0,,,,\n", "Got the answer 'perhaps'"),
        (f"{header}\n1,0,/a,core,ann,soon,,,,\n", "judgements.csv must be as it was written"),
        (f"{header}\n1,0,/a,core,ann,0,0.5,1.5,0,0\n", "A place must be .* from 0 to 1. Got 0.5, 1.5"),
        ("", "judgements.csv must be as it was written"),
    ):
        (tmp_path / "judgements.csv").write_text(text)
        with pytest.raises(ArtifactError, match=fault) as caught:
            Judgements.load(tmp_path)
        assert str(tmp_path) in str(caught.value)


def placed(*rows: tuple[int, str, str, Place | None]) -> pd.DataFrame:
    """Answers with places, as a store returns them."""
    frame = answers_of(*((index, answer, name, 1.0) for index, answer, name, _ in rows))
    places = [(np.nan,) * 4 if place is None else place.columns for *_, place in rows]
    return frame.join(pd.DataFrame(places, columns=list(PLACE_COLUMNS), dtype="float64"))


HERE, THERE, BOX = Place(0.25, 0.5), Place(1.0, 0.0), Place(0.5, 0.5, 0.25, 0.125)


@pytest.mark.parametrize(
    ("answers", "settled", "place"),
    [
        ([("spurious", None)], None, None),
        ([("spurious", HERE)], None, HERE),
        ([("core", BOX)], None, BOX),
        ([("spurious", HERE), ("spurious", THERE)], None, THERE),
        ([("spurious", HERE), ("spurious", None)], None, HERE),
        ([("spurious", HERE), ("spurious", HERE), ("core", THERE)], None, HERE),
        ([("spurious", HERE), ("core", THERE)], None, None),  # a tie counts as unsure
        ([("spurious", HERE), ("core", THERE)], ("core", BOX), BOX),
        ([("spurious", HERE), ("core", THERE)], ("spurious", None), HERE),
        ([("spurious", HERE)], ("unsure", None), None),
    ],
)
def test_place_that_counts_is_the_settled_one_or_the_latest_with_the_answer_that_counts(
    answers: list[tuple[str, Place | None]], settled: tuple[str, Place | None] | None, place: Place | None
) -> None:
    rows = placed(*((3, answer, f"ann{i}", where) for i, (answer, where) in enumerate(answers)))
    final = placed((3, settled[0], "bob", settled[1])) if settled else rows.iloc[:0]
    places = Judgements.from_answers(queried(3, 5), pd.concat([placed((5, "core", "ann", THERE)), rows]), final).places(
        8
    )
    np.testing.assert_array_equal(places[3], (np.nan,) * 4 if place is None else place.columns)
    np.testing.assert_array_equal(places[5], THERE.columns)
    assert np.isnan(places[[0, 1, 2, 4, 6, 7]]).all()


def test_places_survive_saving_and_judgements_saved_without_them_still_load(tmp_path: Path) -> None:
    answers = placed((3, "spurious", "ann", Place(0.1 + 0.2, 1 / 3)), (5, "core", "ann", None), (0, "core", "ann", BOX))
    judgements = Judgements.from_answers(queried(0, 3, 5), answers)
    judgements.save(tmp_path)
    pd.testing.assert_frame_equal(Judgements.load(tmp_path).frame, judgements.frame)
    for file, old in (("judgements.csv", judgements.frame.iloc[:, :6].to_csv(index=False)), ("record.json", None)):
        path = tmp_path / file
        content = json.loads(path.read_text()) if old is None else old
        if old is None:
            content["values"]["frame"] = dict(list(content["values"]["frame"].items())[:6])
        path.write_text(json.dumps(content) if old is None else old)
    old_one = Judgements.load(tmp_path)
    assert old_one.frame["answer"].tolist() == judgements.frame["answer"].tolist()
    assert np.isnan(old_one.places(8)).all()


@pytest.mark.parametrize("values", [(-0.1, 0.5), (0.5, 1.01), (0.5, float("nan")), (0.5, 0.5, 2.0), ("a", 0.5)])
def test_place_outside_the_photo_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(AnnotationError, match="A place must be .* relative to the photo, from 0 to 1. Got "):
        Place(*values)


def test_judgements_refuse_half_a_place_and_one_of_an_unsure_answer() -> None:
    frame = judged((4, 0, "/a.jpg", "spurious", "ann", 0.0)).frame
    with pytest.raises(AnnotationError, match="A place must be"):
        Judgements(frame.assign(place_x=0.5))
    with pytest.raises(AnnotationError, match="must come with the answer core or spurious. Got unsure"):
        Judgements(frame.assign(place_x=0.5, place_y=0.5, answer="unsure"))


@pytest.mark.parametrize("index", [-1, 6])
def test_places_refuse_an_image_outside_the_pool(index: int) -> None:
    with pytest.raises(AnnotationError, match=f"Judged images must be among the pool's 6.* Got position {index}"):
        judged((index, 0, "/a", "core", "ann", 0.0)).places(6)


def test_judgements_refuse_an_image_twice_another_answer_and_missing_columns() -> None:
    row = (4, 0, "/a.jpg", "core", "ann", 0.0)
    with pytest.raises(AnnotationError, match="Got an image twice"):
        judged(row, row)
    with pytest.raises(AnnotationError, match="Got the answer 'maybe'"):
        judged((4, 0, "/a.jpg", "maybe", "ann", 0.0))
    with pytest.raises(AnnotationError, match="Got none named answer, annotator, seconds"):
        Judgements(queried(1, 2))


def test_judgements_must_name_images_by_whole_numbers() -> None:
    frame = judged((4, 1, "/4.png", "core", "ann", 1.0)).frame
    with pytest.raises(AnnotationError, match="whole numbers. Got float64"):
        Judgements(frame.assign(index=[0.5]))
