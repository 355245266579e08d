"""Recorded answers: the words they know, how they find their image, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slim import Place, Queries, RecordedAnswers, Store, ask
from slim.data import ImageTable
from slim.errors import AnnotationError
from slim.stages.annotate.people import judgements_of_people

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


@pytest.mark.parametrize("separator", [";", "\t", ", "])
def test_recorded_answers_may_come_from_a_spreadsheet(recorded: Recorded, ask_about: Ask, separator: str) -> None:
    text = "\ufeffpath,answer,x,y\npool/5.png,spurious,0.5,0.25\n".replace(",", separator)
    assert recorded(text).answer(ask_about(5)[0]) == ("spurious", Place(0.5, 0.25))


@pytest.mark.parametrize("written", ["Caf\u00e9", "Cafe\u0301"])
@pytest.mark.parametrize("stored", ["Caf\u00e9", "Cafe\u0301"])
def test_recorded_answers_match_composed_and_decomposed_letters(
    recorded: Recorded, ask_about: Ask, written: str, stored: str
) -> None:
    queries = ask_about(0)
    table = replace(queries.table, frame=queries.table.frame.assign(path=[f"/{stored}.png"]))
    assert recorded(f"path,answer\n{written}.png,core\n").answer(replace(queries, table=table)[0]) == "core"


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


def test_recorded_answers_refuse_a_name_of_a_query_and_of_another_image(recorded: Recorded, ask_about: Ask) -> None:
    pool = ask_about(0, 1).table
    pool = replace(pool, frame=pool.frame.assign(path=["/cats/1.png", "/dogs/1.png"]))
    queries = ask_about(1)
    queries = replace(queries, table=pool[np.array([1])], pool=pool)
    with pytest.raises(AnnotationError, match=r"'1.png', which matches /cats/1.png and /dogs/1.png"):
        recorded("path,answer\n1.png,core\n").answer(queries[0])
    assert recorded("path,answer\ndogs/1.png,core\n").answer(queries[0]) == "core"


def test_recorded_answers_take_a_whole_path_for_its_own_image(recorded: Recorded, ask_about: Ask) -> None:
    queries = ask_about(0, 1)
    frame = queries.table.frame.assign(path=["/copy/data/1.png", "/data/1.png"])
    both = replace(queries, table=replace(queries.table, frame=frame))
    assert [recorded("path,answer\n/data/1.png,core\n").answer(query) for query in both] == [None, "core"]


def test_recorded_answers_leave_out_an_oracle_beside_people(recorded: Recorded, ask_about: Ask) -> None:
    rows = "index,answer,annotator\n0,core,masks over 0.5\n"
    assert recorded(rows).answer(ask_about(0)[0]) == "core"
    assert recorded(f"{rows}0,no,ann\n").answer(ask_about(0)[0]) == "spurious"


def test_recorded_answers_of_several_people_count_by_majority(recorded: Recorded, ask_about: Ask) -> None:
    oracle = recorded("index,answer\n0,core\n0,core\n0,no\n1,core\n1,no\n2,\n2,core\n")
    assert [oracle.answer(query) for query in ask_about(0, 1, 2)] == ["core", "unsure", "core"]


def test_recorded_answers_may_say_where_the_object_is(recorded: Recorded, ask_about: Ask) -> None:
    oracle = recorded(
        "index,answer,x,y,width,height,settles\n0,no,0.25,0.5,,,\n1,core,0.5,0.5,0.2,0.1,\n2,no,,,,,\n3,,7,7,,,\n"
        "4,no,0.1,0.1,,,\n4,core,1,1,,,true\n5,no,0.1,0.1,,,\n5,no,0.2,0.2,,,\n6,no,0,0,,,\n6,core,1,1,,,\n"
    )
    click, box = ("spurious", Place(0.25, 0.5)), ("core", Place(0.5, 0.5, 0.2, 0.1))
    last = [("core", Place(1, 1)), ("spurious", Place(0.2, 0.2)), "unsure"]
    assert [oracle.answer(query) for query in ask_about(*range(7))] == [click, box, "spurious", None, *last]


def test_recorded_answers_read_saved_judgements_where_y_is_the_label(
    recorded: Recorded, ask_about: Ask, tmp_path: Path
) -> None:
    judgements = recorded("index,answer,x,y\n0,no,0.25,0.5\n5,core,,\n")(ask_about(0, 5))
    judgements.save(tmp_path)
    again = RecordedAnswers(tmp_path / "judgements.csv")(ask_about(0, 5))
    np.testing.assert_array_equal(again.places(8), judgements.places(8))
    assert recorded("index,answer,y\n0,core,1\n").answer(ask_about(0)[0]) == "core"


@pytest.mark.parametrize("row", ["no,1.5,0", "no,0.5,", "no,left,0", "no,nan,0", "unsure,0.5,0.5", "core,240,120"])
def test_recorded_answers_name_the_line_of_an_impossible_place(recorded: Recorded, row: str) -> None:
    with pytest.raises(AnnotationError, match=r"A place must be .* Got x .* in line 3 of .*answers.csv"):
        recorded(f"index,answer,x,y\n0,core,,\n1,{row}\n")


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


def test_recorded_answers_count_like_a_persons_until_another_file_replaces_them(
    recorded: Recorded, ask_about: Ask, pool: ImageTable
) -> None:
    files = "index,answer\n0,core\n5,core\n", "index,answer\n0,spurious\n"
    with Store(":memory:") as store:
        for text, answers in zip((*files, files[0]), (["core", "core"], ["spurious"], ["core", "core"]), strict=True):
            oracle = recorded(text)
            ask(ask_about(*(0, 5)[: len(answers)]), oracle, store)
            assert judgements_of_people(store, pool, [0]).frame["answer"].tolist() == answers
            assert store.people() == [oracle.name]
        assert store.history()["answer"].tolist() == ["core", "core", "spurious", "core", "core"]


def test_recorded_answer_that_settles_overrides_the_majority(recorded: Recorded, ask_about: Ask) -> None:
    oracle = recorded("index,answer,settles\n0,core,\n0,core,false\n0,no,True\n1,core,\n1,,true\n")
    assert [oracle.answer(query) for query in ask_about(0, 1)] == ["spurious", "core"]
