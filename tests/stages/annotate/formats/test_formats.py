"""Exports and imports: what a sheet holds, round trips of every file format, merging, and refusals."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slim import Place, RecordedAnswers, Store
from slim.data import ImageTable
from slim.errors import AnnotationError
from slim.stages.annotate.formats import Sheet, merge_answers
from slim.stages.annotate.formats.label_studio import read_label_studio, write_label_studio
from slim.stages.annotate.formats.lightly import read_lightly, write_lightly
from slim.stages.annotate.formats.merge import locate
from slim.stages.annotate.formats.records import AnswerRow
from slim.stages.annotate.formats.tables import (
    KIND,
    VERSION,
    read_csv,
    read_json_sheet,
    write_csv,
    write_json_sheet,
)
from slim.stages.annotate.page.session import Pool
from slim.stages.annotate.store import Post
from slim.stages.judgements import PLACE_COLUMNS, Judgements

Current = Callable[[Store], list[list[Any]]]

FILES = {
    "csv": (write_csv, read_csv),
    "json": (write_json_sheet, read_json_sheet),
    "label-studio": (write_label_studio, read_label_studio),
    "lightly": (write_lightly, read_lightly),
}


JSON_WITH_A_PLACE = json.dumps(
    {
        "kind": KIND,
        "version": VERSION,
        "images": [{"path": "/a.png", "answers": [{**asdict(AnswerRow("core", "ann")), "place": {"x": 7, "y": 0}}]}],
    }
)


def test_sheet_has_the_queries_and_every_image_with_an_answer(sheet: Sheet) -> None:
    images = {image.index: image for image in sheet}
    assert list(images) == [0, 1, 5, 4]
    assert (images[0].judgement, images[0].judged_by) == ("spurious", "ann + bob")
    assert [one.settles for one in images[0].answers] == [False, False, True]
    assert images[0].place == images[0].answers[1].place == Place(1 / 3, 0.25)  # of who gave the settled answer
    assert (images[1].judgement, images[5].judgement) == (None, None)  # people answered: the oracle does not count
    assert (images[4].label, images[4].prediction, images[4].confidence, images[4].score) == (
        "n/a dog",
        "n/a dog",
        0.75,
        0.75,
    )


def test_sheet_of_an_oracles_run_has_its_answers_as_judgements(shown: Pool) -> None:
    with Store(":memory:") as store:
        store.record(1, "core", "masks over 0.5")
        (image,) = Sheet.from_store(shown, np.array([1]), store)
    assert (image.judgement, image.judged_by) == ("core", "masks over 0.5")


def test_sheet_has_the_judgements_of_the_run_and_without_one_those_of_the_last_oracle(shown: Pool) -> None:
    with Store(":memory:") as store:
        for name, answer in (("masks over 0.5", "core"), ("masks over 0.3", "spurious")):
            store.record(1, answer, name)
        (image,) = Sheet.from_store(shown, np.array([1]), store)
        assert (image.judgement, image.judged_by) == ("spurious", "masks over 0.3")
        first = store.answers()[:1].assign(y=0, path="")
        (image,) = Sheet.from_store(shown, np.array([1]), store, judgements=Judgements(first))
        assert (image.judgement, image.judged_by) == ("core", "masks over 0.5")


@pytest.mark.parametrize("kind", FILES)
def test_answers_come_back_as_they_went_and_only_once(
    kind: str, sheet: Sheet, pool: ImageTable, tmp_path: Path, current: Current, time: str
) -> None:
    write, read = FILES[kind]
    write(sheet, tmp_path / "out")
    with Store(tmp_path / "other.db") as other:
        assert [merge_answers(other, pool, read(tmp_path / "out")) for _ in range(3)] == [4, 0, 0]
        expected = [[0, "core", "ann", 1.5], [0, "spurious", "bob", 3.0], [4, "unsure", "ann", 2.0]]
        expected.append([0, "spurious", "ann", 1.0])
        if kind == "lightly":  # it has no column for seconds
            expected = [[*row[:3], 0.0] for row in expected]
        assert current(other) == expected
        assert len(other.history()) == 4
        assert other.people() == ["ann", "bob"]
        if kind != "lightly":
            assert set(other.history()["time"]) == {time}


@pytest.mark.parametrize("kind", ["csv", "lightly"])
def test_name_that_is_a_formula_is_none_in_a_table_and_comes_back(
    kind: str, shown: Pool, pool: ImageTable, tmp_path: Path
) -> None:
    write, read = FILES[kind]
    with Store(":memory:") as store, Store(":memory:") as other:
        store.post([Post("a", 0, "core")], '=HYPERLINK("http://evil.example")')
        write(Sheet.from_store(shown, np.array([0]), store), tmp_path / "out")
        with (tmp_path / "out").open(newline="") as stream:
            cells = [cell for row in csv.reader(stream) for cell in row]
        assert not any(cell.startswith("=") for cell in cells)
        merge_answers(other, pool, read(tmp_path / "out"))
        assert other.people() == store.people()


@pytest.mark.parametrize("kind", FILES)
def test_answers_into_the_store_they_came_from_change_nothing(
    kind: str, sheet: Sheet, store: Store, pool: ImageTable, tmp_path: Path
) -> None:
    write, read = FILES[kind]
    write(sheet, tmp_path / "out")
    before = store.history()
    assert merge_answers(store, pool, read(tmp_path / "out")) == 0
    assert len(store.history()) == len(before)


@pytest.mark.parametrize("kind", FILES)
def test_places_come_back_as_they_went(kind: str, sheet: Sheet, pool: ImageTable, tmp_path: Path) -> None:
    write, read = FILES[kind]
    write(sheet, tmp_path / "out")
    with Store(":memory:") as other:
        merge_answers(other, pool, read(tmp_path / "out"))
        answers = other.answers().set_index(["index", "annotator"])[list(PLACE_COLUMNS)]
        np.testing.assert_allclose(answers.loc[(0, "ann")], (0.5, 0.6, 0.3, 0.2))
        np.testing.assert_allclose(answers.loc[(0, "bob")], (1 / 3, 0.25, 0, 0))
        assert answers.loc[(4, "ann")].isna().all()
        assert other.settled()["place_x"].isna().all()


def test_merge_adds_a_place_to_an_answer_and_never_removes_one(store: Store, pool: ImageTable) -> None:
    path = pool.paths[0]
    moved, rounded, without = (
        AnswerRow("spurious", "bob", 1.0, time="2030-01-01T00:00:00.000Z", place=place)
        for place in (Place(0.75, 0.25), Place(0.33333, 0.25), None)
    )
    assert [merge_answers(store, pool, [(path, row)]) for row in (rounded, without)] == [0, 0]
    assert merge_answers(store, pool, [(path, moved)]) == 1
    assert store.answers().query("annotator == 'bob'")["place_x"].tolist() == [0.75]


def test_merged_answer_does_not_replace_a_later_one(store: Store, pool: ImageTable) -> None:
    path = pool.paths[0]
    older, newer = (AnswerRow("unsure", "ann", 1.0, f"20{year}-01-01T00:00:00.000Z") for year in (25, 30))
    assert merge_answers(store, pool, [(path, older)]) == 0
    assert merge_answers(store, pool, [(path, newer)]) == 1
    assert store.answers().query("annotator == 'ann'")["answer"].tolist() == ["unsure", "unsure"]


def test_merge_follows_corrections_without_times_back_and_forth_but_no_file_twice(pool: ImageTable) -> None:
    with Store(":memory:") as store:

        def new(*answers: Any) -> int:
            return merge_answers(store, pool, [(pool.paths[0], AnswerRow(answer, "fill")) for answer in answers])

        counts = [new(answer) for answer in ("core", "core", "spurious", "spurious", "core", "core", "spurious")]
        assert counts == [1, 0, 1, 0, 1, 0, 1]
        assert [new("core", "unsure") for _ in range(3)] == [1, 0, 0]
        store.post([Post("p", 0, "core")], "fill")  # on the page, after the file
        assert new("unsure") == 0
        assert store.answers()["answer"].tolist() == ["core"]


def test_merge_takes_the_latest_of_an_annotators_answers(pool: ImageTable) -> None:
    years = (("core", 2030), ("spurious", 2025))
    rows = [(pool.paths[0], AnswerRow(answer, "ann", time=f"{year}-01-01T00:00:00.000Z")) for answer, year in years]
    with Store(":memory:") as store:
        assert [merge_answers(store, pool, rows) for _ in range(2)] == [1, 0]
        assert store.answers()["answer"].tolist() == ["core"]


def test_merge_takes_all_or_nothing_and_says_what_is_wrong(store: Store, pool: ImageTable) -> None:
    before = len(store.history())
    good, core = (pool.paths[2], AnswerRow("core", "cid")), AnswerRow("core", "cid")
    with pytest.raises(AnnotationError, match=r"must match one image of the run. Got 'x/9.png', which matches none"):
        merge_answers(store, pool, [good, ("x/9.png", core)])
    with pytest.raises(AnnotationError, match=r"must hold people's answers. Got none"):
        merge_answers(store, pool, [(pool.paths[2], AnswerRow("core", "masks over 0.5"))])
    assert len(store.history()) == before


def test_csv_filled_in_by_hand_is_merged_under_the_files_name(
    sheet: Sheet, pool: ImageTable, tmp_path: Path, current: Current
) -> None:
    write_csv(sheet, tmp_path / "out.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [row["answer"] for row in rows if row["path"] == pool.paths[5]] == [""]
    (tmp_path / "dora.csv").write_text(f"path,answer\n{Path(pool.paths[5]).name},yes\n{pool.paths[6]},\n")
    with Store(":memory:") as other:
        assert merge_answers(other, pool, read_csv(tmp_path / "dora.csv")) == 1
        assert current(other) == [[5, "core", "dora", 0.0]]


def test_recorded_answers_follow_what_was_settled(sheet: Sheet, store: Store, tmp_path: Path, ask_about: Any) -> None:
    store.post([Post("c0", 0, "core")], "cid")  # two of three answer core
    sheet = Sheet.from_store(sheet.pool, sheet.index, store)
    write_csv(sheet, tmp_path / "out.csv")
    recorded = RecordedAnswers(tmp_path / "out.csv")
    expected = [("spurious", Place(1 / 3, 0.25)), "unsure", None]
    assert [recorded.answer(query) for query in ask_about(0, 4, 5)] == expected


@pytest.mark.parametrize(
    ("kind", "text", "fault"),
    [
        ("csv", "path,answer,seconds\n/a.png,core,soon\n", "seconds as a number .* Got could not convert"),
        ("csv", "index,answer\n1,core\n", 'must name images in a column "path"'),
        ("csv", "path,answer\n/a.png,good\n", "Got 'good' in line 2"),
        ("csv", "path,answer,x,y\n/a.png,no,2,0\n", "A place must be .* Got x '2', .* in line 2"),
        ("json", JSON_WITH_A_PLACE, "A place must be .* Got {'x': 7, 'y': 0} with core in /a.png of"),
        ("json", "[]", "must hold slim judgements, version 1"),
        ("label-studio", "{}", "must hold Label Studio's tasks"),
        ("label-studio", '[{"data": {"image": "x"}}]', 'must name their image in "path". Got none in task 1'),
        ("lightly", "path,answer\n/a,core\n", "Got none named file_path_abs"),
        ("lightly", "file_path_abs,class_name,confidence,annotation_source\n/a,dog,,ann\n", "Got 'dog' in line 2"),
    ],
)
def test_file_of_another_kind_is_refused(kind: str, text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text(text)
    with pytest.raises(AnnotationError, match=fault):
        FILES[kind][1](tmp_path / "in")


def test_json_sheet_holds_every_value_of_each_image(sheet: Sheet, tmp_path: Path) -> None:
    write_json_sheet(sheet, tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    assert (written["run"], written["classes"]) == ("pets & co", ["cat", "n/a dog"])
    assert written["images"] == [{**asdict(image), "answers": list(map(asdict, image.answers))} for image in sheet]
    assert written["images"][0]["place"] == {"x": 1 / 3, "y": 0.25, "width": 0.0, "height": 0.0}


def test_imported_paths_match_whole_paths_or_unique_ends() -> None:
    paths = ["/data/cats/1.jpg", "/data/dogs/1.jpg", "/data/dogs/2.jpg", "1.jpg"]
    assert locate(["cats/1.jpg", "2.jpg", "data\\dogs\\1.jpg", "./1.jpg"], paths) == [0, 2, 1, 3]
    with pytest.raises(AnnotationError, match=r"Got 's/1.jpg', which matches none. Import into the run"):
        locate(["s/1.jpg"], paths)
    with pytest.raises(AnnotationError, match=r"which matches 2, among them /a/x.jpg and /b/x.jpg. Include more"):
        locate(["x.jpg"], ["/a/x.jpg", "/b/x.jpg"])
