"""Tables that are refused, each in one line that names the value and its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.data.conftest import N

from slim.data import load_dataset
from slim.errors import DataError, SettingsError, SlimWarning


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("y", 3, "dog", r"'y' must be whole numbers. Got 'dog' in row 3 .*pandas\.factorize"),
        ("y", 4, 0.5, r"whole numbers. Got '0\.5' in row 4"),
        ("y", 5, None, r"Labels in column 'y' must all be filled in. Got none in row 5"),
        ("split", 6, np.nan, r"Splits in column 'split' must all be filled in. Got none in row 6"),
        ("split", 7, 3, r"0, 1, 2 or train, val, test. Got '3(\.0)?' in row 7"),
        ("split", 7, "dev", r"0, 1, 2 or train, val, test. Got 'dev' in row 7"),
        ("place", 8, np.nan, r"Attributes in column 'place' must all be filled in. Got none in row 8"),
        ("img_filename", 9, None, r"Image files in column 'img_filename' must all be filled in. Got none in row 9"),
        ("img_filename", 2, "gone.png", r"image file must exist. Got 1 of 20 missing, the first is .*gone\.png"),
        ("img_filename", 13, "./00.png", r"one split only, or it leaks. Got .*00\.png in train and val"),
        ("img_filename", 1, "00.png", r"only one row. Got 2 rows for .*00\.png in train"),
        ("y", 13, 7, r"must have train images. Got none for class '7', which occurs in val"),
    ],
)
def test_wrong_value_is_named_with_its_place(
    files: Path, frame: pd.DataFrame, column: str, row: int, value: Any, message: str
) -> None:
    frame = frame.astype({column: object})
    frame.loc[row, column] = value
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(frame, root=files)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": 1}, "train must have at least two classes. Got only class '1'"),
        ({"split": [0] * 16 + [2] * 4}, "Every split must have images. Got none in val, of 20"),
        ({"a": 0}, r"must be unambiguous. Got columns place, a\. Choose one: attribute='place'"),
        ({"mask_filename": "gone.png"}, "Every mask file must exist. Got 20 of 20 missing, the first is .*gone.png"),
        ({"box_x": 0, "box_y": 0, "box_width": 4}, "all of box_x.* or none. Got no box_height"),
    ],
)
def test_wrong_column_is_refused(files: Path, frame: pd.DataFrame, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(frame.assign(**changes), root=files)


def test_missing_column_is_refused_with_those_that_are_there(files: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"column y with the labels. Got img_id, img_filename, split, place\."):
        load_dataset(frame.drop(columns="y"), root=files)
    with pytest.raises(DataError, match=r"img_filename \(or filename\).*Got img_id, y, split, place\."):
        load_dataset(frame.drop(columns="img_filename"), root=files)
    with pytest.raises(DataError, match="each column once. Got 'y' twice"):
        load_dataset(pd.concat([frame, frame[["y"]]], axis=1), root=files)


def test_unknown_attribute_or_mask_column_is_refused_with_candidates(files: Path, frame: pd.DataFrame) -> None:
    frame = frame.assign(sticker=0, lesion_mask="00_mask.png")
    with pytest.raises(DataError, match="place, sticker, lesion_mask. Got 'stiker'. Did you mean 'sticker'"):
        load_dataset(frame, root=files, attribute="stiker")
    with pytest.raises(DataError, match="attribute= must name .* Got 'y'"):
        load_dataset(frame, root=files, attribute=["place", "y"])
    with pytest.raises(DataError, match=r"mask= must name one of these columns: lesion_mask. Got 'mask'"):
        load_dataset(frame, root=files, mask="mask")


def test_attribute_with_too_many_values_is_refused(files: Path, frame: pd.DataFrame) -> None:
    many = {f"b{i}": np.arange(N) % 4 for i in range(6)}
    with pytest.raises(DataError, match="at most 1000 values. Got 1024 from b0"):
        load_dataset(frame.assign(**many), root=files, attribute=list(many))


@pytest.mark.parametrize("content", ["", "filename,y\na,0\nb,0,1,2\n", "filename,y\na,0,\nb,1,\n", "caf\xe9,y\n"])
def test_damaged_csv_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "metadata.csv").write_text(content, encoding="latin-1")
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path)
    assert "\n" not in str(caught.value)
    assert "metadata.csv" in str(caught.value)


def test_missing_folder_and_folder_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="birds must be a folder of images.*Got nothing there"):
        load_dataset(tmp_path / "birds")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"metadata.csv or a folder of images for each class. Got notes\.txt"):
        load_dataset(tmp_path)


def test_negative_seed_is_refused(files: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(SettingsError, match="seed must be at least 0. Got -1"):
        load_dataset(frame, root=files, seed=-1)


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(20, 80, 80),
        np.arange(80),
        [f"bird {i}" for i in range(80)],
        np.repeat(np.linspace(0, 1, 27), 3)[:80],
    ],
    ids=["measurements", "numbers", "names", "several images each"],
)
def test_attribute_whose_values_hardly_any_images_share_is_refused(tmp_path: Path, values: Any) -> None:
    frame = pd.DataFrame({"filename": [f"{i}.png" for i in range(80)], "y": np.arange(80) % 2, "place": values})
    with pytest.raises(DataError, match=r"values that many images share. Got (80|27) different ones .*'place'"):
        load_dataset(frame.assign(place=values), root=tmp_path)


@pytest.mark.parametrize("value", ["2,5", "wide", "inf"])
def test_box_that_is_no_number_is_named(files: Path, frame: pd.DataFrame, value: str) -> None:
    boxes = {"box_x": "1", "box_y": "1", "box_height": "2"}
    with pytest.raises(
        DataError, match=rf"decimal point and not a comma. Got '{value}' in column 'box_width' for 00.png"
    ):
        load_dataset(frame.assign(box_width=value, **boxes), root=files)


def test_repeated_row_is_not_blamed_on_splits_that_were_drawn(files: Path, frame: pd.DataFrame) -> None:
    frame = pd.concat([frame, frame]).drop(columns="split")
    with pytest.raises(DataError, match=r"only one row. Got 2 rows for .*00\.png\. Remove the others \(40 rows"):
        load_dataset(frame, root=files)


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("drawn", [True, False])
def test_image_that_a_link_repeats_is_refused(
    files: Path, frame: pd.DataFrame, tmp_path: Path, kind: str, drawn: bool
) -> None:
    if kind == "file":
        (tmp_path / "copy.png").symlink_to(files / "00.png")
    else:
        (tmp_path / "copies").symlink_to(files)
    copy = tmp_path / ("copy.png" if kind == "file" else "copies/00.png")
    frame.loc[19, "img_filename"] = str(copy)
    message = "only one row. Got 2 rows for" if drawn else "in one split only, or it leaks. Got"
    with pytest.raises(DataError, match=rf"{message} .*/00\.png \(the same file as {copy}\)"):
        load_dataset(frame.drop(columns="split") if drawn else frame, root=files)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("Caf\u00e9.PNG", "Write 'Caf\u00e9.png', which is there"),
        ("Cafe\u0301.png", "Write 'Caf\u00e9.png', which is there, with the same case, spaces and Unicode form"),
        ("Caf\u00e9.png ", "Write 'Caf\u00e9.png', which is there"),
        ("deep\\er.png", "Write / in place of its backslashes"),
        ("broken.png", "It is a link to .*gone.png, which is not there"),
        ("other.png", "Check root="),
    ],
)
def test_missing_file_comes_with_what_may_be_wrong_with_its_name(tmp_path: Path, name: str, remedy: str) -> None:
    (tmp_path / "deep").mkdir()
    for file in ("Caf\u00e9.png", "deep/er.png", *(f"{i}.png" for i in range(20))):
        (tmp_path / file).touch()
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone.png")
    frame = pd.DataFrame({"filename": [*(f"{i}.png" for i in range(19)), name], "y": np.arange(20) % 2})
    with pytest.raises(DataError, match=f"Got 1 of 20 missing, the first is .*{remedy}"):
        load_dataset(frame, root=tmp_path)


def test_boxes_in_fractions_are_refused(files: Path, frame: pd.DataFrame) -> None:
    table = frame.assign(box_x=0.25, box_y=0.1, box_width=0.5, box_height=0.9)
    with pytest.raises(
        DataError, match=r"must be in pixels. Got fractions of the image, such as 0\.25, 0\.1, 0\.5, 0\.9"
    ):
        load_dataset(table, root=files)


def test_column_that_a_csv_names_twice_is_refused(files: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    text = frame[["img_filename", "y", "place"]].to_csv(index=False).replace("place", " y", 1)
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(DataError, match=r"Got: the column 'y' twice"):
        load_dataset(tmp_path / "metadata.csv", root=files)


def test_quotation_mark_that_swallows_rows_is_told(files: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    rows = frame[["img_filename", "y"]].assign(note="none").to_csv(index=False).splitlines()
    rows[3], rows[6] = rows[3].replace("none", '"3'), rows[6].replace("none", 'three"')
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    with pytest.warns(SlimWarning, match="line break in column 'note' of row 2"):
        data = load_dataset(tmp_path / "metadata.csv", root=files)
    assert len(data.train) + len(data.val) + len(data.test) == N - 3


def test_label_that_no_integer_holds_is_refused(files: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="Got 100000000000000000000, which no integer of 64 bits holds"):
        load_dataset(frame.assign(y=[str(10**20 * (i % 2)) for i in range(N)]), root=files)


def test_attribute_that_is_another_in_each_image_is_refused(files: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="must have values that many images share. Got 20 different ones for 20"):
        load_dataset(frame.assign(place=range(N)), root=files)


def test_attribute_values_that_differ_in_case_are_told_and_unicode_forms_are_one(
    files: Path, frame: pd.DataFrame
) -> None:
    names = np.array(["caf\u00e9", "cafe\u0301"])[frame["place"]]
    assert load_dataset(frame.assign(place=names), root=files).train.n_attributes == 1
    with pytest.warns(SlimWarning, match="called 'Land' and 'land', which are taken for two"):
        load_dataset(frame.assign(place=np.array(["Land", "land"])[frame["place"]]), root=files)


def test_name_with_a_line_break_stays_in_one_line(files: Path, frame: pd.DataFrame) -> None:
    frame.loc[0, "img_filename"] = "new\nline.png"
    with pytest.raises(DataError, match=r"the first is .*new\\nline\.png") as caught:
        load_dataset(frame, root=files)
    assert "\n" not in str(caught.value)


def test_zero_byte_in_a_name_is_refused(files: Path, frame: pd.DataFrame) -> None:
    frame.loc[3, "img_filename"] = "a\0b.png"
    with pytest.raises(DataError, match="must not hold a zero byte"):
        load_dataset(frame, root=files)
