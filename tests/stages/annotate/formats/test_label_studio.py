"""Label Studio: tasks, annotations, and exports of its server."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slim import Store
from slim.data import ImageTable
from slim.errors import AnnotationError, SlimWarning
from slim.stages.annotate.formats import Sheet, merge_answers
from slim.stages.annotate.formats.label_studio import CONFIG, read_label_studio, write_label_studio

Current = Callable[[Store], list[list[Any]]]


def test_label_studio_tasks_hold_photo_map_predictions_and_annotations(sheet: Sheet, tmp_path: Path) -> None:
    write_label_studio(sheet, tmp_path / "tasks.json")
    tasks = {task["data"]["path"][-5]: task for task in json.loads((tmp_path / "tasks.json").read_text())}
    data = tasks["0"]["data"]
    sizes = [
        Image.open(io.BytesIO(base64.b64decode(data[name].partition("base64,")[2]))).size
        for name in ("image", "attention")
    ]
    assert sizes == [(12, 12), (12, 12)]
    assert data["facts"] == "Label cat · predicted n/a dog (75%)"
    annotations = [
        (one["result"][0]["value"]["choices"], one["result"][1]["value"]["text"], one["ground_truth"])
        for one in tasks["0"]["annotations"]
    ]
    assert annotations == [(["core"], ["ann"], False), (["spurious"], ["bob"], False), (["spurious"], ["ann"], True)]
    predicted = [(one["model_version"], one["result"][0]["value"]["choices"]) for one in tasks["1"]["predictions"]]
    assert predicted == [("masks over 0.5", ["core"]), ("attention score", ["core"])]
    assert tasks["1"]["annotations"] == []
    assert (tmp_path / "tasks.xml").read_text() == CONFIG


def test_annotations_made_in_label_studio_are_merged(sheet: Sheet, store: Store, tmp_path: Path) -> None:
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
    tasks[0]["annotations"][1]["result"][0]["value"]["choices"] = ["Right: on the object"]
    tasks[0]["annotations"][1] |= later
    (tmp_path / "back.json").write_text(json.dumps(tasks))
    assert merge_answers(store, sheet.pool.table, read_label_studio(tmp_path / "back.json")) == 3
    rows = store.answers()[["index", "answer", "annotator", "seconds"]].values.tolist()
    assert [0, "core", "bob", 4.5] in rows
    assert [5, "core", "eve@example.org", 4.5] in rows
    assert [5, "core", "Label Studio 9", 4.5] in rows


def exported(folder: Path, annotations: list[Any], encoding: str = "utf-8") -> Path:
    """An export with a task for each list of annotations."""
    tasks = [{"data": {"path": f"/{i}.png", "answers": None}, "annotations": one} for i, one in enumerate(annotations)]
    (folder / "back.json").write_text(json.dumps(tasks), encoding=encoding)
    return folder / "back.json"


def judged(*choices: str, tag: str = "judgement", **more: Any) -> dict[str, Any]:
    """An annotation with these choices."""
    return {"result": [{"from_name": tag, "type": "choices", "value": {"choices": choices}}], **more}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_empty_fields_and_byte_order_marks_are_read(tmp_path: Path, encoding: str) -> None:
    name = {"from_name": "annotator", "type": "textarea"}
    named, unnamed, point = judged("core"), judged("spurious", completed_by=None, lead_time=None), judged("core")
    named["result"].append({**name, "value": {"text": "ann"}})  # a text in place of a list of texts
    unnamed["result"].append({**name, "value": {"text": None}})
    point["result"] += [{**name, "value": None}, {"from_name": "click", "type": "keypointlabels", "value": None}]
    nothing = [{"result": None}, {"result": []}]
    source = exported(tmp_path, [None, [*nothing, named], [unnamed], [point]], encoding)
    answers = [(path, row.answer, row.annotator, row.place) for path, row in read_label_studio(source)]
    assert answers == [
        ("/1.png", "core", "ann", None),
        ("/2.png", "spurious", "Label Studio", None),
        ("/3.png", "core", "Label Studio", None),
    ]


def test_annotations_without_a_judgement_are_told(tmp_path: Path) -> None:
    other, click = judged("core", tag="choice"), {"result": [{"from_name": "click", "type": "keypointlabels"}]}
    source = exported(tmp_path, [[judged("core")], [other], [click], [other]])
    with pytest.warns(
        SlimWarning, match=r"Got 3 annotations without one in .*back\.json, but with choice or click\. They are left"
    ):
        assert [path for path, _ in read_label_studio(source)] == ["/0.png"]
    with pytest.raises(
        AnnotationError, match=r'choice in the tag "judgement"\. Got 1 annotations without one .* but with choice\.'
    ):
        read_label_studio(exported(tmp_path, [[other]]))


def test_annotation_of_two_judgements_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="must have one judgement. Got core, unsure in task 1 of"):
        read_label_studio(exported(tmp_path, [[judged("core", "unsure")]]))


def test_places_are_key_points_and_rectangles_in_percent(sheet: Sheet, tmp_path: Path) -> None:
    write_label_studio(sheet, tmp_path / "tasks.json")
    (task, *_) = json.loads((tmp_path / "tasks.json").read_text())
    box, click, settled = (one["result"][2:] for one in task["annotations"])
    assert settled == []
    assert (box[0]["type"], click[0]["type"]) == ("rectanglelabels", "keypointlabels")
    corner = [box[0]["value"][name] for name in ("x", "y", "width", "height")]
    assert corner == pytest.approx([35, 50, 30, 20])
    assert [click[0]["value"][name] for name in ("x", "y")] == pytest.approx([100 / 3, 25])
    for region, name, label in ((box[0], "box", "rectanglelabels"), (click[0], "click", "keypointlabels")):
        assert (region["from_name"], region["to_name"]) == (name, "image")
        assert f'<Label value="{region["value"][label][0]}"' in CONFIG


def test_places_drawn_in_label_studio_are_merged(sheet: Sheet, store: Store, tmp_path: Path) -> None:
    write_label_studio(sheet, tmp_path / "tasks.json")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    click = {"from_name": "click", "type": "keypointlabels", "value": {"x": 10.0, "y": 100.2, "width": 0.4}}
    click["value"]["keypointlabels"] = ["Click on the object"]  # type: ignore[index]
    box = {
        "from_name": "box",
        "type": "rectanglelabels",
        "value": {"x": 20.0, "y": 40.0, "width": 10.0, "height": 20.0},
    }
    for task, answer, regions, user in (
        (2, "spurious", [box, click], 7),
        (2, "core", [box], 8),
        (3, "unsure", [box], 9),
    ):
        choice = {"from_name": "judgement", "type": "choices", "value": {"choices": [answer]}}
        tasks[task]["annotations"].append({"result": [*regions, choice], "completed_by": user})
    (tmp_path / "back.json").write_text(json.dumps(tasks))
    assert merge_answers(store, sheet.pool.table, read_label_studio(tmp_path / "back.json")) == 3
    places = store.answers().set_index("annotator")[["place_x", "place_y", "place_width", "place_height"]]
    np.testing.assert_allclose(places.loc["Label Studio 7"], (0.1, 1.0, 0, 0))
    np.testing.assert_allclose(places.loc["Label Studio 8"], (0.25, 0.5, 0.1, 0.2))
    assert places.loc["Label Studio 9"].isna().all()


def test_export_of_a_label_studio_server_is_merged(
    store: Store, pool: ImageTable, tmp_path: Path, current: Current
) -> None:
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
    assert merge_answers(store, pool, read_label_studio(tmp_path / "back.json")) == 1
    assert [5, "spurious", "Grace", 5.854] in current(store)
    assert store.history()["time"].tolist()[-1] == "2026-11-25T21:57:05.407Z"


def test_label_studio_accepts_the_tasks_and_the_configuration(sheet: Sheet, tmp_path: Path) -> None:
    package = pytest.importorskip("label_studio_sdk.label_interface", reason="label-studio-sdk is not installed")
    write_label_studio(sheet, tmp_path / "tasks.json")
    interface = package.LabelInterface(CONFIG)
    interface.validate()
    for task in json.loads((tmp_path / "tasks.json").read_text()):
        assert interface.validate_task({"data": task["data"]})
        assert all(interface.validate_annotation(one) for one in task["annotations"])
        assert all(interface.validate_prediction(one) for one in task["predictions"])


@pytest.mark.parametrize(
    "task",
    [
        {"data": {"path": "/0.png"}, "annotations": 3},
        {"data": {"path": "/0.png"}, "annotations": [[1]]},
        {"data": {"path": "/0.png"}, "annotations": [{"result": 0.5}]},
        {"data": {"path": "/0.png", "answers": [{"answer": "core"}]}},
        {"data": [1], "annotations": []},
    ],
)
def test_tasks_of_another_structure_are_refused_in_one_line(tmp_path: Path, task: dict[str, Any]) -> None:
    (tmp_path / "back.json").write_text(json.dumps([task]))
    with pytest.raises(AnnotationError, match=r"back\.json must be as its program wrote it. Got \w+Error: ") as caught:
        read_label_studio(tmp_path / "back.json")
    assert "\n" not in str(caught.value)
