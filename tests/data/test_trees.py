"""ImageFolder trees, with and without splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.data.conftest import save_image

from slim.data import load_dataset
from slim.errors import DataError


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
    with pytest.raises(DataError, match="train images. Got none for class 'c', which occurs in test"):
        load_dataset(tree(tmp_path, counts))


@pytest.mark.parametrize("argument", ["root", "attribute", "mask"])
def test_tree_refuses_arguments_of_tables(tmp_path: Path, argument: str) -> None:
    root = tree(tmp_path, {"a": 9, "b": 9})
    with pytest.raises(DataError, match=f"With {argument}=, the source must be a table.*no metadata.csv"):
        load_dataset(root, **{argument: "x"})  # type: ignore[arg-type]
