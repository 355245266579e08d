"""metadata.csv and DataFrames: labels, attributes, splits and file names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tests.data.conftest import N, Writer

from slim.data import load_dataset
from slim.errors import DataError


def test_metadata_folder_gives_three_splits_with_labels_and_groups(write: Writer) -> None:
    data = load_dataset(write())
    assert [len(table) for table in (data.train, data.val, data.test)] == [12, 4, 4]
    assert [table.split for table in (data.train, data.val, data.test)] == ["train", "val", "test"]
    assert data.name == "birds"
    assert data.train.class_names == ("0", "1")
    assert data.train.attribute_names == ("place=0", "place=1")
    assert data.train.group_names == ("0, place=0", "0, place=1", "1, place=0", "1, place=1")
    assert data.train.groups is not None
    assert data.train.groups.tolist()[:4] == [0, 2, 1, 3]
    assert data.train.regions is None
    assert all(Path(path).is_absolute() for path in data.train.paths)


def test_training_shares_come_from_all_train_images(files: Path, frame: pd.DataFrame) -> None:
    frame["place"] = np.where(np.arange(N) < 3, 1, 0)
    data = load_dataset(frame, root=files)
    for table in (data.train, data.test, data.val[[0]]):
        assert table.training_shares is not None
        np.testing.assert_allclose(table.training_shares, np.array([4, 2, 5, 1]) / 12)


def test_source_loads_the_same_data_again(write: Writer) -> None:
    first = load_dataset(str(write(sticker=0, dark=1)), attribute=("sticker", "dark"), seed=3)
    again = load_dataset(**json.loads(json.dumps(first.source)))
    assert first.source["attribute"] == ["sticker", "dark"]
    assert (again.fingerprint, again.source) == (first.fingerprint, first.source)


def test_csv_file_and_dataframe_equal_the_folder(write: Writer, frame: pd.DataFrame) -> None:
    folder = write()
    table = folder / "rows.csv"
    shutil.copy(folder / "metadata.csv", table)
    by_file, by_frame = load_dataset(table), load_dataset(frame, root=folder)
    assert by_file.fingerprint == by_frame.fingerprint == load_dataset(folder).fingerprint
    assert by_file.name == "rows"
    assert by_frame.source["source"] is None
    assert by_frame.train.paths == by_file.train.paths


def test_root_says_where_file_names_start(write: Writer, files: Path, tmp_path: Path) -> None:
    folder = write()
    shutil.copy(folder / "metadata.csv", tmp_path / "elsewhere.csv")
    with pytest.raises(DataError, match=f"{N} of {N} missing.*00.png.*root="):
        load_dataset(tmp_path / "elsewhere.csv")
    assert load_dataset(tmp_path / "elsewhere.csv", root=files).train.paths[0] == str(files / "00.png")


def test_absolute_file_names_need_no_root(files: Path, frame: pd.DataFrame) -> None:
    frame["img_filename"] = [str(files / name) for name in frame["img_filename"]]
    assert load_dataset(frame).train.paths[0] == str(files / "00.png")


def test_dataframe_is_not_changed(files: Path, frame: pd.DataFrame) -> None:
    frame.index = pd.Index(range(50, 50 + N))
    before = frame.copy(deep=True)
    load_dataset(frame, root=files)
    pd.testing.assert_frame_equal(frame, before)


def test_filename_and_a_columns_are_understood(files: Path, frame: pd.DataFrame) -> None:
    data = load_dataset(frame.rename(columns={"img_filename": "filename", "place": "a"}), root=files)
    assert data.train.attribute_names == ("a=0", "a=1")


@pytest.mark.parametrize("names", [["train", "valid", "test"], ["Train", "validation", "TEST"], ["0.0", "1.0", "2.0"]])
def test_split_names_mean_the_same_as_numbers(files: Path, frame: pd.DataFrame, names: list[str]) -> None:
    expected = load_dataset(frame, root=files).fingerprint
    assert load_dataset(frame.assign(split=[names[i] for i in frame["split"]]), root=files).fingerprint == expected


def test_labels_are_numbered_in_order_of_their_values(files: Path, frame: pd.DataFrame) -> None:
    data = load_dataset(frame.assign(y=[10, -1] * (N // 2)), root=files)
    assert data.train.class_names == ("-1", "10")
    assert data.train.y.tolist() == [1, 0] * 6


def test_more_than_two_classes_and_attribute_values_are_fine(files: Path, frame: pd.DataFrame) -> None:
    data = load_dataset(frame.assign(y=np.arange(N) % 3, place=np.arange(N) % 4), root=files)
    assert (data.train.n_classes, data.train.n_attributes, data.train.n_groups) == (3, 4, 12)
    assert data.train.groups is not None
    np.testing.assert_array_equal(data.train.groups, np.arange(12) % 3 * 4 + np.arange(12) % 4)


def test_class_name_column_names_the_labels(files: Path, frame: pd.DataFrame) -> None:
    names = ["land", "water"] * (N // 2)
    assert load_dataset(frame.assign(class_name=names), root=files).train.class_names == ("land", "water")
    with pytest.raises(DataError, match="one name per label.*land, sea"):
        load_dataset(frame.assign(class_name=["land", "water"] * 9 + ["sea", "water"]), root=files)


def test_several_attributes_are_crossed(files: Path, frame: pd.DataFrame) -> None:
    dark = np.arange(N) // 4 % 2
    data = load_dataset(frame.assign(sticker=frame["place"], dark=dark), root=files, attribute=["sticker", "dark"])
    assert data.train.attribute_names == tuple(f"sticker={s}, dark={d}" for s in (0, 1) for d in (0, 1))
    assert data.train.a is not None
    np.testing.assert_array_equal(data.train.a, frame["place"][:12] * 2 + dark[:12])


def test_text_attribute_is_numbered_alphabetically(files: Path, frame: pd.DataFrame) -> None:
    data = load_dataset(frame.assign(scene=["sea", "forest"] * (N // 2)), root=files, attribute="scene")
    assert data.train.attribute_names == ("scene=forest", "scene=sea")
    assert data.train.a is not None
    assert data.train.a.tolist() == [1, 0] * 6


@pytest.mark.parametrize("attribute", [None, []])
def test_no_attribute_means_no_groups(files: Path, frame: pd.DataFrame, attribute: list[str] | None) -> None:
    source = frame.drop(columns="place") if attribute is None else frame
    table = load_dataset(source.assign(sticker=0), root=files, attribute=attribute).train
    assert (table.a, table.groups, table.training_shares) == (None, None, None)
    assert (table.attribute_names, table.group_names, table.n_groups) == ((), (), 0)
    assert "a" not in table.frame


def test_missing_split_column_is_carved_without_looking_at_groups(files: Path, frame: pd.DataFrame) -> None:
    unsplit = frame.drop(columns="split")
    data = load_dataset(unsplit, root=files, seed=1)
    assert [len(table) for table in (data.train, data.val, data.test)] == [14, 2, 4]
    other = load_dataset(unsplit.assign(place=1 - frame["place"]), root=files, seed=1)
    assert other.train.paths == data.train.paths
    assert load_dataset(unsplit, root=files, seed=2).train.paths != data.train.paths


@pytest.mark.parametrize("separator", [",", ";", "\t", " , "])
def test_table_of_a_spreadsheet_is_read_whatever_separates_its_values(write: Writer, separator: str) -> None:
    folder = write()
    plain = load_dataset(folder)
    table = folder / "metadata.csv"
    table.write_text("\ufeff" + table.read_text().replace(",", separator), encoding="utf-8")
    if separator == " , ":  # spaces after a file's name could belong to it
        table.write_text(table.read_text(encoding="utf-8-sig").replace(".png ,", ".png,"))
    assert load_dataset(folder).fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("low", "high"), [(2**53, 2**53 + 1), (5, 2**63 - 1), (1 - 2**63, 2 - 2**63)], ids=["floats", "large", "negative"]
)
def test_huge_labels_and_attributes_stay_apart(files: Path, frame: pd.DataFrame, low: int, high: int) -> None:
    frame["y"] = [str(high if y else low) for y in frame["y"]]
    frame["place"] = [str(high if place else low) for place in frame["place"]]
    table = load_dataset(frame, root=files).train
    assert table.class_names == (str(low), str(high))
    assert table.attribute_names == (f"place={low}", f"place={high}")
    assert table.y.tolist() == [0, 1] * 6


def test_spaces_and_ways_to_write_a_number_make_no_values(files: Path, frame: pd.DataFrame) -> None:
    frame["y"] = ["0", "1", " 0", "1.0", "0e0", "01", "-0", "+1", "0.", "1 "] * 2
    frame["place"] = ["land", " land", "water ", "water"] * 5
    frame["size"] = ["0.5", "0.50", "1.5", "1.50"] * 5
    table = load_dataset(frame, root=files, attribute=["place", "size"]).train
    assert table.class_names == ("0", "1")
    assert table.y.tolist() == [0, 1] * 6
    assert table.attribute_names == tuple(f"place={p}, size={s}" for p in ("land", "water") for s in ("0.5", "1.5"))


def test_labels_may_be_tensors(files: Path, frame: pd.DataFrame) -> None:
    plain = load_dataset(frame, root=files)
    tensors = frame.assign(y=[torch.tensor(y) for y in frame["y"]])
    assert load_dataset(tensors, root=files).fingerprint == plain.fingerprint
