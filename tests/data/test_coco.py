"""Masks from COCO's annotation files: polygons, counts along the columns, and boxes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slim.data import load_dataset
from slim.errors import DataError, SlimError
from slim.files import sync


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten photos, 8 x 4 pixels, in each of the folders of two classes."""
    monkeypatch.setenv("SLIM_CACHE", str(tmp_path / "cache"))
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (8, 4)).save(tmp_path / "photos" / name / f"{name}{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes annotations of images by their names."""

    def file(by_name: dict[str, list[dict[str, Any]]]) -> str:
        images = [{"id": k, "file_name": name, "width": 8, "height": 4} for k, name in enumerate(by_name)]
        notes = [note | {"image_id": k} for k, some in enumerate(by_name.values()) for note in some]
        (tmp_path / "objects.json").write_text(json.dumps({"images": images, "annotations": notes, "categories": []}))
        return str(tmp_path / "objects.json")

    return file


HALF = {"segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}
COUNTS = {"segmentation": {"size": [4, 8], "counts": [24, 8]}}  # the last two columns
BOX = {"bbox": [2, 1, 3, 2], "segmentation": []}


def test_masks_are_the_union_of_what_marks_an_image(folder: Path, write: Callable[..., str]) -> None:
    pytest.importorskip("pycocotools", reason="needs pip install 'slim-vision[coco]'")
    path = write({"cat/cat0.png": [HALF, COUNTS], "dog1.png": [BOX], "elsewhere.png": [HALF], "cat2.png": []})
    data = load_dataset(folder, mask=path)
    masks = {
        Path(file).stem: np.array(Image.open(mask)) > 0
        for table in (data.train, data.val, data.test)
        if "mask" in table.frame
        for file, mask in table.frame[["path", "mask"]].values.tolist()
        if mask
    }
    columns, rows = np.arange(8), np.arange(4)[:, None]
    assert sorted(masks) == ["cat0", "dog1"]
    assert (masks["cat0"] == ((columns < 4) | (columns > 5)) & (rows >= 0)).all()
    assert (masks["dog1"] == (columns > 1) & (columns < 5) & (rows > 0) & (rows < 3)).all()
    again = load_dataset(**data.source)
    assert again.fingerprint == data.fingerprint
    write({"cat/cat0.png": [HALF], "dog1.png": [BOX], "elsewhere.png": [HALF], "cat2.png": []})
    assert load_dataset(**data.source).fingerprint != data.fingerprint


def test_another_process_may_write_the_same_masks_at_the_same_time(
    folder: Path, write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pycocotools")
    path, us = write({"cat0.png": [HALF], "dog1.png": [BOX]}), os.getpid()

    def other_first(partial: Path) -> None:
        sync(partial)
        if os.getpid() == us:
            with monkeypatch.context() as other:
                other.setattr(os, "getpid", lambda: us + 1)
                load_dataset(folder, mask=path)

    monkeypatch.setattr("slim.data.coco.sync", other_first)
    data = load_dataset(folder, mask=path)
    masks = {mask for table in (data.train, data.val, data.test) for mask in table.frame.get("mask", ()) if mask}
    assert len(masks) == 2
    assert all(np.array(Image.open(mask)).any() for mask in masks)


def test_files_that_do_not_fit_are_refused(folder: Path, write: Callable[..., str], tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    with pytest.raises(DataError, match="must have images of the data set. Got lion.png"):
        load_dataset(folder, mask=write({"lion.png": [HALF]}))
    (folder / "dog" / "cat0.png").write_bytes((folder / "cat" / "cat0.png").read_bytes())
    with pytest.raises(DataError, match=r"Got 'cat0.png', which may be cat/cat0.png or dog/cat0.png"):
        load_dataset(folder, mask=write({"cat0.png": [HALF]}))
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(DataError, match="must be a COCO file with images and annotations"):
        load_dataset(folder, mask=str(tmp_path / "list.json"))


def test_package_that_is_not_installed_is_named_with_its_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.mask", None)
    with pytest.raises(SlimError, match=r"pip install 'slim-vision\[coco\]'"):
        load_dataset(folder, mask="objects.json")
