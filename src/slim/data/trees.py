"""ImageFolder trees: from one folder per class, with or without folders for the splits, to `Rows`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from slim.data.columns import listed
from slim.data.metadata import Rows
from slim.data.splits import SPLIT_ALIASES, SPLITS, carve
from slim.errors import DataError

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def tree_rows(folder: Path, seed: int) -> Rows:
    """The rows of an ImageFolder tree, with or without folders for the splits."""
    subfolders = _subfolders(folder)
    aliases = {name.lower() for name in subfolders} & set(SPLIT_ALIASES)
    if "train" in aliases or (aliases and len(aliases) == len(subfolders)):
        parts = [(SPLIT_ALIASES[name.lower()], folder / name) for name in subfolders if name.lower() in aliases]
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
    """File name relative to `folder`, class name and split of each image."""
    rows: list[tuple[str, str, str]] = []
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
                f"Put the images of each class into a folder of its own{hint}."
            )
        rows += images
    files, names, splits = zip(*rows, strict=True)
    return list(files), list(names), np.array(splits, dtype=object)


def _subfolders(folder: Path) -> list[str]:
    """Sorted names of the folders in a folder, except hidden ones."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _images_below(folder: Path) -> Iterator[Path]:
    """Sorted image files at any depth, except hidden ones."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES:
                yield Path(parent) / name
