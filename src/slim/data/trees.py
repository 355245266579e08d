"""ImageFolder trees: from one folder per class, with or without folders for the splits, to `Rows`."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from slim.data.columns import listed, warn_of_twins
from slim.data.metadata import Rows
from slim.data.splits import SPLIT_ALIASES, SPLITS, fill_splits
from slim.errors import DataError, SlimWarning

_SUFFIXES = {
    *(".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
}
_SYSTEM_FILES = {"desktop.ini", "thumbs.db"}
# What macOS adds to archives, Synology and QNAP to shared folders (thumbnails among them), Windows and Linux to disks.
_SYSTEM_FOLDERS = {
    *("__macosx", "@eadir", "#recycle", "@recycle"),
    *("$recycle.bin", "system volume information", "lost+found"),
}
_REGION_FOLDERS = {"mask", "masks", "segmentation", "segmentations", "annotation", "annotations"}
_MASK_ENDING = re.compile(r"[ ._-](mask|masks|seg|segmentation|gt|groundtruth|annotation|label)$", re.IGNORECASE)
_LIKE_SPLITS = re.compile(r"(training|train|trn|validation|valid|val|dev|eval|testing|test|tst|holdout)[ _-]?[a-z0-9]*")
SPLIT_FOLDERS = SPLIT_ALIASES | {"training": "train", "dev": "val", "testing": "test"}


def tree_rows(folder: Path, seed: int) -> Rows:
    """The rows of an ImageFolder tree, with or without folders for the splits; warns of what is left out."""
    parts = _parts(folder)
    _warn_of_doubled_splits(folder, parts)
    left_out = [] if parts[0][1] == folder else [f"folder {name}" for name in _others(folder, parts)]
    files, names, split = _class_files(folder, parts, left_out)
    if left_out:
        warnings.warn(
            f"{folder} holds more than images in class folders. Left out: {listed(left_out)}.",
            SlimWarning,
            stacklevel=4,
        )
    class_names = _ordered(set(names))
    warn_of_twins(class_names, f"folders in {folder}", "one folder per class")
    _warn_of_masks(folder, files, class_names)
    _warn_of_inner_folders(folder, files, names, 1 if parts[0][1] == folder else 2)
    y = np.array([class_names.index(name) for name in names], dtype=np.int64)
    filled = fill_splits(split, y, files, seed)
    return Rows(_table(files, filled, y), class_names, drawn=set(filled) != set(split))


def _warn_of_doubled_splits(folder: Path, parts: Sequence[tuple[str, Path]]) -> None:
    """Say that folders of two names hold the same split."""
    for split in SPLITS:
        names = [part.name for name, part in parts if name == split]
        if len(names) > 1:
            warnings.warn(
                f"{folder} has several folders for {split}, {listed(names)}, whose images are merged. Remove the "
                "folders that do not belong there.",
                SlimWarning,
                stacklevel=5,
            )


def _warn_of_masks(folder: Path, files: Sequence[str], class_names: Sequence[str]) -> None:
    """Say that masks may be among the images: in folders of their own, or beside the images."""
    folders = sorted({part for file in files for part in file.split("/")[:-1] if part.lower() in _REGION_FOLDERS})
    stems = {os.path.splitext(file)[0] for file in files}
    beside = sorted(stem for stem in stems if _MASK_ENDING.sub("", stem) in stems - {stem})
    if folders or beside:
        what = f"a folder {folders[0]}" if folders else f"{beside[0]} beside the image of that name"
        taken = "a class" if folders and folders[0] in class_names else "images of a class"
        warnings.warn(
            f"{folder} has {what}, which is taken for {taken}. Move masks elsewhere, and name them in metadata.csv.",
            SlimWarning,
            stacklevel=5,
        )


def _warn_of_inner_folders(folder: Path, files: Sequence[str], names: Sequence[str], depth: int) -> None:
    """Say that folders which hold all images of a class, whose folder lies at some depth, are not told apart."""
    inside = {(name, "/".join(file.split("/")[depth:-1])) for name, file in zip(names, files, strict=True)}
    counts = Counter(name for name, _ in inside)
    several = sorted(f"{name}/{inner}" for name, inner in inside if counts[name] > 1 and (name, "") not in inside)
    if several:
        warnings.warn(
            f"{folder} has class folders with subfolders, which are not told apart: {listed(several)}. "
            f"The classes are {listed(sorted(counts))}. If these should be classes, name the folder that holds them.",
            SlimWarning,
            stacklevel=5,
        )


def _table(files: list[str], split: npt.NDArray[np.object_], y: npt.NDArray[np.int64]) -> pd.DataFrame:
    """The files; pandas keeps their names in pyarrow, if that is installed, which refuses some."""
    try:
        return pd.DataFrame({"file": files, "split": split, "y": y})
    except UnicodeEncodeError as error:
        raise DataError(
            f"Names of files must be UTF-8 for pandas with pyarrow. Got {error.object!r}. Rename it, set "
            "pandas.options.mode.string_storage = 'python' in your program, or uninstall pyarrow."
        ) from error


def _ordered(names: set[str]) -> tuple[str, ...]:
    """The names of classes in their order: by number if all are whole numbers, else as text."""
    as_text = tuple(sorted(names))
    if not all(name.isascii() and name.isdecimal() for name in names):
        return as_text
    by_number = tuple(sorted(as_text, key=int))
    if by_number != as_text:
        warnings.warn(
            f"Classes are ordered by number, {listed(by_number)}. A model trained on torchvision's ImageFolder "
            f"has them in the order of text, {listed(as_text)}: name its outputs (class_names=), or reorder them.",
            SlimWarning,
            stacklevel=5,
        )
    return by_number


def _parts(folder: Path) -> list[tuple[str, Path]]:
    """Each split and its folder; train is the whole folder if there are no folders for the splits."""
    names = subfolders(folder)
    parts = [(SPLIT_FOLDERS[name.lower()], folder / name) for name in names if name.lower() in SPLIT_FOLDERS]
    with_train = "train" in (name.lower() for name in names) or {split for split, _ in parts} > {"train"}
    if parts and (with_train or len(parts) == len(names)):
        return parts
    if len(names) > 1 and all(_LIKE_SPLITS.fullmatch(name.lower()) for name in names):
        inner = [set(subfolders(folder / name)) for name in names]
        if set.intersection(*inner):
            raise DataError(
                f"Folders for the splits must be called train, val and test. Got {listed(names)} in {folder}. "
                "Rename them."
            )
        warnings.warn(
            f"The classes in {folder} are named like splits: {listed(names)}. If they are splits, put the images of "
            "each class into folders of their own: train/CLASS.",
            SlimWarning,
            stacklevel=5,
        )
    below = [{name.lower() for name in subfolders(folder / name)} for name in names]
    if len(below) > 1 and all(inner and inner <= set(SPLIT_FOLDERS) for inner in below):
        raise DataError(
            f"Folders for the splits must be above those of the classes. Got {', '.join(sorted(below[0]))} in "
            f"{folder / names[0]}. Swap them: train/{names[0]}."
        )
    return [("train", folder)]


def _others(folder: Path, parts: Sequence[tuple[str, Path]]) -> list[str]:
    """The folders beside those of the splits."""
    return sorted(set(subfolders(folder)) - {part.name for _, part in parts})


def _class_files(
    folder: Path, parts: Sequence[tuple[str, Path]], left_out: list[str]
) -> tuple[list[str], list[str], npt.NDArray[np.object_]]:
    """File name relative to `folder`, class name and split of each image; what is no such image joins `left_out`."""
    rows: list[tuple[str, str, str]] = []
    for split, part in parts:
        before, others = len(rows), len(left_out)
        for name in subfolders(part):
            below = list(files_below(part / name))
            rows += [(path.relative_to(folder).as_posix(), name, split) for path in below if is_image(path)]
            left_out += _descriptions([path for path in below if not is_image(path)], part / name)
            left_out += [] if below else [f"empty folder {part / name}"]
        if len(rows) == before:
            either = "metadata.csv or " if part == folder else ""
            hint = "" if split == "train" else f", or remove {part.name} to have {split} carved out of train"
            unknown = [what for what in left_out[others:] if not what.startswith("empty")]
            tables = [name for name in sorted(os.listdir(part)) if name.lower().endswith((".csv", ".tsv"))]
            advice = "Save them as JPEG or PNG" if unknown else "Put the images of each class into a folder of its own"
            advice = f"Name the table, {part / tables[0]}" if tables else advice
            raise DataError(
                f"{part} must have {either}a folder of images for each class. "
                f"Got {listed(unknown or sorted(os.listdir(part)))}. {advice}{hint}."
            )
        left_out += _descriptions([path for path in sorted(part.iterdir()) if is_image(path) and path.is_file()], part)
    files, names, splits = zip(*rows, strict=True)
    return list(files), list(names), np.array(splits, dtype=object)


def is_image(path: Path) -> bool:
    """Whether a file is an image by its name, and not a hidden one."""
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")


def _descriptions(files: Sequence[Path], folder: Path) -> list[str]:
    """How many files of each kind there are in a folder."""
    counts = Counter(path.suffix.lower() or "without suffix" for path in files)
    return [f"{count} {suffix} in {folder}" for suffix, count in sorted(counts.items())]


def subfolders(folder: Path) -> list[str]:
    """Sorted names of the folders in a folder, except hidden ones and those that systems add."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and is_shown(entry.name))


def is_shown(folder_name: str) -> bool:
    """Whether a folder is neither hidden nor one that a system adds.

    Examples
    --------
    >>> [name for name in ("dog", "@eaDir", "__MACOSX", ".cache") if is_shown(name)]
    ['dog']
    """
    return not folder_name.startswith(".") and folder_name.lower() not in _SYSTEM_FOLDERS


def files_below(folder: Path) -> Iterator[Path]:
    """Sorted files at any depth, except hidden ones and those of systems; no link to a folder above is followed."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        above = {os.path.realpath(path) for path in (Path(parent), *Path(parent).parents)}
        onward = (name for name in folders if os.path.realpath(os.path.join(parent, name)) not in above)
        folders[:] = sorted(name for name in onward if is_shown(name))
        for name in sorted(files):
            if not name.startswith(".") and name.lower() not in _SYSTEM_FILES:
                yield Path(parent) / name
