"""FiftyOne: a round trip where it is installed, and a clear error where it is not."""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from slim import Store
from slim.data import ImageTable
from slim.errors import AnnotationError
from slim.stages.annotate.formats import Sheet, merge_answers
from slim.stages.annotate.formats.fiftyone import read_fiftyone, write_fiftyone

Current = Callable[[Store], list[list[Any]]]


def test_fiftyone_that_is_not_installed_is_named_with_its_extra(sheet: Sheet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    for attempt in (lambda: write_fiftyone(sheet, "x"), lambda: read_fiftyone("x")):
        with pytest.raises(Exception, match=r"pip install 'slim-vision\[fiftyone\]'"):
            attempt()


def test_photos_in_a_tar_archive_are_refused(sheet: Sheet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "birds.tar", "w") as tar:
        tar.add(sheet.pool.table.paths[0], "0.png")
    frame = sheet.pool.table.frame.assign(path=str(tmp_path / "birds.tar" / "0.png"))
    packed = replace(sheet, pool=replace(sheet.pool, table=replace(sheet.pool.table, frame=frame)))
    monkeypatch.setitem(sys.modules, "fiftyone", SimpleNamespace(dataset_exists=lambda _: False))
    with pytest.raises(AnnotationError, match=r"must be a file of its own. Got .*birds.tar/0.png, in a tar archive"):
        write_fiftyone(packed, "x")


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
    sheet: Sheet, pool: ImageTable, fiftyone_name: str, tmp_path: Path, current: Current
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
    assert sample.clicks.keypoints[0].annotator == "bob"
    np.testing.assert_allclose(sample.clicks.keypoints[0].points, [[1 / 3, 0.25]])
    np.testing.assert_allclose(sample.boxes.detections[0].bounding_box, [0.35, 0.5, 0.3, 0.2])
    np.testing.assert_allclose(sample.attention.map, sheet.pool.maps[0], atol=1e-6)
    np.testing.assert_allclose(sample.object.map, sheet.found.objects[0], atol=1e-6)
    assert (sample.core.label, sample.environment.label, sample.copies) == ("core 0", "environment 1", 2)
    assert sorted(sample.tags) == ["judged", "query", "subset"]
    views = {name: dataset.load_saved_view(name).values("filepath") for name in dataset.list_saved_views()}
    assert views["subset"] == [pool.paths[0], pool.paths[4]]
    assert views["query"] == [pool.paths[i] for i in (0, 1, 4, 5)]
    assert views["judged"] == [pool.paths[0], pool.paths[4]]  # people have answered, so the oracle does not count
    assert dataset[pool.paths[5]].tags == ["query"]
    with pytest.raises(AnnotationError, match="must have a new name"):
        write_fiftyone(sheet, fiftyone_name)
    with Store(tmp_path / "other.db") as other:
        assert [merge_answers(other, pool, read_fiftyone(fiftyone_name)) for _ in range(2)] == [4, 0]
        placed = other.answers().set_index("annotator")["place_x"].dropna()
        assert placed.to_dict() == pytest.approx({"ann": 0.5, "bob": 1 / 3})
        sample.judgement.label = "core"  # somebody changes it there
        sample.save()
        fresh = dataset[pool.paths[6]]
        fresh["judgement"] = fo.Classification(label="spurious", annotator="eve")
        fresh["clicks"] = fo.Keypoints(keypoints=[fo.Keypoint(points=[[0.5, 0.5]], annotator="eve")])
        fresh.save()
        assert merge_answers(other, pool, read_fiftyone(fiftyone_name)) == 2
        assert other.settled()[["index", "answer", "annotator"]].values.tolist() == [[0, "core", "FiftyOne"]]
        assert [6, "spurious", "eve", 0.0] in current(other)
        assert other.answers().query("annotator == 'eve'")["place_y"].tolist() == [0.5]
    with pytest.raises(AnnotationError, match="must exist to be imported"):
        read_fiftyone(f"{fiftyone_name}-other")
