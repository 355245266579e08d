"""Data sets of Hugging Face's datasets, in memory and as saved to disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from slim.data import check, load_dataset
from slim.errors import DataError, SlimError

datasets = pytest.importorskip("datasets", reason="needs pip install 'slim-vision[transformers]'")

Make = Callable[..., Any]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A split of photos in the files of a folder, of two classes by turns, with an attribute and masks."""
    monkeypatch.setenv("SLIM_CACHE", str(tmp_path / "cache"))

    def split(n: int, name: str = "train", labels: Any = None, kind: Any = None) -> Any:
        rng, files = np.random.default_rng(len(name)), []
        for i in range(n):
            files.append(str(tmp_path / f"{name}{i}.png"))
            Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(files[-1])
            Image.fromarray(np.full((12, 16), 255, np.uint8)).save(tmp_path / f"{name}{i}-mask.png")
        masks = [file.replace(".png", "-mask.png") for file in files]
        columns = {"image": files, "label": labels or [i % 2 for i in range(n)], "place": ["sea", "land", "land"] * n}
        dataset = datasets.Dataset.from_dict({**columns, "place": columns["place"][:n], "seg": masks})
        classes = kind or datasets.ClassLabel(names=["dog", "cat"])
        images = {"image": datasets.Image(), "seg": datasets.Image()}
        return dataset.cast(datasets.Features({**dataset.features, **images, "label": classes}))

    return split


def test_saved_data_set_has_classes_in_the_order_of_its_labels(make: Make, tmp_path: Path) -> None:
    parts = {"train": make(12), "validation": make(6, "validation"), "test": make(6, "test")}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    before = sorted(tmp_path.glob("saved/**/*"))
    for file in tmp_path.glob("*.png"):
        file.unlink()  # the saved data set holds them
    data = load_dataset(tmp_path / "saved", mask="seg")
    assert data.train.class_names == ("dog", "cat")
    assert [len(table) for table in (data.train, data.val, data.test)] == [12, 6, 6]
    assert data.train.attribute_names == ("place=land", "place=sea")
    assert data.train.y.tolist() == [0, 1] * 6
    assert data.train.image(3).size == (16, 12)
    assert data.test.region(0, 8).all()
    assert sorted(tmp_path.glob("saved/**/*")) == before
    again = load_dataset(**data.source)
    assert (again.fingerprint, again.name) == (data.fingerprint, "saved")


def test_images_in_files_of_their_own_stay_there_and_missing_splits_are_carved(make: Make, tmp_path: Path) -> None:
    data = load_dataset(datasets.DatasetDict({"train": make(20), "test": make(4, "test")}))
    assert [len(table) for table in (data.train, data.val, data.test)] == [18, 2, 4]
    assert all(path.startswith(str(tmp_path / "train")) for path in data.train.paths)
    assert not (tmp_path / "cache").exists()
    assert [len(table) for table in _tables(load_dataset(make(20)))] == [14, 2, 4]


def test_format_or_transform_for_training_changes_nothing(make: Make) -> None:
    plain = make(20)
    for changed in (plain.with_format("numpy"), plain.with_transform(lambda rows: {"pixel_values": rows["label"]})):
        data = load_dataset(changed)
        assert data.fingerprint == load_dataset(plain).fingerprint
        assert data.train.image(3).size == (16, 12)


def test_data_set_that_streams_is_refused(make: Make) -> None:
    with pytest.raises(DataError, match="Got one that streams. Load it without streaming=True"):
        load_dataset(make(6).to_iterable_dataset())


@pytest.mark.parametrize("layout", ["data/train-00000-of-00001.parquet", "train.parquet"])
def test_folder_of_parquet_is_read_with_its_classes(make: Make, tmp_path: Path, layout: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    for split in ("train", "test"):
        file = tmp_path / "parquet" / layout.replace("train", split)
        file.parent.mkdir(parents=True, exist_ok=True)
        make(20, split).to_parquet(file)
    data = load_dataset(tmp_path / "parquet")
    assert (data.name, data.train.class_names) == ("parquet", ("dog", "cat"))
    assert [len(table) for table in _tables(data)] == [18, 2, 20]
    assert load_dataset(**data.source).fingerprint == data.fingerprint


def test_file_of_parquet_may_hold_images_as_bytes(make: Make, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    images = [{"bytes": (tmp_path / f"train{i}.png").read_bytes(), "path": None} for i in range(len(make(20)))]
    pd.DataFrame({"photo": images, "label": ["cat", "dog"] * 10}).to_parquet(tmp_path / "photos.parquet")
    data = load_dataset(tmp_path / "photos.parquet")
    assert data.train.class_names == ("cat", "dog")
    assert data.train.image(0).size == (16, 12)


def test_damaged_image_is_listed_and_can_be_left_out(make: Make, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    images = [{"bytes": (tmp_path / f"train{i}.png").read_bytes(), "path": None} for i in range(len(make(20)))]
    images[7]["bytes"] = b"<html>"
    pd.DataFrame({"photo": images, "label": ["cat", "dog"] * 10}).to_parquet(tmp_path / "photos.parquet")
    found = check(load_dataset(tmp_path / "photos.parquet"))
    assert [Path(fault.path).stem for fault in found.faults] == ["7"]
    found.write(tmp_path / "bad.csv")
    assert sum(map(len, _tables(load_dataset(tmp_path / "photos.parquet", without=tmp_path / "bad.csv")))) == 19


def _tables(data: Any) -> list[Any]:
    return [data.train, data.val, data.test]


def test_classes_by_name_alone_are_in_alphabetical_order(make: Make) -> None:
    data = load_dataset(make(20, labels=["dog", "cat"] * 10, kind=datasets.Value("string")))
    assert data.train.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 1]] * 6, "An image must have one label. Got a list"),
        ([0, 1, 0, 1, 0, -1], "Every image must have a label. .* row 5"),
    ],
)
def test_several_labels_or_none_are_refused(make: Make, labels: Any, message: str) -> None:
    kind = datasets.ClassLabel(names=["dog", "cat"])
    several = isinstance(labels[0], list)
    with pytest.raises(DataError, match=message):
        load_dataset(make(6, labels=labels, kind=datasets.Sequence(kind) if several else kind))


def test_data_sets_without_images_or_labels_or_known_splits_are_refused(make: Make) -> None:
    with pytest.raises(DataError, match="must have a feature of images. Got text"):
        load_dataset(datasets.Dataset.from_dict({"text": ["a"], "label": [0]}))
    with pytest.raises(DataError, match="must have a feature label"):
        load_dataset(make(6).remove_columns("label"))
    with pytest.raises(DataError, match="must be named train, validation and test. Got train, extra"):
        load_dataset(datasets.DatasetDict({"train": make(6), "extra": make(6, "extra")}))


def test_package_that_is_not_installed_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dataset_dict.json").write_text("{}")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(SlimError, match=r"pip install 'slim-vision\[transformers\]'"):
        load_dataset(tmp_path)
