"""The store of answers: durable, append-only, shared by processes and threads, upgraded from older versions."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Timer

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slim import Queries, RecordedAnswers, Store
from slim.data import ImageTable
from slim.errors import AnnotationError
from slim.stages.annotate.people import judgements_of_people
from slim.stages.annotate.schema import STEPS
from slim.stages.annotate.store import Post
from slim.stages.judgements import PLACE_COLUMNS, Place

WRITER = """
import sys
from slim.stages.annotate.store import Store
path, annotator, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
with Store(path) as store:
    for index in range(n):
        store.record(index, "core", annotator, 0.5)
        print("saved", flush=True)
"""


def writer(path: Path, annotator: str, n: int) -> subprocess.Popen[str]:
    """A process that is ready to record n answers once it gets a line."""
    command = [sys.executable, "-c", WRITER, str(path), annotator, str(n)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


actions = st.lists(
    st.tuples(
        st.sampled_from(["record", "undo"]),
        st.integers(0, 3),
        st.sampled_from(["ann", "bob"]),
        st.sampled_from(["core", "spurious", "unsure"]),
        st.floats(0, 100),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(actions)
def test_store_behaves_like_a_dict_whatever_the_order_of_actions(
    sequence: list[tuple[str, int, str, str, float]],
) -> None:
    model: dict[tuple[int, str], tuple[str, float]] = {}
    rows = 0
    with Store(":memory:") as store:
        for action, index, annotator, answer, seconds in sequence:
            if action == "record":
                store.record(index, answer, annotator, seconds)  # type: ignore[arg-type]
                model[index, annotator] = (answer, seconds)
                rows += 1
            else:
                existed = model.pop((index, annotator), None) is not None
                assert store.undo(index, annotator) is existed
                rows += existed
        answers = store.answers()
        assert len(store.history()) == rows
    assert {(int(row[0]), str(row[2])): (row[1], row[3]) for row in answers.to_numpy()} == model
    assert len(answers) == len(model)


def test_store_keeps_answers_after_closing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "annotations.db"
    with Store(path) as store:
        store.record(3, "core", "ann", 1.5)
    with Store(path) as store:
        assert store.answers().iloc[0][["index", "answer", "annotator", "seconds"]].tolist() == [3, "core", "ann", 1.5]


def test_store_answers_have_the_same_columns_and_types_when_empty() -> None:
    with Store(":memory:") as store:
        empty = store.answers()
        store.record(1, "core", "ann")
        assert len(empty) == 0
        assert empty.dtypes.to_dict() == store.answers().dtypes.to_dict()
        assert {**empty.dtypes.to_dict(), "settles": np.dtype("bool")} == store.history().dtypes.to_dict()


def test_store_history_keeps_what_was_undone() -> None:
    with Store(":memory:") as store:
        store.record(3, "core", "ann")
        store.undo(3, "ann")
        store.record(3, "unsure", "ann")
        assert store.history()["answer"].tolist() == ["core", "undone", "unsure"]
        assert store.answers()["answer"].tolist() == ["unsure"]


def test_store_undo_leaves_the_answer_of_another_annotator() -> None:
    with Store(":memory:") as store:
        store.record(3, "core", "ann")
        store.record(3, "core", "bob")
        assert store.undo(3, "ann")
        assert store.answers()["annotator"].tolist() == ["bob"]


def test_store_writes_times_in_utc() -> None:
    before = pd.Timestamp.now("UTC").floor("ms")
    with Store(":memory:") as store:
        store.record(0, "core", "ann")
        time = pd.Timestamp(store.answers()["time"].iloc[0])
    assert before - pd.Timedelta("1ms") <= time <= pd.Timestamp.now("UTC")


@pytest.mark.parametrize(
    ("index", "answer", "annotator", "seconds"),
    [
        (0, "yes", "ann", 0.0),
        (0, "undone", "ann", 0.0),
        (-1, "core", "ann", 0.0),
        (0, "core", "", 0.0),
        (0, "core", "ann", -1.0),
        (0, "core", "ann", float("nan")),
    ],
)
def test_store_refuses_what_is_not_an_answer(index: int, answer: str, annotator: str, seconds: float) -> None:
    with Store(":memory:") as store:
        with pytest.raises(AnnotationError, match="An answer must be core, spurious or unsure"):
            store.record(index, answer, annotator, seconds)  # type: ignore[arg-type]
        assert len(store.history()) == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE judgements SET answer = 'spurious'",
        "DELETE FROM judgements",
        "INSERT OR REPLACE INTO judgements (id, image, answer, annotator, seconds) VALUES (1, 0, 'core', 'eve', 0)",
        "INSERT INTO judgements (image, answer, annotator, seconds) VALUES (0, 'yes', 'ann', 0)",
        "INSERT INTO judgements (image, answer, annotator, seconds) VALUES (-1, 'core', 'ann', 0)",
        "INSERT INTO judgements (image, answer, annotator, seconds) VALUES (0, 'core', '', 0)",
        "INSERT INTO judgements (image, answer, annotator, seconds) VALUES (0, 'core', 'ann', -1)",
        "INSERT INTO judgements (image, answer, annotator, seconds) VALUES (x'00', 'core', 'ann', 0)",
        *(
            f"INSERT INTO judgements (image, answer, annotator, seconds, x, y, width, height) VALUES (0, {values})"
            for values in (
                "'core', 'ann', 0, 1.5, 0, 0, 0",
                "'core', 'ann', 0, 0.5, NULL, 0, 0",
                "'core', 'ann', 0, NULL, NULL, 0, 0",
                "'core', 'ann', 0, 0.5, 0.5, 'wide', 0",
                "'unsure', 'ann', 0, 0.5, 0.5, 0, 0",
            )
        ),
    ],
)
def test_store_file_itself_refuses_changes_and_nonsense_from_other_programs(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "annotations.db"
    with Store(path) as store:
        store.record(0, "core", "ann")
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
    with Store(path) as store:
        assert store.history()["answer"].tolist() == ["core"]


def test_store_asks_sqlite_for_durable_commits(tmp_path: Path) -> None:
    path = tmp_path / "annotations.db"
    with Store(path) as store:
        assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_store_of_an_older_version_is_kept_and_extended(tmp_path: Path, version: int) -> None:
    path = tmp_path / "annotations.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        for statements in STEPS[:version]:
            for statement in statements:
                connection.execute(statement)
        connection.execute("INSERT INTO judgements (image, answer, annotator, seconds) VALUES (3, 'core', 'ann', 1.5)")
        connection.execute(f"PRAGMA user_version = {version}")
    with Store(path) as store:
        assert store.history()[["index", "answer", "seconds", "settles"]].values.tolist() == [[3, "core", 1.5, False]]
        assert store.post([Post("k", 4, "unsure")], "bob") == 1
        settling(store, 3, "spurious", "bob", "s")
        store.record(6, "spurious", "cid", place=Place(0.5, 0.25))
        assert store.settled()["index"].tolist() == [3]
        assert store.undo(6, "cid")
        assert store.history()["place_x"].dropna().tolist() == [0.5]
        assert store.answers()[["index", "annotator"]].values.tolist() == [[3, "ann"], [4, "bob"]]
        assert store.people() == ["ann", "bob"]


def test_store_keeps_places_of_answers_and_withdraws_them_with_the_answer(tmp_path: Path) -> None:
    box = Place(0.5, 0.25, 0.1, 0.2)
    with Store(tmp_path / "annotations.db") as store:
        store.record(3, "spurious", "ann", place=Place(1, 0))
        store.record(4, "core", "ann")
        store.post([Post("a", 3, "core", place=box), Post("s", 4, "spurious", settles=True, place=box)], "bob")
        store.post([Post("a", 3, "core", place=Place(0, 0))], "bob")  # sent again
    with Store(tmp_path / "annotations.db") as store:
        assert store.answers()[["index", *PLACE_COLUMNS]].fillna(-1).values.tolist() == [
            [3, 1, 0, 0, 0],
            [4, -1, -1, -1, -1],
            [3, *box.columns],
        ]
        assert store.settled()[["index", *PLACE_COLUMNS]].values.tolist() == [[4, *box.columns]]
        store.undo(3, "bob")
        store.record(3, "spurious", "ann")  # answered again, without a click
        assert store.answers()["place_x"].isna().all()
        assert store.history()["place_x"].count() == 3


def test_store_refuses_a_place_without_core_or_spurious() -> None:
    with Store(":memory:") as store:
        for refused in (
            lambda: store.record(0, "unsure", "ann", place=Place(0, 0)),
            lambda: Post("a", 0, "undone", place=Place(0, 0)),
            lambda: Post("a", 0, "flag", place=Place(0, 0)),
        ):
            with pytest.raises(AnnotationError, match="must come with the answer core or spurious"):
                refused()
        assert len(store.history()) == 0


@pytest.mark.parametrize("table", ["posts", "flags", "added"])
def test_store_refuses_to_change_what_the_page_sent(tmp_path: Path, table: str) -> None:
    with Store(tmp_path / "annotations.db") as store:
        store.post([Post("a", 1, "flag", note="blurred"), Post("b", 2, "core")], "ann")
        store.add([5, 5, 7])
        assert store.added() == [5, 7]
    with (
        closing(sqlite3.connect(tmp_path / "annotations.db")) as connection,
        pytest.raises(sqlite3.IntegrityError, match=f"{table} are append-only"),
    ):
        connection.execute(f"DELETE FROM {table}")


def test_store_has_every_answer_that_was_reported_as_saved_before_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "annotations.db"
    process = writer(path, "ann", 100_000)
    assert process.stdout is not None
    start(process)
    saved = 0
    while saved < 25:
        saved += process.stdout.readline() == "saved\n"
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate()
    saved += rest.count("saved")
    with Store(path) as store:
        answers = store.answers()
    assert saved <= len(answers) <= saved + 1
    assert answers["index"].tolist() == list(range(len(answers)))


def test_store_loses_nothing_when_two_processes_create_and_fill_it_at_once(tmp_path: Path) -> None:
    path = tmp_path / "annotations.db"
    process = writer(path, "ann", 200)
    start(process)
    with Store(path) as store:
        for index in range(200):
            store.record(index, "core", "bob")
    process.communicate(timeout=60)
    assert process.returncode == 0
    with Store(path) as store:
        assert store.answers().groupby("annotator")["index"].apply(list).to_dict() == {
            "ann": list(range(200)),
            "bob": list(range(200)),
        }


def test_store_waits_while_another_process_prepares_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "annotations.db"
    with closing(sqlite3.connect(path, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        leaving = Timer(0.3, other.rollback)
        leaving.start()
        with Store(path) as store:
            store.record(0, "core", "ann")
            assert len(store.answers()) == 1
        leaving.join()


def test_store_serves_several_threads(tmp_path: Path) -> None:
    with Store(tmp_path / "annotations.db") as store, ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda index: store.record(index, "core", "ann"), range(40)))
        assert sorted(store.answers()["index"]) == list(range(40))


def test_answers_as_csv_are_read_back_as_recorded_answers(tmp_path: Path, ask_about: Callable[..., Queries]) -> None:
    with Store(":memory:") as store:
        store.record(2, "core", "ann")
        store.record(5, "spurious", "ann")
        store.record(6, "core", "ann")
        store.undo(6, "ann")
        store.answers().to_csv(tmp_path / "out.csv", index=False)
    recorded = RecordedAnswers(tmp_path / "out.csv")
    assert [recorded.answer(query) for query in ask_about(5, 6, 2)] == ["spurious", None, "core"]


def settling(store: Store, index: int, answer: str, who: str, key: str) -> None:
    store.post([Post(key, index, answer, 3.0, settles=True)], who)  # type: ignore[arg-type]


def test_settled_answer_leaves_everybodys_own(pool: ImageTable) -> None:
    with Store(":memory:") as store:
        for who, answer in (("ann", "core"), ("bob", "spurious"), ("cid", "core")):
            store.post([Post(f"{who}5", 5, answer, 1.0)], who)  # type: ignore[arg-type]
        settling(store, 5, "spurious", "ann", "s1")
        frame = judgements_of_people(store, pool, [5]).frame
        assert frame[["answer", "annotator", "seconds"]].values.tolist() == [["spurious", "ann + bob + cid", 6.0]]
        assert store.answers()["answer"].tolist() == ["core", "spurious", "core"]
        store.post([Post("ann6", 5, "unsure")], "ann")  # a later answer of one's own settles nothing
        assert store.settled()["answer"].tolist() == ["spurious"]


def test_judgements_of_people_are_all_that_they_answered_and_leave_out_oracles(pool: ImageTable) -> None:
    with Store(":memory:") as store:
        store.record(0, "core", "masks over 0.5")
        store.record(2, "core", "an oracle of one's own")
        store.record(4, "unsure", "terminal", seconds=0.5)
        store.post([Post("a6", 6, "core", 2.0), Post("a1", 1, "spurious")], "ann")
        store.post([Post("b6", 6, "core", 1.0), Post("b3", 3, "core")], "bob")
        store.add([6, 0])
        frame = judgements_of_people(store, pool, [1, 0]).frame
    assert frame[["index", "y", "path", "answer", "annotator", "seconds"]].values.tolist() == [
        [1, 0, pool.paths[1], "spurious", "ann", 0.0],
        [6, 1, pool.paths[6], "core", "ann + bob", 3.0],
        [4, 1, pool.paths[4], "unsure", "terminal", 0.5],
        [3, 0, pool.paths[3], "core", "bob", 0.0],
    ]


def test_settled_answer_is_replaced_and_withdrawn_by_anybody() -> None:
    with Store(":memory:") as store:
        settling(store, 5, "undone", "bob", "s0")  # there is nothing to take back
        settling(store, 5, "core", "ann", "s1")
        settling(store, 5, "core", "ann", "s1")
        settling(store, 5, "unsure", "bob", "s2")
        assert store.settled()[["answer", "annotator"]].values.tolist() == [["unsure", "bob"]]
        settling(store, 5, "undone", "ann", "s3")
        assert len(store.settled()) == 0
        assert store.history()["settles"].tolist() == [True] * 3
        assert store.people() == []
        assert store.last_rows() == {"ann": 3, "bob": 2}


def test_store_knows_whether_its_answers_outlive_the_program(tmp_path: Path) -> None:
    with Store(tmp_path / "annotations.db") as kept, Store(":memory:") as temporary:
        assert (kept.on_disk, temporary.on_disk) == (True, False)
