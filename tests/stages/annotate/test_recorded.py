"""Recorded answers: the words they know, how they find their image, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slim import Queries, RecordedAnswers, Store, ask
from slim.data import ImageTable
from slim.errors import AnnotationError

Ask = Callable[..., Queries]
Recorded = Callable[[str], RecordedAnswers]


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("core", "core"),
        ("YES", "core"),
        ("1", "core"),
        (" spurious ", "spurious"),
        ("no", "spurious"),
        ("0", "spurious"),
        ("unsure", "unsure"),
        ("maybe", "unsure"),
        ("", None),
    ],
)
def test_recorded_answers_know_the_usual_words(
    recorded: Recorded, ask_about: Ask, word: str, answer: str | None
) -> None:
    assert recorded(f"index,answer\n3,{word}\n").answer(ask_about(3)[0]) == answer


def test_recorded_answers_name_the_line_of_an_unknown_word(recorded: Recorded) -> None:
    with pytest.raises(AnnotationError, match=r"Got '-1' in line 4 of .*answers.csv"):
        recorded("index,answer\n3,core\n\n5,-1\n")


@pytest.mark.parametrize("column", ["path", "img_filename", " Filename", "image", "file"])
def test_recorded_answers_join_by_path_whatever_the_order(recorded: Recorded, ask_about: Ask, column: str) -> None:
    text = f"{column},index,answer\npool/5.png,0,core\n./pool/1.png,5,spurious\npool\\2.png,9,unsure\n"
    oracle = recorded(text)
    assert [oracle.answer(query) for query in ask_about(0, 1, 2, 5)] == [None, "spurious", "unsure", "core"]


def test_recorded_answers_join_by_the_whole_path(recorded: Recorded, pool: ImageTable, ask_about: Ask) -> None:
    assert recorded(f"path,answer\n{pool.paths[2]},core\n").answer(ask_about(2)[0]) == "core"


def test_recorded_answers_do_not_match_half_a_name(recorded: Recorded, ask_about: Ask) -> None:
    assert recorded("path,answer\nol/2.png,core\n").answer(ask_about(2)[0]) is None


def test_recorded_answers_refuse_a_name_of_several_queries(recorded: Recorded, ask_about: Ask) -> None:
    queries = ask_about(0, 1)
    frame = queries.table.frame.assign(path=["/cats/1.png", "/dogs/1.png"])
    both = replace(queries, table=replace(queries.table, frame=frame))
    with pytest.raises(AnnotationError, match=r"'1.png', which matches /cats/1.png and /dogs/1.png"):
        recorded("path,answer\n1.png,core\n")(both)
    judgements = recorded("path,answer\ncats/1.png,core\ndogs/1.png,spurious\n")(both)
    assert judgements.frame["answer"].tolist() == ["core", "spurious"]


def test_recorded_answers_of_several_people_count_by_majority(recorded: Recorded, ask_about: Ask) -> None:
    oracle = recorded("index,answer\n0,core\n0,core\n0,no\n1,core\n1,no\n2,\n2,core\n")
    assert [oracle.answer(query) for query in ask_about(0, 1, 2)] == ["core", "unsure", "core"]


@pytest.mark.parametrize("text", ["", "answer\ncore\n", "path\n/a.jpg\n", "img_id,answer\n3,core\n"])
def test_recorded_answers_refuse_a_file_without_the_columns(recorded: Recorded, text: str) -> None:
    with pytest.raises(AnnotationError, match="Recorded answers must"):
        recorded(text)


def test_recorded_answers_refuse_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"nowhere.csv: .*No such file"):
        RecordedAnswers(tmp_path / "nowhere.csv")


def test_recorded_answers_that_were_edited_replace_the_earlier_ones(recorded: Recorded, ask_about: Ask) -> None:
    queries = ask_about(0)
    with Store(":memory:") as store:
        ask(queries, recorded("index,answer\n0,core\n"), store)
        after = ask(queries, recorded("index,answer\n0,spurious\n"), store)
    assert after.frame["answer"].tolist() == ["spurious"]


def test_recorded_answer_that_settles_overrides_the_majority(recorded: Recorded, ask_about: Ask) -> None:
    oracle = recorded("index,answer,settles\n0,core,\n0,core,false\n0,no,True\n1,core,\n1,,true\n")
    assert [oracle.answer(query) for query in ask_about(0, 1)] == ["spurious", "core"]
