"""ImageFolder trees, with and without splits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.data.conftest import save_image

from slim.data import load_dataset
from slim.errors import DataError, SlimWarning


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


class Reversed:
    """What `os.scandir` gives, in the reversed order of the names."""

    def __init__(self, listed: Any, path: Any) -> None:
        self.entries = iter(sorted(listed(path), key=lambda entry: entry.name, reverse=True))

    def __iter__(self) -> Iterator[Any]:
        return self.entries

    def __next__(self) -> Any:
        return next(self.entries)

    def __enter__(self) -> Iterator[Any]:
        return self.entries

    def __exit__(self, *_: object) -> None:
        return


def test_order_in_which_the_disk_lists_its_files_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, {"cat": 9, "dog": 12, "dog/deep": 2})
    expected = load_dataset(root)

    monkeypatch.setattr(os, "scandir", partial(Reversed, os.scandir))
    data = load_dataset(root)
    assert data.fingerprint == expected.fingerprint
    assert data.train.frame.equals(expected.train.frame)


def test_tree_without_splits_ignores_hidden_and_system_files_and_looks_into_subfolders(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {"cat": 9, "dog": 10, ".cache": 3, "cat/.thumbs": 2, "__MACOSX": 1, "cat/@eaDir": 2, "$RECYCLE.BIN": 1},
    )
    save_image(root / "cat" / "deep" / "er" / "PHOTO.JPEG")
    save_image(root / "cat" / ".hidden.png")
    (root / "cat" / "Thumbs.db").touch()
    (root / "notes.txt").touch()
    data = load_dataset(root)
    assert data.train.class_names == ("cat", "dog")
    assert [len(table) for table in (data.train, data.val, data.test)] == [14, 2, 4]
    everything = [path for table in (data.train, data.val, data.test) for path in table.paths]
    assert str(root / "cat" / "deep" / "er" / "PHOTO.JPEG") in everything


@pytest.mark.parametrize(
    "suffix", [".jfif", ".JFIF", ".jpe", ".avif", ".jp2", ".j2k", ".pbm", ".pnm", ".tga", ".webp", ".TIF", ".dib"]
)
def test_images_of_every_usual_suffix_are_found(tmp_path: Path, suffix: str) -> None:
    root = tree(tmp_path, {"cat": 5, "dog": 10})
    for i in range(5):
        save_image(root / "cat" / f"other{i}{suffix}")
    data = load_dataset(root)
    assert sum(len(table) for table in (data.train, data.val, data.test)) == 20
    for table in (data.train, data.val, data.test):
        for i in range(len(table)):
            assert table.image(i).size == (8, 6)


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ("cat/photo.heic", r"1 \.heic in .*cat"),
        ("cat/deep/photo", r"1 without suffix in .*cat"),
        ("docs/notes.txt", r"1 \.txt in .*docs"),
        ("docs/.keep", r"empty folder .*docs"),
        ("loose.png", r"1 \.png in "),
    ],
)
def test_what_a_tree_leaves_out_is_told(tmp_path: Path, extra: str, told: str) -> None:
    root = tree(tmp_path, {"cat": 10, "dog": 10})
    (root / extra).parent.mkdir(parents=True, exist_ok=True)
    (root / extra).touch()
    with pytest.warns(SlimWarning, match=rf"Left out: {told}"):
        data = load_dataset(root)
    assert data.train.class_names == ("cat", "dog")
    assert sum(len(table) for table in (data.train, data.val, data.test)) == 20


def test_folders_beside_those_of_the_splits_are_told(tmp_path: Path) -> None:
    root = tree(tmp_path, {f"{part}/{name}": 2 for part in ("train", "val", "test", "more") for name in "ab"})
    with pytest.warns(SlimWarning, match="Left out: folder more"):
        assert len(load_dataset(root).train) == 4


@pytest.mark.parametrize(
    "names", [("training", "dev", "testing"), ("Training", "valid", "Test"), ("train", "dev", "test")]
)
def test_folders_of_splits_have_many_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    data = load_dataset(tree(tmp_path, {f"{part}/{name}": 2 for part in names for name in ("a", "b")}))
    assert data.train.class_names == ("a", "b")
    assert [len(table) for table in (data.train, data.val, data.test)] == [4, 4, 4]


@pytest.mark.parametrize("names", [("test", "control"), ("training", "racing"), ("dev", "ops")])
def test_classes_may_be_called_as_splits_are(tmp_path: Path, names: tuple[str, ...]) -> None:
    data = load_dataset(tree(tmp_path, dict.fromkeys(names, 10)))
    assert data.train.class_names == tuple(sorted(names))


def test_splits_below_the_classes_are_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, {f"{name}/{part}": 2 for part in ("train", "test") for name in ("a", "b")})
    with pytest.raises(DataError, match=r"above those of the classes. Got test, train in .*a. Swap them: train/a"):
        load_dataset(root)


def test_links_back_to_a_folder_are_not_followed(tmp_path: Path) -> None:
    root = tree(tmp_path / "tree", {"a": 10, "b": 5, "b/deep": 5})
    (root / "a" / "loop").symlink_to(root / "a")
    (root / "b" / "deep" / "up").symlink_to(root)
    data = load_dataset(root)
    assert sum(len(table) for table in (data.train, data.val, data.test)) == 20


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_photo_that_a_link_puts_into_two_splits_leaks(tmp_path: Path, kind: str) -> None:
    root = tree(tmp_path, {f"{part}/{name}": 2 for part in ("train", "val", "test") for name in ("a", "b")})
    link, target = ("1.png", "0.jpg") if kind == "file" else ("more", "")
    (root / "test" / "a" / link).symlink_to(root / "train" / "a" / target)
    with pytest.raises(DataError, match=r"in one split only, or it leaks. Got .*the same file as .* in test and train"):
        load_dataset(root)


def test_links_to_photos_elsewhere_are_followed_and_broken_ones_are_named(tmp_path: Path) -> None:
    tree(tmp_path / "store", {"a": 10, "b": 10})
    root = tree(tmp_path / "tree", {"a": 0})
    (root / "b").symlink_to(tmp_path / "store" / "b")
    for i in range(10):
        (root / "a" / f"{i}.jpg").symlink_to(tmp_path / "store" / "a" / f"{i}.jpg")
    data = load_dataset(root)
    assert sum(len(table) for table in (data.train, data.val, data.test)) == 20
    (tmp_path / "store" / "a" / "3.jpg").unlink()
    with pytest.raises(DataError, match=r"Got 1 of 20 missing.*a/3.jpg. It is a link to .*store/a/3.jpg, which is not"):
        load_dataset(root)


def test_tree_with_an_empty_split_folder_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, {"train/a": 9, "train/b": 9, "val/a": 0})
    with pytest.raises(DataError, match=r"val must have a folder of images for each class. Got a\..*remove val"):
        load_dataset(root)


@pytest.mark.parametrize(
    ("names", "told"),
    [(("train", "val", "valid", "test"), "val, val, valid"), (("Train", "training", "test"), "train, Train, training")],
)
def test_folders_of_two_names_for_one_split_are_told(tmp_path: Path, names: tuple[str, ...], told: str) -> None:
    root = tree(tmp_path, {f"{part}/{name}": 6 for part in names for name in ("a", "b")})
    with pytest.warns(SlimWarning, match=f"several folders for {told}, whose images are merged"):
        data = load_dataset(root)
    assert sum(map(len, (data.train, data.val, data.test))) == 12 * len(names)


def test_tree_without_train_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Got none in train"):
        load_dataset(tree(tmp_path, {"val/a": 2, "val/b": 2, "test/a": 2, "test/b": 2}))


def test_tree_with_a_class_that_train_lacks_is_refused(tmp_path: Path) -> None:
    counts = {"train/a": 9, "train/b": 9, "test/a": 1, "test/c": 1}
    with pytest.raises(DataError, match="train images. Got none for class 'c', which occurs in test"):
        load_dataset(tree(tmp_path, counts))


@pytest.mark.parametrize("argument", ["root", "attribute", "mask"])
def test_tree_refuses_arguments_of_tables(tmp_path: Path, argument: str) -> None:
    root = tree(tmp_path, {"a": 9, "b": 9})
    with pytest.raises(DataError, match=f"With {argument}=, the source must be a table.*no metadata.csv"):
        load_dataset(root, **{argument: "x"})  # type: ignore[arg-type]


def test_classes_that_are_numbers_are_in_the_order_of_numbers_and_a_warning_tells_the_other(tmp_path: Path) -> None:
    root = tree(tmp_path, {str(n): 10 for n in (2, 10, 1)})
    with pytest.warns(SlimWarning, match=r"ordered by number, 1, 2, 10\. .*ImageFolder has them in .* 1, 10, 2"):
        data = load_dataset(root)
    assert data.train.class_names == ("1", "2", "10")
    assert {Path(path).parent.name for path in data.train[data.train.y == 2].paths} == {"10"}


@pytest.mark.parametrize("names", [("1", "02", "x10"), ("8", "9"), ("a10", "a9")])
def test_classes_of_other_names_are_in_the_order_of_text(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert load_dataset(tree(tmp_path, dict.fromkeys(names, 10))).train.class_names == tuple(sorted(names))


@pytest.mark.parametrize("names", [("Cat", "cat"), ("caf\u00e9", "cafe\u0301"), ("dog", "dog ")])
def test_folders_that_differ_in_what_is_easily_overlooked_are_told(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.warns(SlimWarning, match="taken for two"):
        assert load_dataset(tree(tmp_path, dict.fromkeys(names, 10))).train.n_classes == 2


@pytest.mark.parametrize("names", [("images", "masks"), ("cat", "dog", "Annotations")])
def test_folder_of_masks_among_the_classes_is_told(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.warns(SlimWarning, match="which is taken for a class"):
        load_dataset(tree(tmp_path, dict.fromkeys(names, 10)))


@pytest.mark.parametrize("parts", [("train_set", "val_set", "test_set"), ("trn", "dev", "tst"), ("train1", "train2")])
def test_folders_that_seem_to_be_splits_are_not_taken_for_classes(tmp_path: Path, parts: tuple[str, ...]) -> None:
    root = tree(tmp_path, {f"{part}/{name}": 4 for part in parts for name in ("a", "b")})
    with pytest.raises(DataError, match="must be called train, val and test. Got"):
        load_dataset(root)


def test_classes_that_are_all_called_as_splits_are_told(tmp_path: Path) -> None:
    root = tree(tmp_path, dict.fromkeys(("trainA", "trainB", "testA", "testB"), 5))
    with pytest.warns(SlimWarning, match="named like splits: testA, testB, trainA, trainB"):
        assert load_dataset(root).train.n_classes == 4


def test_photo_that_a_hard_link_puts_into_two_splits_leaks(tmp_path: Path) -> None:
    root = tree(tmp_path, {f"{part}/{name}": 3 for part in ("train", "val", "test") for name in ("a", "b")})
    (root / "test/a/0.jpg").unlink()
    (root / "test/a/0.jpg").hardlink_to(root / "train/a/0.jpg")
    with pytest.raises(DataError, match=r"or it leaks. Got .*the same file as .*\) in test and train\. "):
        load_dataset(root)


@pytest.mark.skipif(find_spec("pyarrow") is None, reason="without pyarrow pandas keeps any name")
def test_name_outside_utf_8_is_refused_where_pyarrow_keeps_the_names(tmp_path: Path) -> None:
    root = tree(tmp_path, {f"{part}/{name}": 1 for part in ("train", "val", "test") for name in ("dog", "cat")})
    (root / "train" / "cat" / "0.jpg").rename(root / "train" / "cat" / os.fsdecode(b"\xe4.jpg"))
    with pytest.raises(DataError, match=r"must be UTF-8 for pandas with pyarrow. Got '.*\\udce4.jpg'. Rename it"):
        load_dataset(root)
    with pd.option_context("mode.string_storage", "python"):
        assert len(load_dataset(root).train) == 2
