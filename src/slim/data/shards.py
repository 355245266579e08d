"""Shards of WebDataset: tar archives whose files of one name, such as ``7.jpg`` and ``7.cls``, make one sample."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from slim.data.archives import SUFFIX, members, reading
from slim.data.columns import FILE_COLUMNS, listed, splits
from slim.data.splits import fill_splits
from slim.data.trees import SPLIT_FOLDERS, is_image, subfolders
from slim.errors import DataError
from slim.files import MALFORMED, parse_json
from slim.progress import track

_SHARDS = f"[!.]*{SUFFIX}"
_LABELS = ("y", "label", "cls")
_SAMPLE = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
_Sample = dict[str, str]
"""The name of each file of a sample in its archive, by what follows the first dot of it: ``{"jpg": "a/7.jpg"}``."""


def shard_files(source: Path) -> list[Path]:
    """The shards of a data set: an archive itself, or those in a folder and in the folders in it.

    Empty where one of these holds no archive but images, or is named as a split: it is a tree, beside the archive that
    it came from.
    """
    if source.is_file():
        return [source] if source.suffix == SUFFIX else []
    shards = sorted(source.glob(_SHARDS))
    for name in subfolders(source):
        inner = sorted((source / name).glob(_SHARDS))
        if not inner and (name.lower() in SPLIT_FOLDERS or any(map(is_image, (source / name).iterdir()))):
            return []
        shards += inner
    return shards


def shard_frame(source: Path, shards: Sequence[Path], mask: str | None, seed: int) -> tuple[pd.DataFrame, Path]:
    """The metadata table of shards, and the folder that its file names are relative to.

    Parameters
    ----------
    source
        The folder or archive that the data set is.
    shards
        What `shard_files` finds there.
    mask
        What follows the first dot of the masks' names, such as ``"mask.png"``, or a value of the samples' JSON.
    seed
        Random seed of splits that are missing.

    Raises
    ------
    DataError
        A sample has no label, no photo or several, its JSON cannot be read, or some shards say no split.
    """
    home = (source.parent if source.is_file() else source).absolute()
    rows: list[dict[str, Any]] = []
    for shard in track(shards, f"reading the labels in {len(shards)} shards"):
        place = shard.absolute().relative_to(home).as_posix()
        samples, split = _samples(members(str(home / place))), _split(place)
        with reading(str(home / place)) as read:
            rows += [{"split": split, **_row(read, place, key, sample, mask)} for key, sample in samples.items()]
    if not rows:
        raise DataError(f"Shards must hold samples: 7.jpg and 7.cls, for instance. Got none in {source}. Add some.")
    return _with_splits(_numbered(pd.DataFrame(rows)), seed), home


def _samples(names: Iterable[str]) -> dict[str, _Sample]:
    """The files of each sample, by the name that they share."""
    samples: dict[str, _Sample] = {}
    for name in names:
        if match := _SAMPLE.fullmatch(name):
            samples.setdefault(match[1], {})[match[2].lower()] = name
    return {key: sample for key, sample in samples.items() if "cls" in sample or _photos(sample, None)}


def _photos(sample: _Sample, mask: str | None) -> list[str]:
    """The endings of what may be a sample's photo: images but the mask, those without a second dot first of all."""
    images = [ending for ending in sample if ending != mask and _is_image(ending)]
    return [ending for ending in images if "." not in ending] or images


@cache
def _is_image(ending: str) -> bool:
    return is_image(Path(f"x.{ending}"))


def _row(read: Callable[[str], bytes], shard: str, key: str, sample: _Sample, mask: str | None) -> dict[str, Any]:
    """The row of one sample: what its JSON says, its label, and the names of its photo and mask."""
    photos = _photos(sample, mask)
    if len(photos) != 1:
        advice = "Name the mask among them (mask=, --mask)" if photos else "Add its photo, or leave the sample out"
        raise DataError(f"A sample must have one photo. Got {listed(list(sample))} of {key} in {shard}. {advice}.")
    values = _json(read(sample["json"]), f"{shard}/{sample['json']}") if "json" in sample else {}
    label = next((values[name] for name in _LABELS if name in values), "")
    if "cls" in sample:
        label = read(sample["cls"]).decode("utf-8", "replace").strip()
    if label == "":
        raise DataError(
            f"A sample must have its label in a file .cls, or in its .json as {' or '.join(_LABELS)}. Got "
            f"{listed(list(sample))} of {key} in {shard}. Add it, or write metadata.csv beside the shards, with "
            f"img_filename such as {shard}/{sample[photos[0]]}."
        )
    names = {"filename": photos[0], **({mask: mask} if mask in sample else {})}
    return {**values, "y": str(label), **{column: f"{shard}/{sample[ending]}" for column, ending in names.items()}}


def _json(content: bytes, name: str) -> dict[str, Any]:
    """The plain values of a sample's JSON, but for names of files."""
    try:
        values = parse_json(content).items()
    except MALFORMED as error:
        raise DataError(f"{name} must hold a JSON object. Got something else. Write the shard again.") from error
    plain = {column: value for column, value in values if isinstance(value, str | int | float)}
    return {column: value for column, value in plain.items() if column not in FILE_COLUMNS}


def _numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """The table whose labels, if they are names, are numbered in alphabetical order."""
    if frame["y"].str.fullmatch(r"[+-]?\d+").all():
        return frame
    names, numbers = np.unique(frame["y"].to_numpy(str), return_inverse=True)
    return frame.assign(y=numbers, class_name=names[numbers])


def _split(shard: str) -> str:
    """The split that the name of a shard, or of its folder, says; empty where they say none, or two.

    Examples
    --------
    >>> _split("birds-train-000.tar"), _split("validation/7.tar"), _split("birds.tar")
    ('train', 'val', '')
    """
    words = re.split(r"[\W\d_]+", shard.lower())
    said = {SPLIT_FOLDERS[word] for word in words if word in SPLIT_FOLDERS}
    return said.pop() if len(said) == 1 else ""


def _with_splits(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The table without splits where no sample says one; else those that are missing are carved out of train."""
    unsaid = frame["split"] == ""
    if unsaid.all():
        return frame.drop(columns="split")
    if unsaid.any():
        raise DataError(
            "All shards must say their split in their names, as in birds-train-000.tar, or none of them. Got none for "
            f"{frame['filename'][unsaid].iloc[0]}. Rename the shard."
        )
    _, y = np.unique(frame["y"].to_numpy(str), return_inverse=True)
    return frame.assign(split=fill_splits(splits(frame), y, frame["filename"].tolist(), seed))
