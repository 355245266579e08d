from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from slim.datasets import Dataset, ImageTable, image_batches, load_dataset
from slim.datasets.splits import carve
from slim.errors import DataError, SettingsError

N = 20
quick = settings(max_examples=40, deadline=None)
Writer = Callable[..., Path]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of N small images of different content, and a mask of each."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for i in range(N):
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(folder / f"{i:02}.png")
        Image.fromarray((rng.random((12, 16)) > 0.5).astype(np.uint8) * 255).save(folder / f"{i:02}_mask.png")
    return folder


@pytest.fixture
def frame() -> pd.DataFrame:
    """A correct table of the N images: both labels and both attribute values in every split."""
    rows = np.arange(N)
    return pd.DataFrame(
        {
            "img_id": rows + 100,
            "img_filename": [f"{i:02}.png" for i in rows],
            "y": rows % 2,
            "split": np.repeat([0, 1, 2], [12, 4, 4]),
            "place": rows // 2 % 2,
        }
    )


@pytest.fixture
def write(files: Path, frame: pd.DataFrame, tmp_path: Path) -> Writer:
    """Writes the images and metadata.csv, with some columns changed, to a new folder."""

    def writer(**changes: Any) -> Path:
        folder = tmp_path / "birds"
        shutil.copytree(files, folder)
        frame.assign(**changes).to_csv(folder / "metadata.csv", index=False)
        return folder

    return writer


def one_image(folder: Path, array: npt.NDArray[np.uint8], **columns: object) -> ImageTable:
    """A table of one image with these pixels."""
    path = folder / "image.png"
    Image.fromarray(array).save(path)
    return ImageTable(pd.DataFrame({"path": [str(path)], "y": [0], **columns}), ("cat", "dog"))


def save_image(path: Path, size: tuple[int, int] = (8, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


# --- metadata.csv and DataFrames ---------------------------------------------------------------------------


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
    with pytest.raises(DataError, match="one name of its own.*land, sea"):
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


# --- what a table must hold --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("y", 3, "dog", r"'y' must be whole numbers. Got 'dog' in row 3 .*pandas\.factorize"),
        ("y", 4, 0.5, r"whole numbers. Got '0\.5' in row 4"),
        ("y", 5, None, r"Labels in column 'y' must all be given. Got none in row 5"),
        ("split", 6, np.nan, r"Splits in column 'split' must all be given. Got none in row 6"),
        ("split", 7, 3, r"0, 1, 2 or train, val, test. Got '3(\.0)?' in row 7"),
        ("split", 7, "dev", r"0, 1, 2 or train, val, test. Got 'dev' in row 7"),
        ("place", 8, np.nan, r"Attributes in column 'place' must all be given. Got none in row 8"),
        ("img_filename", 9, None, r"Image files in column 'img_filename' must all be given. Got none in row 9"),
        ("img_filename", 2, "gone.png", r"image file must be there. Got 1 of 20 missing, the first is .*gone\.png"),
        ("img_filename", 13, "./00.png", r"one split alone, else it leaks. Got .*00\.png in train and val"),
        ("img_filename", 1, "00.png", r"one row alone. Got 2 rows for .*00\.png in train"),
        ("y", 13, 7, r"must have train images. Got none for class '7', which val has"),
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
        ({"y": 1}, "train must have at least two classes. Got class '1' alone"),
        ({"split": [0] * 16 + [2] * 4}, "Every split must have images. Got none in val, of 20"),
        ({"a": 0}, r"no doubt about its attribute. Got columns place, a\. Choose one: attribute='place'"),
        ({"mask_filename": "gone.png"}, "Every mask file must be there. Got 20 of 20 missing, the first is .*gone.png"),
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
    with pytest.raises(DataError, match=r"mask= must name a column that can be one: lesion_mask. Got 'mask'"):
        load_dataset(frame, root=files, mask="mask")


def test_attribute_with_too_many_values_is_refused(files: Path, frame: pd.DataFrame) -> None:
    many = {f"b{i}": np.arange(N) % 4 for i in range(6)}
    with pytest.raises(DataError, match="at most 1000. Got 1024 with b0"):
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


# --- ImageFolder trees -------------------------------------------------------------------------------------


def tree(root: Path, counts: dict[str, int]) -> Path:
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            save_image(root / folder / f"{i}.jpg")
    return root


def test_tree_with_splits_keeps_them(tmp_path: Path) -> None:
    parts = {"train": 4, "validation": 2, "test": 1}
    root = tree(tmp_path, {f"{part}/{name}": n for part, n in parts.items() for name in ("dog", "cat")})
    data = load_dataset(root)
    assert [len(table) for table in (data.train, data.val, data.test)] == [8, 4, 2]
    assert data.train.class_names == ("cat", "dog")
    assert [Path(path).parent.name for path in data.train[data.train.y == 1].paths] == ["dog"] * 4
    assert data.train.groups is None


@pytest.mark.parametrize(
    ("present", "sizes"),
    [(("train", "test"), [18, 2, 2]), (("train", "val"), [16, 2, 4]), (("train",), [14, 2, 4])],
)
def test_tree_lacking_a_split_has_it_carved_out_of_train(
    tmp_path: Path, present: tuple[str, ...], sizes: list[int]
) -> None:
    counts = {f"{part}/{name}": 10 if part == "train" else 1 for part in present for name in ("a", "b")}
    data = load_dataset(tree(tmp_path, counts))
    assert [len(table) for table in (data.train, data.val, data.test)] == sizes
    assert np.bincount(data.train.y).tolist() == [sizes[0] // 2] * 2


def test_tree_without_splits_ignores_hidden_and_other_files_and_looks_into_subfolders(tmp_path: Path) -> None:
    root = tree(tmp_path, {"cat": 9, "dog": 10, "docs": 0, ".cache": 3, "cat/.thumbs": 2})
    save_image(root / "cat" / "deep" / "er" / "PHOTO.JPEG")
    save_image(root / "cat" / ".hidden.png")
    (root / "cat" / "notes.txt").touch()
    data = load_dataset(root)
    assert data.train.class_names == ("cat", "dog")
    assert [len(table) for table in (data.train, data.val, data.test)] == [14, 2, 4]
    everything = [path for table in (data.train, data.val, data.test) for path in table.paths]
    assert str(root / "cat" / "deep" / "er" / "PHOTO.JPEG") in everything


def test_tree_with_an_empty_split_folder_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, {"train/a": 9, "train/b": 9, "val/a": 0})
    with pytest.raises(DataError, match=r"val must have a folder of images for each class. Got a\..*remove val"):
        load_dataset(root)


def test_tree_without_train_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Got none in train"):
        load_dataset(tree(tmp_path, {"val/a": 2, "val/b": 2, "test/a": 2, "test/b": 2}))


def test_tree_with_a_class_that_train_lacks_is_refused(tmp_path: Path) -> None:
    counts = {"train/a": 9, "train/b": 9, "test/a": 1, "test/c": 1}
    with pytest.raises(DataError, match="train images. Got none for class 'c', which test has"):
        load_dataset(tree(tmp_path, counts))


@pytest.mark.parametrize("argument", ["root", "attribute", "mask"])
def test_tree_refuses_arguments_of_tables(tmp_path: Path, argument: str) -> None:
    root = tree(tmp_path, {"a": 9, "b": 9})
    with pytest.raises(DataError, match=f"{argument}= must go with a table.*no metadata.csv"):
        load_dataset(root, **{argument: "x"})  # type: ignore[arg-type]


# --- splits ------------------------------------------------------------------------------------------------


@quick
@given(
    y=st.lists(st.integers(0, 4), max_size=80),
    seed=st.integers(0, 9),
    parts=st.sampled_from([("val", "test"), ("val",), ("test",)]),
)
def test_carved_split_is_a_stratified_partition(y: list[int], seed: int, parts: tuple[str, ...]) -> None:
    labels = np.array(y, dtype=np.int64)
    split = carve(labels, [str(i) for i in range(len(y))], seed, parts)
    tenths = {"val": 1, "test": 2, "train": 10 - sum({"val": 1, "test": 2}[part] for part in parts)}
    assert set(split) <= {"train", *parts}
    for label in set(y):
        for part in ("train", *parts):
            share = (labels == label).sum() * tenths[part] / 10
            assert abs(((split == part) & (labels == label)).sum() - share) < 1
    assert set(labels[split == "train"]) == set(y)


@quick
@given(order=st.permutations(range(30)), seed=st.integers(0, 9))
def test_carved_split_depends_on_seed_and_files_alone(order: list[int], seed: int) -> None:
    y, keys = np.arange(30) % 3, [f"{i}.png" for i in range(30)]
    split = carve(y, keys, seed)
    again = carve(y[order], [keys[i] for i in order], seed)
    assert again.tolist() == split[order].tolist()


def test_carved_split_of_many_small_classes_still_fills_val_and_test() -> None:
    y = np.repeat(np.arange(10), 4)
    split = carve(y, [str(i) for i in range(40)], seed=0)
    assert pd.Series(split).value_counts().to_dict() == {"train": 28, "test": 8, "val": 4}


# --- fingerprint -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(files: Path) -> tuple[pd.DataFrame, Dataset]:
    """A table with every kind of column, and what it loads as."""
    rows = np.arange(N)
    frame = pd.DataFrame({"filename": [f"{i:02}.png" for i in rows], "y": rows % 2, "split": rows // 2 % 3})
    frame = frame.assign(a=rows % 3 % 2, mask_filename=[f"{i:02}_mask.png" for i in rows])
    frame = frame.assign(box_x=1.0, box_y=2.0, box_width=3.0, box_height=4.0)
    return frame, load_dataset(frame, root=files)


@quick
@given(row=st.integers(0, N - 1), column=st.sampled_from(["y", "split", "a", "mask_filename", "box_x", "box_height"]))
def test_fingerprint_changes_with_any_value(
    files: Path, plain: tuple[pd.DataFrame, Dataset], row: int, column: str
) -> None:
    frame, data = plain
    values = frame[column].tolist()
    values[row] = {"mask_filename": "", "split": (frame["split"][row] + 1) % 3}.get(column, 7 if "box" in column else 1)
    if values[row] == frame[column][row]:
        values[row] = 0
    edited = frame.assign(**{column: values})
    assert load_dataset(edited, root=files).fingerprint != data.fingerprint


def test_fingerprint_changes_with_rows_and_their_order(files: Path, plain: tuple[pd.DataFrame, Dataset]) -> None:
    frame, data = plain
    changed = [frame.iloc[1:], frame.iloc[::-1], frame.assign(class_name=np.where(frame["y"] == 1, "x", "z"))]
    prints = [load_dataset(edited, root=files).fingerprint for edited in changed]
    assert len({*prints, data.fingerprint}) == 4


def test_fingerprint_stays_when_columns_or_the_folder_move(
    files: Path, plain: tuple[pd.DataFrame, Dataset], tmp_path: Path
) -> None:
    frame, data = plain
    shutil.copytree(files, tmp_path / "copy")
    moved = frame[frame.columns[::-1]].assign(note="unrelated")
    absolute = frame.assign(filename=[str(files / name) for name in frame["filename"]])
    assert load_dataset(moved, root=tmp_path / "copy").fingerprint == data.fingerprint
    assert load_dataset(absolute, root=files).fingerprint == data.fingerprint
    assert len(data.fingerprint) == 16
    assert int(data.fingerprint, 16) >= 0


# --- ImageTable --------------------------------------------------------------------------------------------


@quick
@given(data=st.data())
def test_table_indexing_composes(plain: tuple[pd.DataFrame, Dataset], data: st.DataObject) -> None:
    table = plain[1].train
    first = data.draw(st.lists(st.integers(0, len(table) - 1), max_size=12))
    second = data.draw(st.lists(st.integers(0, len(first) - 1), max_size=12)) if first else []
    part = table[first][second]
    assert part.paths == [table.paths[first[i]] for i in second]
    np.testing.assert_array_equal(part.y, table.y[first][second])
    assert part.frame.index.tolist() == list(range(len(second)))
    assert (part.class_names, part.attribute_names, part.split) == (table.class_names, table.attribute_names, "train")
    assert part.training_shares is table.training_shares


def test_table_takes_slices_masks_and_negative_positions(plain: tuple[pd.DataFrame, Dataset]) -> None:
    table = plain[1].train
    assert table[::2].paths == table.paths[::2]
    assert table[np.array([-1])].paths == table.paths[-1:]
    assert table[table.y == 1].y.tolist() == [1] * int((table.y == 1).sum())
    assert len(table[[]]) == 0
    assert table[[]].y.dtype == np.int64


def test_table_refuses_wrong_indices(plain: tuple[pd.DataFrame, Dataset]) -> None:
    table = plain[1].train
    with pytest.raises(IndexError):
        table[[len(table)]]
    with pytest.raises(IndexError):
        table[np.array([True])]
    with pytest.raises(TypeError, match=r"table\[\[3\]\]"):
        table[3]  # type: ignore[index]


def test_table_arrays_are_copies(plain: tuple[pd.DataFrame, Dataset]) -> None:
    table = plain[1].train
    before = table.y
    table.y[:] = 9
    np.testing.assert_array_equal(table.y, before)


def test_repr_counts_groups_and_stays_short(plain: tuple[pd.DataFrame, Dataset]) -> None:
    text = repr(plain[1])
    assert text.startswith(f"Dataset(table, fingerprint {plain[1].fingerprint})\n  ImageTable(train, ")
    assert "2 classes, masks: 0, a=0 (" in text
    many = ImageTable(plain[1].train.frame, ("0", "1"), tuple(f"a={i}" for i in range(50)))
    assert "and 92 more" in repr(many)


# --- pixels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK", "I;16"])
def test_image_is_rgb_whatever_the_file_holds(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    grey = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8))
    wide = Image.fromarray(np.array([[0, 65535], [65535, 0]], dtype=np.uint16))
    (wide if mode == "I;16" else grey.convert("RGB").convert(mode)).save(path)
    image = ImageTable(pd.DataFrame({"path": [str(path)], "y": [0]}), ("a", "b")).image(0)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image)[..., 0] > 127, [[False, True], [True, False]])


def test_palette_image_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.new("P", (4, 4), 1).save(path, transparency=bytes([0, 128]))
    assert ImageTable(pd.DataFrame({"path": [str(path)], "y": [0]}), ("a", "b")).image(0).mode == "RGB"


def test_image_is_turned_upright_and_its_mask_must_fit_that(tmp_path: Path) -> None:
    image, exif = Image.new("RGB", (16, 12)), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "image.jpg", exif=exif)
    for name, size in (("upright.png", (12, 16)), ("stored.png", (16, 12))):
        Image.new("L", size, 255).save(tmp_path / name)
    paths = [str(tmp_path / "image.jpg")] * 2
    masks = [str(tmp_path / "upright.png"), str(tmp_path / "stored.png")]
    table = ImageTable(pd.DataFrame({"path": paths, "y": [0, 1], "mask": masks}), ("a", "b"))
    assert table.image(0).size == (12, 16)
    assert table.region(0, 4).all()
    with pytest.raises(DataError, match=r"image.jpg, 12 x 16 pixels. Got 16 x 12 in .*stored.png"):
        table.region(1, 4)


@pytest.mark.parametrize("damage", ["truncated", "text", "missing"])
def test_unreadable_image_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "image.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1500])
    elif damage == "text":
        path.write_text("no image")
    else:
        path.unlink()
    table = ImageTable(pd.DataFrame({"path": [str(path)], "y": [0]}), ("a", "b"))
    with pytest.raises(DataError, match=r"image\.jpg must be a readable image. Got: ") as caught:
        table.image(0)
    assert "\n" not in str(caught.value)


# --- regions -----------------------------------------------------------------------------------------------


def test_mask_region_is_aligned_with_the_resized_frame(tmp_path: Path) -> None:
    mask = np.zeros((12, 24), dtype=np.uint8)
    mask[:6, 16:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    table = one_image(tmp_path, np.zeros((12, 24, 3), dtype=np.uint8), mask=[str(tmp_path / "mask.png")])
    expected = np.zeros((6, 6), dtype=bool)
    expected[:3, 4:] = True
    np.testing.assert_array_equal(table.region(0, 6), expected)
    assert table.regions == "masks"


@pytest.mark.parametrize("kind", ["255", "1", "bool", "palette", "rgb", "16 bit", "soft"])
def test_mask_of_any_usual_kind_is_understood(tmp_path: Path, kind: str) -> None:
    inside = np.arange(48).reshape(6, 8) % 3 == 0
    whole = inside.astype(np.uint8)
    palette = Image.fromarray(whole)
    palette.putpalette([0, 0, 0, 128, 0, 0])
    mask = {
        "255": Image.fromarray(whole * 255),
        "1": Image.fromarray(whole),
        "bool": Image.fromarray(inside),
        "palette": palette,
        "rgb": Image.fromarray(whole * 255).convert("RGB"),
        "16 bit": Image.fromarray(whole.astype(np.uint16) * 65535),
        "soft": Image.fromarray(np.where(inside, 128, 127).astype(np.uint8)),
    }[kind]
    mask.save(tmp_path / "mask.png")
    table = one_image(tmp_path, np.zeros((6, 8, 3), dtype=np.uint8), mask=[str(tmp_path / "mask.png")])
    np.testing.assert_array_equal(table.region(0, 24)[::4, ::3], inside)


def test_mask_of_nothing_is_empty(tmp_path: Path) -> None:
    Image.new("L", (8, 6)).save(tmp_path / "mask.png")
    table = one_image(tmp_path, np.zeros((6, 8, 3), dtype=np.uint8), mask=[str(tmp_path / "mask.png")])
    assert not table.region(0, 4).any()


def test_mask_of_several_dark_values_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[1, 2, 3]], dtype=np.uint8)).save(tmp_path / "mask.png")
    table = one_image(tmp_path, np.zeros((1, 3, 3), dtype=np.uint8), mask=[str(tmp_path / "mask.png")])
    with pytest.raises(DataError, match=r"0 and 1, or 0 and 255. Got values up to 3"):
        table.region(0, 4)


def test_image_without_mask_is_allowed_until_its_region_is_asked_for(files: Path, frame: pd.DataFrame) -> None:
    frame["own"] = ["" if i % 2 else f"{i:02}_mask.png" for i in range(N)]
    table = load_dataset(frame, root=files, mask="own").train
    assert table.has_region.tolist() == [True, False] * 6
    assert table.region(0, 5).shape == (5, 5)
    with pytest.raises(DataError, match=r"01.png must have a mask .*table\[table.has_region\]"):
        table.region(1, 5)
    with pytest.raises(DataError, match="must have a box"):
        table.region(0, 5, kind="boxes")


def test_mask_column_without_any_mask_is_no_mask_column(files: Path, frame: pd.DataFrame) -> None:
    table = load_dataset(frame.assign(mask_filename=np.nan), root=files).train
    assert table.regions is None
    assert not table.has_region.any()


def test_box_rows_are_y_and_columns_are_x(tmp_path: Path) -> None:
    box = {"box_x": [20.0], "box_y": [0.0], "box_width": [10.0], "box_height": [10.0]}
    table = one_image(tmp_path, np.zeros((20, 40, 3), dtype=np.uint8), **box)
    expected = np.zeros((4, 4), dtype=bool)
    expected[0:2, 2] = True  # upper half, third quarter from the left
    expected[0:2, 3] = False
    np.testing.assert_array_equal(table.region(0, 4), expected)
    assert table.regions == "boxes"
    assert table.has_region.all()


@quick
@given(data=st.data(), size=st.sampled_from([1, 2, 4, 8, 16, 64]))
def test_box_region_equals_that_of_the_same_box_drawn_as_a_mask(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, size: int
) -> None:
    folder = tmp_path_factory.mktemp("box")
    x, y = data.draw(st.integers(0, 15)), data.draw(st.integers(0, 7))
    width, height = data.draw(st.integers(1, 16 - x)), data.draw(st.integers(1, 8 - y))
    mask = np.zeros((8, 16), dtype=np.uint8)
    mask[y : y + height, x : x + width] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    box = {"box_x": [x], "box_y": [y], "box_width": [width], "box_height": [height]}
    table = one_image(folder, np.zeros((8, 16, 3), dtype=np.uint8), mask=[str(folder / "mask.png")], **box)
    by_mask, by_box = table.region(0, size), table.region(0, size, kind="boxes")
    if by_mask.any():
        np.testing.assert_array_equal(by_box, by_mask)
    else:
        assert by_box.any()


def test_tiny_box_covers_one_pixel_and_box_beyond_the_edge_is_cut(tmp_path: Path) -> None:
    box = {"box_x": [38.0], "box_y": [0.1], "box_width": [100.0], "box_height": [0.1]}
    table = one_image(tmp_path, np.zeros((20, 40, 3), dtype=np.uint8), **box)
    assert np.argwhere(table.region(0, 4)).tolist() == [[0, 3]]


def test_box_outside_its_image_is_refused(tmp_path: Path) -> None:
    box = {"box_x": [40.0], "box_y": [0.0], "box_width": [5.0], "box_height": [5.0]}
    table = one_image(tmp_path, np.zeros((20, 40, 3), dtype=np.uint8), **box)
    with pytest.raises(DataError, match="must overlap its image .*40 x 20 pixels. Got x 40"):
        table.region(0, 4)


@pytest.mark.parametrize("key", ["img_id", "img_filename"])
def test_boxes_are_joined_by_id_and_never_by_position(write: Writer, frame: pd.DataFrame, key: str) -> None:
    folder = write()
    boxes = pd.DataFrame({key: frame[key], "x": np.arange(N) / 10, "y": 1, "width": 3, "height": 4})
    boxes.iloc[::-1].to_csv(folder / "boxes.csv", index=False)
    data = load_dataset(folder)
    np.testing.assert_allclose(data.val.frame["box_x"], np.arange(12, 16) / 10)
    boxes.to_csv(folder / "boxes.csv", index=False)
    assert load_dataset(folder).fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda boxes: boxes.drop(index=3), r"Got none for 1 of 20, the first is 03\.png"),
        (lambda boxes: pd.concat([boxes, boxes[:1]]), "one box an image. Got two for 100"),
        (lambda boxes: boxes.drop(columns="img_id"), "an id that metadata.csv has too.*Got x, y, width, height"),
        (lambda boxes: boxes.drop(columns="width"), "must have x, y, width, height"),
        (lambda boxes: boxes.assign(width=0), r"width and a height above 0. Got 0 x 4 for 00\.png"),
    ],
)
def test_wrong_box_file_is_refused(
    write: Writer, frame: pd.DataFrame, edit: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    folder = write()
    boxes = pd.DataFrame({"img_id": frame["img_id"], "x": 0, "y": 1, "width": 3, "height": 4})
    edit(boxes).to_csv(folder / "boxes.csv", index=False)
    with pytest.raises(DataError, match=message):
        load_dataset(folder)


# --- batches -----------------------------------------------------------------------------------------------


def pixels(table: ImageTable, size: int = 8, **arguments: object) -> torch.Tensor:
    """All images of the batches, one after another."""
    return torch.cat([images for images, _, _ in image_batches(table, size, **arguments)])  # type: ignore[arg-type]


@quick
@given(order=st.lists(st.integers(0, 6), max_size=15), batch_size=st.integers(1, 5))
def test_batches_follow_the_order(plain: tuple[pd.DataFrame, Dataset], order: list[int], batch_size: int) -> None:
    table = plain[1].train
    batches = image_batches(table, 8, batch_size, order=order)
    seen = list(batches)
    assert len(batches) == len(seen) == -(-len(order) // batch_size)
    assert [i for _, _, index in seen for i in index.tolist()] == order
    assert [y for _, labels, _ in seen for y in labels.tolist()] == table.y[order].tolist()
    assert all(len(images) == batch_size for images, _, _ in seen[:-1])


def test_batches_are_the_whole_frame_resized(plain: tuple[pd.DataFrame, Dataset]) -> None:
    table = plain[1].train
    images, y, index = next(iter(image_batches(table, 8)))
    assert (images.dtype, y.dtype, index.dtype) == (torch.uint8, torch.int64, torch.int64)
    assert images.shape == (len(table), 3, 8, 8)
    assert images.is_contiguous(memory_format=torch.channels_last)
    expected = np.asarray(table.image(2).resize((8, 8), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(images[2].permute(1, 2, 0).numpy(), expected)


def test_batches_can_be_gone_through_twice_and_left_early(plain: tuple[pd.DataFrame, Dataset]) -> None:
    batches = image_batches(plain[1].train, 8, 1, augmentation="light")
    iterator = iter(batches)
    first = next(iterator)[0]
    del iterator
    assert torch.equal(next(iter(batches))[0], first)


# Python 3.12 and later warn of every fork of a process with threads, which is how torch starts its own.
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_augmentation_does_not_depend_on_workers_batch_size_or_order(plain: tuple[pd.DataFrame, Dataset]) -> None:
    table, order = plain[1].train, [3, 1, 3, 0]
    expected = pixels(table, order=order, augmentation="light", seed=5, epoch=2)
    small = pixels(table, order=order, augmentation="light", seed=5, epoch=2, batch_size=1)
    processes = pixels(table, order=order, augmentation="light", seed=5, epoch=2, batch_size=3, workers=1)
    turned = pixels(table, order=[0, 3, 1, 3], augmentation="light", seed=5, epoch=2)
    assert torch.equal(small, expected)
    assert torch.equal(processes, expected)
    assert torch.equal(turned, expected[[3, 0, 1, 2]])


def test_augmentation_differs_between_copies_epochs_and_seeds(plain: tuple[pd.DataFrame, Dataset]) -> None:
    table = plain[1].train
    drawn = [pixels(table, order=[0, 0], augmentation="light", seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0))]
    images = [image.numpy().tobytes() for pair in drawn for image in pair]
    assert len(set(images)) == 6


def test_augmentation_keeps_most_of_the_frame_and_flips_half(tmp_path: Path) -> None:
    across, down = np.meshgrid(np.linspace(0, 255, 300), np.linspace(0, 255, 100))
    ramp = np.stack([across, down, down], axis=-1).astype(np.uint8)
    table = one_image(tmp_path, ramp)
    images = pixels(table, 32, order=[0] * 200, augmentation="light").numpy().astype(float)
    width = (images[:, 0, 16, -1] - images[:, 0, 16, 0]) / 255 * 32 / 31
    height = (images[:, 1, -1, 16] - images[:, 1, 0, 16]) / 255 * 32 / 31
    area, ratio = np.abs(width) * height, np.abs(width) / height
    assert 0.66 < area.min() < 0.75
    assert 0.95 < area.max() < 1.03
    assert ratio.min() > 0.72
    assert ratio.max() < 1.39
    assert 70 < (width < 0).sum() < 130


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_leave_global_random_state_alone(plain: tuple[pd.DataFrame, Dataset], workers: int) -> None:
    before = torch.get_rng_state(), str(np.random.get_state(legacy=False)), random.getstate()
    pixels(plain[1].train, augmentation="light", workers=workers)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (str(np.random.get_state(legacy=False)), random.getstate()) == before[1:]


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_image_stops_the_batches_with_its_name_in_one_line(
    plain: tuple[pd.DataFrame, Dataset], tmp_path: Path, workers: int
) -> None:
    path = tmp_path / "broken.png"
    path.write_text("no image")
    frame = plain[1].train.frame.copy()
    frame.loc[3, "path"] = str(path)
    with pytest.raises(DataError, match="broken.png must be a readable image") as caught:
        pixels(ImageTable(frame, ("0", "1")), batch_size=2, workers=workers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 0}, "image_size must be at least 1. Got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1. Got 0"),
        ({"seed": -1}, "seed must be at least 0. Got -1"),
        ({"workers": -2}, "workers must be at least 0. Got -2"),
        ({"augmentation": "heavy"}, "one of none, light. Got 'heavy'"),
    ],
)
def test_batches_refuse_wrong_settings(
    plain: tuple[pd.DataFrame, Dataset], arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        image_batches(plain[1].train, **{"image_size": 8, **arguments})  # type: ignore[arg-type]


def test_batches_refuse_positions_outside_the_table(plain: tuple[pd.DataFrame, Dataset]) -> None:
    with pytest.raises(IndexError):
        image_batches(plain[1].train, 8, order=[99])
