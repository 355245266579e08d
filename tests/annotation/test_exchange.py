"""Judgements to other programs and back: formats, and whole round trips where the programs are installed."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slim.annotation import Pool, RecordedAnswers, Store
from slim.annotation.exchange import Sheet, take_in
from slim.annotation.exchange.fiftyone import read_fiftyone, write_fiftyone
from slim.annotation.exchange.label_studio import CONFIG, read_label_studio, write_label_studio
from slim.annotation.exchange.lightly import read_lightly, write_lightly
from slim.annotation.exchange.records import Given
from slim.annotation.exchange.text import read_csv, read_json_sheet, write_csv, write_json_sheet
from slim.annotation.store import Post
from slim.datasets import ImageTable
from slim.errors import AnnotationError

FILES = {
    "csv": (write_csv, read_csv),
    "json": (write_json_sheet, read_json_sheet),
    "label-studio": (write_label_studio, read_label_studio),
    "lightly": (write_lightly, read_lightly),
}
TIME = "2026-03-09T22:16:08.728Z"


@pytest.fixture
def shown(pool: ImageTable) -> Pool:
    probabilities = np.tile([0.25, 0.75], (8, 1)).astype(np.float32)
    return Pool(pool, np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 2, 4), "pets & co", probabilities)


@pytest.fixture
def store() -> Iterator[Store]:
    """Ann and Bob differ about 0, which Ann has settled; an oracle answered about 1; 4 is Ann's; 5 has no answer."""
    with Store(":memory:") as store:
        store.post([Post("a0", 0, "core", 1.5, time=TIME), Post("a4", 4, "unsure", 2.0, time=TIME)], "ann")
        store.post([Post("b0", 0, "spurious", 3.0, time=TIME)], "bob")
        store.post([Post("s0", 0, "spurious", 1.0, settles=True, time=TIME)], "ann")
        store.record(1, "core", "masks over 0.5")
        yield store


@pytest.fixture
def sheet(shown: Pool, store: Store) -> Sheet:
    scores = np.array([0.1, 0.9, np.nan, np.nan, 0.75, 0.4, np.nan, np.nan])
    return Sheet.of(shown, np.array([0, 1, 5]), store, scores)


def current(store: Store) -> list[list[Any]]:
    """Who says what, and what is settled."""
    columns = ["index", "answer", "annotator", "seconds"]
    return sorted(store.answers()[columns].values.tolist()) + store.settled()[columns].values.tolist()


def test_sheet_has_the_queries_and_all_that_was_answered(sheet: Sheet) -> None:
    images = {image.index: image for image in sheet}
    assert list(images) == [0, 1, 5, 4]
    assert (images[0].judgement, images[0].judged_by) == ("spurious", "ann + bob")
    assert [one.settles for one in images[0].answers] == [False, False, True]
    assert (images[1].judgement, images[5].judgement) == (None, None)  # people were asked: the oracle does not count
    assert (images[4].label, images[4].prediction, images[4].confidence, images[4].score) == (
        "n/a dog",
        "n/a dog",
        0.75,
        0.75,
    )


def test_sheet_of_an_oracles_run_has_its_answers_as_judgements(shown: Pool) -> None:
    with Store(":memory:") as store:
        store.record(1, "core", "masks over 0.5")
        (image,) = Sheet.of(shown, np.array([1]), store)
    assert (image.judgement, image.judged_by) == ("core", "masks over 0.5")


@pytest.mark.parametrize("kind", FILES)
def test_answers_come_back_as_they_went_and_only_once(
    kind: str, sheet: Sheet, pool: ImageTable, tmp_path: Path
) -> None:
    write, read = FILES[kind]
    write(sheet, tmp_path / "out")
    with Store(tmp_path / "other.db") as other:
        assert [take_in(other, pool, read(tmp_path / "out")) for _ in range(3)] == [4, 0, 0]
        expected = [[0, "core", "ann", 1.5], [0, "spurious", "bob", 3.0], [4, "unsure", "ann", 2.0]]
        expected.append([0, "spurious", "ann", 1.0])
        if kind == "lightly":  # which knows no seconds
            expected = [[*row[:3], 0.0] for row in expected]
        assert current(other) == expected
        assert len(other.history()) == 4
        assert other.people() == ["ann", "bob"]
        assert other.added() == [0, 4]
        if kind != "lightly":
            assert set(other.history()["time"]) == {TIME}


@pytest.mark.parametrize("kind", FILES)
def test_answers_into_the_store_they_came_from_change_nothing(
    kind: str, sheet: Sheet, store: Store, pool: ImageTable, tmp_path: Path
) -> None:
    write, read = FILES[kind]
    write(sheet, tmp_path / "out")
    before = store.history()
    assert take_in(store, pool, read(tmp_path / "out")) == 0
    assert len(store.history()) == len(before)


def test_imported_answer_does_not_take_the_place_of_a_later_one(store: Store, pool: ImageTable) -> None:
    path = pool.paths[0]
    older, newer = (Given("unsure", "ann", 1.0, f"20{year}-01-01T00:00:00.000Z") for year in (25, 30))
    assert take_in(store, pool, [(path, older)]) == 0
    assert take_in(store, pool, [(path, newer)]) == 1
    assert store.answers().query("annotator == 'ann'")["answer"].tolist() == ["unsure", "unsure"]


def test_import_takes_all_or_nothing_and_says_what_is_wrong(store: Store, pool: ImageTable) -> None:
    before = len(store.history())
    good, core = (pool.paths[2], Given("core", "cid")), Given("core", "cid")
    with pytest.raises(AnnotationError, match=r"must mean one image of the run. Got 'x/9.png': none of that name"):
        take_in(store, pool, [good, ("x/9.png", core)])
    with pytest.raises(AnnotationError, match=r"must hold people's answers. Got none"):
        take_in(store, pool, [(pool.paths[2], Given("core", "masks over 0.5"))])
    assert len(store.history()) == before


def test_csv_filled_in_by_hand_is_taken_in_under_the_files_name(sheet: Sheet, pool: ImageTable, tmp_path: Path) -> None:
    write_csv(sheet, tmp_path / "out.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [row["answer"] for row in rows if row["path"] == pool.paths[5]] == [""]
    (tmp_path / "dora.csv").write_text(f"path,answer\n{Path(pool.paths[5]).name},yes\n{pool.paths[6]},\n")
    with Store(":memory:") as other:
        assert take_in(other, pool, read_csv(tmp_path / "dora.csv")) == 1
        assert current(other) == [[5, "core", "dora", 0.0]]


def test_recorded_answers_follow_what_was_settled(sheet: Sheet, store: Store, tmp_path: Path, ask_about: Any) -> None:
    store.post([Post("c0", 0, "core")], "cid")  # two of three said core
    sheet = Sheet.of(sheet.pool, sheet.index, store)
    write_csv(sheet, tmp_path / "out.csv")
    recorded = RecordedAnswers(tmp_path / "out.csv")
    assert [recorded.answer(query) for query in ask_about(0, 4, 5)] == ["spurious", "unsure", None]


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("csv", "path,answer,seconds\n/a.png,core,soon\n", "seconds as a number .* Got could not convert"),
        ("csv", "index,answer\n1,core\n", 'must name images in a column "path"'),
        ("csv", "path,answer\n/a.png,good\n", "Got 'good' in line 2"),
        ("json", "[]", "must hold slim judgements, version 1"),
        ("label-studio", "{}", "must hold Label Studio's tasks"),
        ("label-studio", '[{"data": {"image": "x"}}]', 'which image they are of in "path". Got none in task 1'),
        ("lightly", "path,answer\n/a,core\n", "Got none named file_path_abs"),
        ("lightly", "file_path_abs,class_name,confidence,annotation_source\n/a,dog,,ann\n", "Got 'dog' in line 2"),
    ],
)
def test_file_of_another_kind_is_refused(kind: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text(text)
    with pytest.raises(AnnotationError, match=said):
        FILES[kind][1](tmp_path / "in")


# --- Label Studio


def test_label_studio_tasks_hold_photo_map_predictions_and_annotations(sheet: Sheet, tmp_path: Path) -> None:
    write_label_studio(sheet, tmp_path / "tasks.json")
    tasks = {task["data"]["path"][-5]: task for task in json.loads((tmp_path / "tasks.json").read_text())}
    data = tasks["0"]["data"]
    sizes = [
        Image.open(io.BytesIO(base64.b64decode(data[name].partition("base64,")[2]))).size
        for name in ("image", "attention")
    ]
    assert sizes == [(12, 12), (12, 12)]
    assert data["facts"] == "Label cat · the model says n/a dog (75%)"
    said = [
        (one["result"][0]["value"]["choices"], one["result"][1]["value"]["text"], one["ground_truth"])
        for one in tasks["0"]["annotations"]
    ]
    assert said == [(["core"], ["ann"], False), (["spurious"], ["bob"], False), (["spurious"], ["ann"], True)]
    predicted = [(one["model_version"], one["result"][0]["value"]["choices"]) for one in tasks["1"]["predictions"]]
    assert predicted == [("masks over 0.5", ["core"]), ("attention score", ["core"])]
    assert tasks["1"]["annotations"] == []
    assert (tmp_path / "tasks.xml").read_text() == CONFIG


def test_label_studio_annotations_made_there_are_taken_in(sheet: Sheet, store: Store, tmp_path: Path) -> None:
    write_label_studio(sheet, tmp_path / "tasks.json")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    judgement = {"from_name": "judgement", "to_name": "image", "type": "choices", "value": {"choices": ["core"]}}
    later = {"lead_time": 4.5, "created_at": "2099-03-09T22:16:08.728353Z", "was_cancelled": False}
    tasks[2]["annotations"] = [
        {"result": [judgement], "completed_by": {"id": 7, "email": "eve@example.org"}, **later},
        {"result": [judgement], "completed_by": 9, **later},
        {"result": [judgement], "completed_by": 9, **later, "was_cancelled": True},
        {"result": [], "completed_by": 9, **later},
    ]
    tasks[0]["annotations"][1]["result"][0]["value"]["choices"] = ["Right: on the object"]  # Bob changed his mind there
    tasks[0]["annotations"][1] |= later
    (tmp_path / "back.json").write_text(json.dumps(tasks))
    assert take_in(store, sheet.pool.table, read_label_studio(tmp_path / "back.json")) == 3
    rows = store.answers()[["index", "answer", "annotator", "seconds"]].values.tolist()
    assert [0, "core", "bob", 4.5] in rows
    assert [5, "core", "eve@example.org", 4.5] in rows
    assert [5, "core", "Label Studio 9", 4.5] in rows


def test_label_studio_server_s_own_export_is_taken_in(store: Store, pool: ImageTable, tmp_path: Path) -> None:
    # As the server of Label Studio 1.23.2 exports a task that was answered on its page, but for the pictures.
    name = {"id": "ELyrWf1dG6", "from_name": "annotator", "to_name": "image", "type": "textarea", "origin": "manual"}
    kind = {"id": "siCe3ZXy6X", "from_name": "judgement", "to_name": "image", "type": "choices", "origin": "manual"}
    annotation = {
        "id": 1,
        "completed_by": 1,
        "result": [{**kind, "value": {"choices": ["spurious"]}}, {**name, "value": {"text": ["Grace"]}}],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-11-25T21:57:05.407597Z",
        "updated_at": "2026-11-25T21:57:05.407633Z",
        "lead_time": 5.854,
        "prediction": {},
        "unique_id": "ce02471d-93e4-4939-82c1-96aaa912be87",
        "import_id": None,
    }
    data = {"path": pool.paths[5], "label": "n/a dog", "facts": "Label n/a dog", "answers": []}
    (tmp_path / "back.json").write_text(
        json.dumps([{"id": 1, "annotations": [annotation], "drafts": [], "data": data}])
    )
    assert take_in(store, pool, read_label_studio(tmp_path / "back.json")) == 1
    assert [5, "spurious", "Grace", 5.854] in current(store)
    assert store.history()["time"].tolist()[-1] == "2026-11-25T21:57:05.407Z"


def test_label_studio_itself_takes_the_tasks_and_the_configuration(sheet: Sheet, tmp_path: Path) -> None:
    package = pytest.importorskip("label_studio_sdk.label_interface", reason="label-studio-sdk is not installed")
    write_label_studio(sheet, tmp_path / "tasks.json")
    interface = package.LabelInterface(CONFIG)
    interface.validate()
    for task in json.loads((tmp_path / "tasks.json").read_text()):
        assert interface.validate_task({"data": task["data"]})
        assert all(interface.validate_annotation(one) for one in task["annotations"])
        assert all(interface.validate_prediction(one) for one in task["predictions"])


# --- LightlyStudio


def test_lightly_rows_are_answers_and_scores(sheet: Sheet, tmp_path: Path) -> None:
    write_lightly(sheet, tmp_path / "out.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert list(rows[0]) == ["file_path_abs", "class_name", "confidence", "annotation_source"]
    of = [
        [row["class_name"], row["confidence"], row["annotation_source"]]
        for row in rows
        if row["file_path_abs"] == sheet.pool.table.paths[0]
    ]
    assert of == [
        ["core", "", "ann"],
        ["spurious", "", "bob"],
        ["spurious", "", "ann (settled)"],
        ["spurious", "0.9", "attention score"],
    ]


def test_lightly_s_own_export_is_taken_in(store: Store, pool: ImageTable, tmp_path: Path) -> None:
    # As LightlyStudio 1.2.0 writes it: every source, and the ends of lines that CSV asks for.
    rows = [
        "file_path_abs,class_name,confidence,annotation_source",
        f"{pool.paths[0]},core,,ann",  # which she has said already
        f"{pool.paths[0]},spurious,,ann (settled)",
        f"{pool.paths[0]},spurious,0.9,attention score",
        f"{pool.paths[1]},core,1.0,masks over 0.5",
        f"{pool.paths[5]},unsure,,Heidi",
    ]
    (tmp_path / "back.csv").write_bytes("".join(f"{row}\r\n" for row in rows).encode())
    assert [take_in(store, pool, read_lightly(tmp_path / "back.csv")) for _ in range(2)] == [1, 0]
    assert [5, "unsure", "Heidi", 0.0] in current(store)


# --- FiftyOne


def test_fiftyone_that_is_not_installed_is_named_with_its_extra(sheet: Sheet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fiftyone", None)
    for attempt in (lambda: write_fiftyone(sheet, "x"), lambda: read_fiftyone("x")):
        with pytest.raises(Exception, match=r"pip install 'slim-vision\[fiftyone\]'"):
            attempt()


@pytest.fixture
def fiftyone_name(tmp_path: Path) -> Iterator[str]:
    """A name for a dataset, or a skipped test where FiftyOne cannot keep one."""
    fo = pytest.importorskip("fiftyone", reason="fiftyone is not installed: pip install 'slim-vision[fiftyone]'")
    name = f"slim-{tmp_path.name}"
    try:
        fo.dataset_exists(name)
    except Exception as error:  # its database server may not run everywhere
        pytest.skip(f"FiftyOne's database does not start: {error}")
    yield name
    if fo.dataset_exists(name):
        fo.delete_dataset(name)


def test_fiftyone_dataset_holds_everything_and_comes_back(
    sheet: Sheet, pool: ImageTable, fiftyone_name: str, tmp_path: Path
) -> None:
    import fiftyone as fo

    write_fiftyone(sheet, fiftyone_name)
    dataset = fo.load_dataset(fiftyone_name)
    sample = dataset[pool.paths[0]]
    assert len(dataset) == 8
    assert (sample.ground_truth.label, sample.prediction.label, sample.prediction.confidence) == (
        "cat",
        "n/a dog",
        0.75,
    )
    assert (sample.judgement.label, sample.judgement.annotator) == ("spurious", "ann + bob")
    np.testing.assert_allclose(sample.attention.map, sheet.pool.maps[0], atol=1e-6)
    assert sorted(sample.tags) == ["judged", "query"]
    assert dataset[pool.paths[5]].tags == ["query"]
    with pytest.raises(AnnotationError, match="must have a new name"):
        write_fiftyone(sheet, fiftyone_name)
    with Store(tmp_path / "other.db") as other:
        assert [take_in(other, pool, read_fiftyone(fiftyone_name)) for _ in range(2)] == [4, 0]
        sample.judgement.label = "core"  # somebody changes it there
        sample.save()
        fresh = dataset[pool.paths[6]]
        fresh["judgement"] = fo.Classification(label="unsure", annotator="eve")
        fresh.save()
        assert take_in(other, pool, read_fiftyone(fiftyone_name)) == 2
        assert other.settled()[["index", "answer", "annotator"]].values.tolist() == [[0, "core", "FiftyOne"]]
        assert [6, "unsure", "eve", 0.0] in current(other)
    with pytest.raises(AnnotationError, match="must exist to be imported"):
        read_fiftyone(f"{fiftyone_name}-other")
