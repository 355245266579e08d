"""Shards of WebDataset, and other tar archives: read in place, as if each were a folder."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from webdataset import TarWriter

from slim.data import archives, check, image_batches, load_dataset
from slim.data.archives import members
from slim.errors import DataError
from slim.runs.known_data import versions

PHOTO = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
MASK = np.zeros((12, 16), np.uint8)
MASK[3:9, 4:12] = 255
Shard = Callable[..., Path]


@pytest.fixture
def shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shard:
    """Writes an archive of samples, two classes by turns, each with some more files."""
    monkeypatch.setenv("SLIM_CACHE", str(tmp_path / "cache"))

    def write(name: str, n: int = 8, **more: Callable[[int], Any]) -> Path:
        path = tmp_path / "birds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with TarWriter(str(path)) as writer:
            for i in range(n):
                sample = {"png": PHOTO + np.uint8(i), "cls": i % 2, **{end: make(i) for end, make in more.items()}}
                writer.write({"__key__": f"{i:03}", **{end: one for end, one in sample.items() if one is not None}})
        return path

    return write


def test_folder_of_shards_is_a_data_set(shard: Shard, tmp_path: Path) -> None:
    for name in ("birds-train-0.tar", "birds-train-1.tar", "birds-val-0.tar", "birds-test-0.tar"):
        shard(name, json=lambda i: {"place": "sea" if i < 4 else "land", "tags": ["x"]}, **{"mask.png": lambda _: MASK})
    data = load_dataset(tmp_path / "birds", mask="mask.png")
    assert [len(data.split(split)) for split in ("train", "val", "test")] == [16, 8, 8]
    assert (data.name, data.train.class_names) == ("birds", ("0", "1"))
    assert data.train.attribute_names == ("place=land", "place=sea")
    assert data.train.y.tolist() == [0, 1] * 8
    assert data.train.paths[9] == str(tmp_path / "birds" / "birds-train-1.tar" / "001.png")
    assert (np.asarray(data.train.image(9)) == PHOTO + 1).all()
    assert data.val.region(2, 12)[3:9, 3:9].all()
    assert not check(data).faults
    assert load_dataset(**data.source).fingerprint == data.fingerprint
    assert not list(tmp_path.glob("birds/**/*.png")), "shards are read in place"


def test_batches_from_shards_are_those_of_files_in_processes_too(shard: Shard, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        with tarfile.open(shard(f"{split}.tar")) as tar:
            tar.extractall(tmp_path / "unpacked" / f"{split}.tar", filter="data")
    packed = load_dataset(tmp_path / "birds").train
    files = [path.replace(str(tmp_path / "birds"), str(tmp_path / "unpacked")) for path in packed.paths]
    loose = replace(packed, frame=packed.frame.assign(path=files))
    (expected,) = image_batches(loose, 16)
    for workers in (0, 1):
        (found,) = image_batches(packed, 16, workers=workers)
        assert all(one.equal(other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("label", "names"),
    [
        ({"cls": lambda i: 3 + i % 2}, ("3", "4")),
        ({"cls": lambda _: None, "json": lambda i: {"label": "sea"[i % 2 :]}}, ("ea", "sea")),
    ],
)
def test_labels_are_numbers_or_names(shard: Shard, label: dict[str, Any], names: tuple[str, ...]) -> None:
    assert load_dataset(shard("birds.tar", 20, **label)).train.class_names == names


def test_splits_are_said_by_folders_or_drawn(shard: Shard, tmp_path: Path) -> None:
    shard("train/0.tar", 20), shard("validation/0.tar")
    data = load_dataset(tmp_path / "birds")
    assert [len(data.split(split)) for split in ("train", "val", "test")] == [16, 8, 4]
    alone = load_dataset(tmp_path / "birds" / "validation" / "0.tar", seed=1)
    assert sum(len(alone.split(split)) for split in ("train", "val", "test")) == 8


def test_folder_of_something_else_beside_shards_is_left_out(shard: Shard, tmp_path: Path) -> None:
    shard("birds.tar", 20)
    (tmp_path / "birds" / "runs" / "first").mkdir(parents=True)
    assert len(load_dataset(tmp_path / "birds").train) == 14


def test_table_may_name_files_in_archives(shard: Shard, tmp_path: Path) -> None:
    archive = shard("photos.tar", 20, **{"mask.png": lambda _: MASK})
    names = [f"photos.tar/{i:03}" for i in range(20)]
    table = pd.DataFrame(
        {
            "filename": [f"{name}.png" for name in names],
            "y": [0, 1] * 10,
            "mask_filename": [f"{name}.mask.png" for name in names],
        }
    )
    table.to_csv(archive.parent / "metadata.csv", index=False)
    data = load_dataset(archive.parent)
    assert data.train.region(0, 12).any()
    table.loc[3, "filename"] = "photos.tar/3.png"
    with pytest.raises(DataError, match=r"must exist. Got 1 of 20 missing, the first is .*photos.tar/3.png"):
        load_dataset(table, root=archive.parent)


@pytest.mark.parametrize("above", ["", "train"])
def test_folders_of_classes_beside_an_archive_stay_a_tree(shard: Shard, tmp_path: Path, above: str) -> None:
    shard("all.tar")
    for name in ("cat", "dog"):
        (tmp_path / "birds" / above / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(PHOTO + np.uint8(i)).save(tmp_path / "birds" / above / name / f"{i}.png")
    assert load_dataset(tmp_path / "birds").train.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (
            {"cls": lambda _: None},
            "must have its label in a file .cls, or in its .json as y or label or cls. Got png of 000 in",
        ),
        ({"png": lambda _: None}, "must have one photo. Got cls of 000 in .* Add its photo"),
        ({"jpg": lambda _: PHOTO}, "must have one photo. Got cls, jpg, png of 000 in .* Name the mask"),
        ({"json": lambda _: [1]}, "must hold a JSON object"),
    ],
)
def test_refused_samples(shard: Shard, more: Mapping[str, Any], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        load_dataset(shard("birds.tar", **more))


def test_refused_shards(shard: Shard, tmp_path: Path) -> None:
    shard("train.tar"), shard("more.tar")
    with pytest.raises(DataError, match=r"All shards must say their split .* Got none for more.tar/000.png"):
        load_dataset(tmp_path / "birds")
    whole = shard("train.tar").read_bytes()
    for content in (gzip.compress(whole), whole[: len(whole) // 2 + 100], b"no archive" * 100):
        (tmp_path / "odd.tar").write_bytes(content)
        with pytest.raises(DataError, match=r"odd.tar must be a complete tar archive that is not compressed"):
            load_dataset(tmp_path / "odd.tar")
    with tarfile.open(tmp_path / "none.tar", "w") as tar:
        tar.add(__file__, "notes.txt")
    with pytest.raises(DataError, match=r"Shards must hold samples"):
        load_dataset(tmp_path / "none.tar")


def test_names_that_lead_out_of_an_archive_are_no_files_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIM_CACHE", str(tmp_path / "cache"))
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        for name in ("../secret.jpg", "a/../../secret.jpg", "/abs/b.jpg", "./c.jpg"):
            tar.addfile(tarfile.TarInfo(name))
    assert set(members(str(tmp_path / "odd.tar"))) == {"abs/b.jpg", "c.jpg"}


def test_damaged_photo_in_a_shard_is_found_by_check(shard: Shard, tmp_path: Path) -> None:
    archive = shard("birds.tar", 20)
    data = load_dataset(archive)
    path = data.train.paths[2]
    place = members(str(archive))[Path(path).name]
    with archive.open("r+b") as stream:
        stream.seek(place.start)
        stream.write(b"\0" * 100)
    assert [fault.path for fault in check(data).faults] == [path]


def test_places_in_an_archive_are_kept_and_follow_it(shard: Shard, tmp_path: Path) -> None:
    archive = shard("birds.tar")
    assert len(members(str(archive))) == 16
    (kept,) = (tmp_path / "cache" / "archives").glob("*.json")
    kept.write_text("{")
    archives._members.cache_clear()  # as another process
    assert len(members(str(archive))) == 16
    before = versions(archive.parent)
    shard("birds.tar", 5)
    assert len(members(str(archive))) == 10
    assert versions(archive.parent) != before


def test_cache_that_cannot_be_written_is_no_loss(shard: Shard, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()  # no folder
    assert len(load_dataset(shard("birds.tar", 20)).train) == 14
