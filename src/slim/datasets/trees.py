"""ImageFolder trees: a folder a class, perhaps within a folder a split, to `Rows`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from slim.datasets.columns import listed
from slim.datasets.metadata import Rows
from slim.datasets.splits import SPLIT_ALIASES, SPLITS, carve
from slim.errors import DataError

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def tree_rows(folder: Path, seed: int) -> Rows:
    """The rows of an ImageFolder tree, with or without folders for the splits."""
    found = _subfolders(folder)
    aliases = {name.lower() for name in found} & set(SPLIT_ALIASES)
    if "train" in aliases or (aliases and len(aliases) == len(found)):
        parts = [(SPLIT_ALIASES[name.lower()], folder / name) for name in found if name.lower() in aliases]
    else:
        parts = [("train", folder)]
    files, names, split = _class_files(folder, parts)
    class_names = tuple(sorted(set(names)))
    y = np.array([class_names.index(name) for name in names], dtype=np.int64)
    if "train" in split:
        train = np.flatnonzero(split == "train")
        absent = [part for part in SPLITS if part not in split]
        split[train] = carve(y[train], [files[i] for i in train], seed, absent)
    return Rows(pd.DataFrame({"file": files, "split": split, "y": y}), class_names)


def _class_files(
    folder: Path, parts: Sequence[tuple[str, Path]]
) -> tuple[list[str], list[str], npt.NDArray[np.object_]]:
    """Each image's file name from `folder`, class name and split."""
    found: list[tuple[str, str, str]] = []
    for split, part in parts:
        images = [
            (path.relative_to(folder).as_posix(), name, split)
            for name in _subfolders(part)
            for path in _images_below(part / name)
        ]
        if not images:
            either = "metadata.csv or " if part == folder else ""
            hint = "" if split == "train" else f", or remove {part.name} to have {split} carved out of train"
            raise DataError(
                f"{part} must have {either}a folder of images for each class. Got {listed(sorted(os.listdir(part)))}. "
                f"Put each class's images in a folder of its name{hint}."
            )
        found += images
    files, names, splits = zip(*found, strict=True)
    return list(files), list(names), np.array(splits, dtype=object)


def _subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _images_below(folder: Path) -> Iterator[Path]:
    """Image files at any depth, sorted, without hidden ones."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES:
                yield Path(parent) / name
