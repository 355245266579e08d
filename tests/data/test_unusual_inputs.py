"""What people bring: tables, trees, boxes and annotations that could be read wrongly without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from tests.data.conftest import Writer, save_image

from slim.data import ImageTable, load_dataset
from slim.errors import DataError, SettingsError, SlimWarning


@pytest.mark.parametrize("source", [None, 3, ["a.png"], {"filename": ["a.png"]}])
def test_a_source_of_another_kind_is_named(source: Any) -> None:
    with pytest.raises(DataError, match=f"a table or a DataFrame. Got {type(source).__name__}"):
        load_dataset(source)


@pytest.mark.parametrize("seed", [None, "3", 1.5])
def test_a_seed_that_is_no_whole_number_is_refused(files: Path, frame: pd.DataFrame, seed: Any) -> None:
    with pytest.raises(SettingsError, match="seed must be at least 0"):
        load_dataset(frame, root=files, seed=seed)


def test_a_table_without_rows_is_refused(files: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="a row per image. Got none"):
        load_dataset(frame.iloc[:0].assign(box_x=0, box_y=0, box_width=1, box_height=1), root=files)


@pytest.mark.parametrize("start", ["sep=;\n", "SEP=|\n", ""])
def test_the_separator_that_a_spreadsheet_states_is_heeded(write: Writer, frame: pd.DataFrame, start: str) -> None:
    folder = write()
    mark = start[4:5] or "|"
    (folder / "metadata.csv").write_text(start + frame.to_csv(sep=mark, index=False))
    assert load_dataset(folder).train.frame.equals(load_dataset(frame, root=folder).train.frame)


def test_a_compressed_table_is_named(files: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.to_csv(tmp_path / "birds.csv.gz", index=False)
    with pytest.raises(DataError, match="Got: a compressed file"):
        load_dataset(tmp_path / "birds.csv.gz", root=files)


def test_minus_one_beside_other_labels_is_said_to_be_a_class(files: Path, frame: pd.DataFrame) -> None:
    with pytest.warns(SlimWarning, match="hold -1 beside 2 other values"):
        data = load_dataset(frame.assign(y=[-1, 0, 1, 1] * 5), root=files)
    assert data.train.class_names == ("-1", "0", "1")
    assert load_dataset(frame.assign(y=frame["y"] * 2 - 1), root=files).train.class_names == ("-1", "1")


@pytest.mark.parametrize("center", [0.2, 0.9])
def test_boxes_in_fractions_are_refused_whatever_they_count_from(
    files: Path, frame: pd.DataFrame, center: float
) -> None:
    with pytest.raises(DataError, match="in pixels. Got fractions"):
        load_dataset(frame.assign(box_x=center, box_y=center, box_width=0.4, box_height=0.4), root=files)


@pytest.mark.parametrize(("width", "warned"), [(8, False), (9, False), (12, True)])
def test_boxes_far_beyond_their_photo_are_named(
    files: Path, width: int, warned: bool, recwarn: pytest.WarningsRecorder
) -> None:
    row = {"path": [str(files / "00.png")], "y": [0], "box_x": 8.0, "box_y": 2.0, "box_height": 6.0}
    region = ImageTable(pd.DataFrame({**row, "box_width": float(width)}), ("a", "b")).region(0, 16)
    assert region[:, 8:].any()
    assert any("far beyond their photos" in str(one.message) for one in recwarn) is warned


def test_images_to_leave_out_may_be_named_as_in_the_table(write: Writer, tmp_path: Path) -> None:
    folder = write()
    (tmp_path / "bad.csv").write_text("path\n00.png\nsub/../01.png\n")
    assert len(load_dataset(folder, without=tmp_path / "bad.csv").train) == 10
    (tmp_path / "bad.csv").write_text(f"path\n{folder / '00.png'}\n/elsewhere/01.png\n")
    with pytest.warns(SlimWarning, match=r"1 of 2 images in .*bad.csv are not in the data set, such as /elsewhere/01"):
        assert len(load_dataset(folder, without=tmp_path / "bad.csv").train) == 11


@pytest.mark.parametrize(
    ("inner", "names"),
    [
        (("fold0/cat", "fold0/dog", "fold1/cat", "fold1/dog"), "fold0/cat, fold0/dog, fold1/cat, fold1/dog"),
        (("seg_train/seg_train/cat", "seg_train/seg_train/dog", "seg_test/x"), "seg_train/seg_train/cat"),
        (("animal/cat", "animal/dog", "thing"), "animal/cat, animal/dog"),
    ],
)
def test_folders_inside_those_of_the_classes_are_named(tmp_path: Path, inner: tuple[str, ...], names: str) -> None:
    for folder in inner:
        for i in range(10):
            save_image(tmp_path / folder / f"{i}.png")
    with pytest.warns(SlimWarning, match=f"not told apart: {names}"):
        load_dataset(tmp_path)


def test_one_folder_inside_each_class_is_nothing_to_tell(tmp_path: Path) -> None:
    for i in range(20):
        save_image(tmp_path / f"{'ab'[i % 2]}/images/{i}.png")
    save_image(tmp_path / "c/1.png")
    save_image(tmp_path / "c/more/2.png")
    assert load_dataset(tmp_path).train.class_names == ("a", "b", "c")


@pytest.mark.parametrize("mask", ["{i}_mask.png", "{i}-seg.png", "masks/{i}.png"])
def test_masks_among_the_images_are_named(tmp_path: Path, mask: str) -> None:
    for i in range(20):
        save_image(tmp_path / f"{'ab'[i % 2]}/{i}.png")
        save_image(tmp_path / f"{'ab'[i % 2]}" / mask.format(i=i))
    with pytest.warns(SlimWarning) as caught:
        load_dataset(tmp_path)
    assert any("taken for images of a class. Move masks elsewhere" in str(one.message) for one in caught)


@pytest.mark.parametrize("suffix", [".heic", ".dcm", ".npy"])
def test_files_that_are_no_images_are_named_where_there_is_nothing_else(tmp_path: Path, suffix: str) -> None:
    for i in range(4):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        (tmp_path / "ab"[i % 2] / f"{i}{suffix}").write_bytes(b"x")
    with pytest.raises(DataError, match=rf"Got 2 \{suffix} in .*a, 2 \{suffix} in .*b. Save them as JPEG or PNG"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_white_at_zero_is_white_at_any_depth(tmp_path: Path, depth: type) -> None:
    ramp = np.linspace(0, np.iinfo(depth).max, 64).reshape(8, 8).astype(depth)
    tifffile.imwrite(tmp_path / "negative.tif", ramp, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "positive.tif", ramp, photometric="minisblack")
    frame = pd.DataFrame({"path": [str(tmp_path / "negative.tif"), str(tmp_path / "positive.tif")], "y": [0, 0]})
    table = ImageTable(frame, ("a", "b"))
    assert np.asarray(table.image(0))[0, 0].tolist() == [255, 255, 255]
    assert np.asarray(table.image(1))[0, 0].tolist() == [0, 0, 0]


SQUARE = [1, 1, 5, 1, 5, 5, 1, 5]


@pytest.mark.parametrize(
    ("annotation", "image", "problem"),
    [
        ({}, {}, "KeyError: 'bbox'"),
        ({"bbox": None}, {}, "TypeError"),
        ({"segmentation": SQUARE}, {}, "TypeError"),
        ({"segmentation": {"size": [3, 3], "counts": [2, 2, 5]}}, {}, "ValueError"),
        ({"bbox": [1, 1, 4, 4]}, {"height": None}, "TypeError"),
    ],
)
def test_annotations_that_no_program_writes_are_named(
    files: Path, frame: pd.DataFrame, tmp_path: Path, annotation: Any, image: Any, problem: str
) -> None:
    with pytest.raises(DataError, match=f"must be a COCO file.* Got {problem}"):
        load_dataset(frame, root=files, mask=str(_coco(tmp_path, annotation, image)))


@pytest.mark.parametrize(
    ("annotation", "image"),
    [
        ({"segmentation": [SQUARE]}, {}),
        ({"segmentation": [[1, 1, 5, 5]], "bbox": [1, 1, 4, 4]}, {}),
        ({"bbox": [1, 1, 4, 4], "image_id": "7"}, {"id": 7}),
        ({"bbox": [1, 1, 4, 4], "image_id": "../../7"}, {"id": "../../7"}),
    ],
)
def test_odd_annotations_mark_what_they_mean(
    files: Path, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, annotation: Any, image: Any
) -> None:
    monkeypatch.setenv("SLIM_CACHE", str(tmp_path / "cache"))
    data = load_dataset(frame, root=files, mask=_coco(tmp_path, annotation, image))
    assert data.train.has_region.tolist() == [True] + [False] * 11
    assert np.asarray(Image.open(data.train.frame["mask"][0])).astype(bool).sum() == 16
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("content", ["no JSON", '{"images": [{"id": 1}], "annotations": []}'])
def test_a_file_that_is_not_cocos_is_refused_as_data(
    files: Path, frame: pd.DataFrame, tmp_path: Path, content: str
) -> None:
    (tmp_path / "objects.json").write_text(content)
    with pytest.raises(DataError, match="must be a COCO file"):
        load_dataset(frame, root=files, mask=str(tmp_path / "objects.json"))


def _coco(folder: Path, annotation: dict[str, Any], image: dict[str, Any]) -> Path:
    """A file with one annotation of the first image."""
    images = [{"id": 0, "file_name": "00.png", "height": 12, "width": 16, **image}]
    content = {"images": images, "annotations": [{"id": 0, "image_id": 0, **annotation}]}
    (folder / "objects.json").write_text(json.dumps(content))
    return folder / "objects.json"


def test_a_table_of_another_name_beside_the_images_is_pointed_at(write: Writer) -> None:
    folder = write()
    (folder / "metadata.csv").rename(folder / "labels.csv")
    with pytest.raises(DataError, match=r"must have metadata.csv or .* Name the table, .*labels.csv"):
        load_dataset(folder)
