"""CelebA (Liu et al., 2015): blond hair or not, where hair goes with gender."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from slim.data.benchmarks.benchmark import WHOLE, Benchmark, Content
from slim.data.benchmarks.copies import Copy
from slim.data.benchmarks.download import RemoteFile
from slim.errors import DataError
from slim.files import read_cells

_IMAGES = "img_align_celeba"
_LABEL = "Blond_Hair"
_CLASSES = {"0": "not blond", "1": "blond"}


def read(copy: Copy, seed: int) -> Content:
    """The official lists, as text or as the CSV files of Kaggle; all other attributes become columns too."""
    attributes = _attributes(copy.need("list_attr_celeba.txt", "list_attr_celeba.csv"))
    listed = copy.need("list_eval_partition.txt", "list_eval_partition.csv")
    partition = _partition(listed)
    outside = ~attributes.index.isin(partition.index)
    if outside.any():
        raise DataError(
            f"{listed} must name the split of every image. Got none for {attributes.index[outside][0]}, and for "
            f"{int(outside.sum())} images in all. Copy the file again."
        )
    images = copy.need(_IMAGES, archives=(f"{_IMAGES}.zip",))
    if (images / _IMAGES).is_dir():
        images = images / _IMAGES  # as Kaggle packs it
    y = attributes[_LABEL]
    frame = attributes.drop(columns=_LABEL).assign(
        img_filename=attributes.index, y=y, split=partition.reindex(attributes.index), class_name=y.map(_CLASSES)
    )
    return Content(frame.reset_index(drop=True), (images,))


def _attributes(path: Path) -> pd.DataFrame:
    """The attributes, 0 or 1, by the name of the image."""
    if path.suffix == ".csv":
        frame = read_cells(path, index_col=0)
    else:
        with path.open(encoding="utf-8-sig") as stream:
            announced, names = stream.readline().strip(), stream.readline().split()
        frame = read_cells(path, sep=r"\s+", header=None, skiprows=2, names=["image_id", *names], index_col=0)
        if announced != str(len(frame)):
            raise DataError(
                f"{path} must list as many images as its first line says, {announced}. Got {len(frame)}. "
                "Copy the file again, or correct that line in a subset."
            )
    if _LABEL not in frame:
        raise DataError(
            f"{path} must have the attribute {_LABEL}. Got {len(frame.columns)} others. Copy the file again."
        )
    for row, column in np.argwhere(~frame.isin(["-1", "1"]).to_numpy())[:1]:
        raise DataError(
            f"Attributes in {path} must be -1 or 1. Got {frame.iat[row, column]!r} as {frame.columns[column]} of "
            f"{frame.index[row]}. Copy the file again."
        )
    return frame.replace({"-1": "0"})


def _partition(path: Path) -> pd.Series[str]:
    """The split, 0 to 2, by the name of the image; the text has no line of headers, the CSV file has."""
    text = {"sep": r"\s+", "header": None, "names": ["image_id", "partition"]}
    return read_cells(path, index_col=0, **({} if path.suffix == ".csv" else text)).iloc[:, 0]


def _sources(name: str, drive: str, dropbox: str, md5: str) -> RemoteFile:
    """A file of the official Google Drive and Dropbox folders."""
    return RemoteFile(
        name,
        (
            f"https://drive.usercontent.google.com/download?id={drive}&export=download&confirm=t",
            f"https://www.dropbox.com/sh/8oqt9vytwxb3s4r/{dropbox}/{name}?dl=1",
        ),
        md5,
    )


def _groups(*counts: int) -> dict[str, int]:
    """Published counts by label and gender, as Sagawa et al. (2020) and later work use them."""
    names = [f"{name}, Male={male}" for name in _CLASSES.values() for male in (0, 1)]
    return dict(zip(names, counts, strict=True))


CELEBA = Benchmark(
    "CelebA",
    read,
    "Male",
    {
        "train": {WHOLE: 162_770} | _groups(71_629, 66_874, 22_880, 1_387),
        "val": {WHOLE: 19_867} | _groups(8_535, 8_276, 2_874, 182),
        "test": {WHOLE: 19_962} | _groups(9_767, 7_535, 2_480, 180),
    },
    (
        _sources(
            "list_attr_celeba.txt",
            "0B7EVK8r0v71pblRyaVFSWGxPY0U",
            "AAC7-uCaJkmPmvLX2_P5qy0ga/Anno",
            "75e246fa4810816ffd6ee81facbd244c",
        ),
        _sources(
            "list_eval_partition.txt",
            "0B7EVK8r0v71pY0NSMzRuSXJEVkk",
            "AADxLE5t6HqyD8sQCmzWJRcHa/Eval",
            "d32c9cbf5e040fd4025c592c306e6668",
        ),
        _sources(
            f"{_IMAGES}.zip",
            "0B7EVK8r0v71pZjFTYXZWM3FlRnM",
            "AADIKlz8PR9zr6Y20qbkunrba/Img",
            "00d2c5bc6d35e252742224ab0c1e8fcb",
        ),
    ),
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    "CelebA is for non-commercial research.",
)
