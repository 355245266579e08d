"""Checks that every data set must pass, whatever its layout."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from slim.data.archives import names_in
from slim.data.columns import folded
from slim.data.metadata import Rows
from slim.data.splits import SPLITS
from slim.errors import DataError


def check(rows: Rows, frame: pd.DataFrame) -> None:
    """Refuse rows that do not make a data set; `frame` holds the same rows with paths."""
    _check_splits(rows)
    _check_classes(rows)
    paths = frame["path"].tolist()
    folders = _listed(paths)
    _check_repeats(frame.assign(file=_real_files(paths, folders)), rows.drawn)
    _check_files(paths, folders, "image")
    if "mask" in frame:
        masks = [path for path in frame["mask"].tolist() if path]
        _check_files(masks, _listed(masks), "mask")


def with_paths(frame: pd.DataFrame, home: Path) -> pd.DataFrame:
    """The frame with absolute, normalised paths of its files."""
    paths = frame.assign(path=_absolute(frame["file"].tolist(), home))
    return paths.assign(mask=_absolute(frame["mask"].tolist(), home)) if "mask" in frame else paths


def _absolute(names: Sequence[str], home: Path) -> list[str]:
    """The path of each name; `""` for an empty one."""
    impossible = next((name for name in names if "\0" in name), None)
    if impossible is not None:
        raise DataError(f"Names of files must not hold a zero byte. Got {impossible!r}. Write the table again.")
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


def _check_repeats(frame: pd.DataFrame, drawn: bool) -> None:
    """No image, `file`, may occur twice, whether in two splits or in one, under its own path or by a link."""
    repeated = frame["file"].duplicated(keep=False)
    if not repeated.any():
        return
    crossing = frame[repeated].groupby("file")["split"].transform("nunique") > 1
    leaks = bool(crossing.any()) and not drawn
    rows = frame[frame["file"] == frame.loc[crossing[crossing].index if leaks else repeated, "file"].iloc[0]]
    path, *others = dict.fromkeys(rows["path"])
    image = f"{path} (the same file as {others[0]})" if others else path
    splits = list(dict.fromkeys(rows["split"]))
    if leaks:
        raise DataError(
            f"An image must be in one split only, or it leaks. Got {image} in {' and '.join(splits)}. "
            f"Remove it from all but one ({int(crossing.sum())} rows have this problem)."
        )
    raise DataError(
        f"An image must have only one row. Got {len(rows)} rows for {image}{'' if drawn else f' in {splits[0]}'}. "
        f"Remove the others ({int(repeated.sum())} rows have this problem)."
    )


def _check_files(paths: Sequence[str], folders: Mapping[str, _Folder], what: str) -> None:
    """Every file must exist."""
    missing = [path for path in paths if folders[os.path.dirname(path)].links.get(os.path.basename(path), True)]
    missing = [path for path in missing if not os.path.isfile(path)]  # the disk may ignore case
    if missing:
        raise DataError(
            f"Every {what} file must exist. Got {len(missing)} of {len(paths)} missing, the first is {missing[0]}. "
            f"{_remedy(missing[0], folders)}."
        )


def _remedy(path: str, folders: Mapping[str, _Folder]) -> str:
    """What may be wrong with the name of a missing file."""
    folder, name = os.path.split(path)
    if os.path.islink(path):
        return f"It is a link to {os.readlink(path)}, which is not there: copy the file itself"
    if os.path.isfile(path.replace("\\", "/")):
        return "Write / in place of its backslashes"
    alike = [other for other in sorted(folders[folder].links) if folded(other) == folded(name)]
    if alike:
        return f"Write {alike[0]!r}, which is there, with the same case, spaces and Unicode form (composed or not)"
    return "Check root=, the folder that file names are relative to, or copy the files there"


@dataclass(frozen=True)
class _Folder:
    """What a folder holds: the name of each entry, whether it is a link, and its number; where the folder really is."""

    links: dict[str, bool]
    numbers: dict[str, int]
    real: str


def _listed(paths: Sequence[str]) -> dict[str, _Folder]:
    """The folders of files, each listed once, since checking each file is slow on network disks."""
    folders = {}
    for folder in {os.path.dirname(path) for path in paths}:
        entries = list(os.scandir(folder)) if os.path.isdir(folder) else []
        links = {entry.name: entry.is_symlink() for entry in entries}
        links |= dict.fromkeys(names_in(folder), False)
        numbers = {entry.name: entry.inode() for entry in entries}
        folders[folder] = _Folder(links, numbers, os.path.realpath(folder))
    return folders


def _real_files(paths: Sequence[str], folders: Mapping[str, _Folder]) -> list[str]:
    """Where each file is, whatever links lead to it; of hard links to one file the first."""
    files = [_real(path, folders) for path in paths]
    first: dict[int, str] = {}
    for i, path in enumerate(paths):
        folder, name = os.path.split(path)
        number = folders[folder].numbers.get(name)
        if number is None or folders[folder].links[name]:
            continue
        # Other disks number their files in the same way, so that the files themselves are compared.
        other = first.setdefault(number, files[i])
        if other != files[i] and os.path.samefile(other, files[i]):
            files[i] = other
    return files


def _real(path: str, folders: Mapping[str, _Folder]) -> str:
    """Where a file is, whatever links lead to it."""
    folder, name = os.path.split(path)
    return os.path.realpath(path) if folders[folder].links.get(name) else os.path.join(folders[folder].real, name)
