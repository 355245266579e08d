"""Checks that every data set must pass, whatever its layout."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from slim.data.metadata import Rows
from slim.data.splits import SPLITS
from slim.errors import DataError


def check(rows: Rows, frame: pd.DataFrame) -> None:
    """Refuse rows that do not make a data set; `frame` holds the same rows with paths."""
    _check_splits(rows)
    _check_classes(rows)
    _check_repeats(frame)
    _check_files(frame["path"].tolist(), "image")
    if "mask" in frame:
        _check_files([path for path in frame["mask"].tolist() if path], "mask")


def with_paths(frame: pd.DataFrame, home: Path) -> pd.DataFrame:
    """The frame with absolute, normalised paths of its files."""
    paths = frame.assign(path=_absolute(frame["file"].tolist(), home))
    return paths.assign(mask=_absolute(frame["mask"].tolist(), home)) if "mask" in frame else paths


def _absolute(names: Sequence[str], home: Path) -> list[str]:
    """The path of each name; `""` for an empty one."""
    return [os.path.normpath(os.path.join(home, name)) if name else "" for name in names]


def _check_splits(rows: Rows) -> None:
    """Every split must have images."""
    for split in SPLITS:
        if not (rows.frame["split"] == split).any():
            raise DataError(
                f"Every split must have images. Got none in {split}, of {len(rows.frame)} images. "
                "Add some, or leave out the splits to draw a seeded one."
            )


def _check_classes(rows: Rows) -> None:
    """train must have at least two classes, and every class that val and test have."""
    present = {split: set(rows.frame.loc[rows.frame["split"] == split, "y"].tolist()) for split in SPLITS}
    if len(present["train"]) < 2:
        only = rows.class_names[min(present["train"])]
        raise DataError(
            f"train must have at least two classes. Got only class {only!r}. Check the labels and the splits."
        )
    for split in ("val", "test"):
        for code in sorted(present[split] - present["train"]):
            raise DataError(
                f"Every class must have train images. Got none for class {rows.class_names[code]!r}, which occurs in "
                f"{split}. Move some of its images to train, or drop the class."
            )


def _check_repeats(frame: pd.DataFrame) -> None:
    """No image may occur twice, whether in two splits or in one."""
    repeated = frame["path"].duplicated(keep=False)
    if not repeated.any():
        return
    crossing = frame[repeated].groupby("path")["split"].transform("nunique") > 1
    path = str(frame.loc[crossing[crossing].index if crossing.any() else repeated, "path"].iloc[0])
    splits = frame.loc[frame["path"] == path, "split"].tolist()
    if crossing.any():
        raise DataError(
            f"An image must be in one split only, or it leaks. Got {path} in {' and '.join(dict.fromkeys(splits))}. "
            f"Remove it from all but one ({int(crossing.sum())} rows have this problem)."
        )
    raise DataError(
        f"An image must have only one row. Got {len(splits)} rows for {path} in {splits[0]}. "
        f"Remove the others ({int(repeated.sum())} rows have this problem)."
    )


def _check_files(paths: Sequence[str], what: str) -> None:
    """Every file must exist. Folders are listed once, since checking each file is slow on network disks."""
    names = {folder: _names(folder) for folder in {os.path.dirname(path) for path in paths}}
    missing = [path for path in paths if os.path.basename(path) not in names[os.path.dirname(path)]]
    missing = [path for path in missing if not os.path.isfile(path)]  # the disk may ignore case
    if missing:
        raise DataError(
            f"Every {what} file must exist. Got {len(missing)} of {len(paths)} missing, the first is {missing[0]}. "
            "Check root=, the folder that file names are relative to, or copy the files there."
        )


def _names(folder: str) -> set[str]:
    """The names in a folder; none if it does not exist."""
    return set(os.listdir(folder)) if os.path.isdir(folder) else set()
