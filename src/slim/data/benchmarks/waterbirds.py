"""Waterbirds (Sagawa et al., 2020): birds of CUB-200-2011 on backgrounds of Places, landbirds against waterbirds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from slim.data.benchmarks.benchmark import WHOLE, Benchmark, Content
from slim.data.benchmarks.copies import Copy
from slim.data.benchmarks.download import RemoteFile
from slim.data.columns import listed
from slim.data.table import BOX_COLUMNS
from slim.errors import DataError
from slim.files import read_cells

_FOLDER = "waterbird_complete95_forest2water2"
_COLUMNS = ("img_filename", "y", "split", "place")
_CLASSES = ("landbird", "waterbird")
_PLACES = ("land", "water")
_GROUPS = [f"{label}, place={place}" for label in _CLASSES for place in _PLACES]

LANDBIRDS = ("021.Eastern_Towhee", "088.Western_Meadowlark", "102.Western_Wood_Pewee")
"""Species that live on land and that the official table calls waterbirds, as Asgari et al. (MaskTune, 2022) found."""


def read(copy: Copy, seed: int) -> Content:
    """The official table, with the masks and boxes of CUB where the copy has them."""
    table = copy.need("metadata.csv", archives=(f"{_FOLDER}.tar.gz", "waterbirds_v1.0.tar.gz"))
    frame = read_cells(table)
    absent = [column for column in _COLUMNS if column not in frame]
    if absent:
        raise DataError(
            f"{table} must be the official table, with columns {', '.join(_COLUMNS)}. Got {listed(frame.columns)}. "
            f"Name the folder {_FOLDER}, as the archive has it."
        )
    for column in ("y", "place"):
        wrong = ~frame[column].isin(["0", "1"])
        if wrong.any():
            raise DataError(
                f"Column {column!r} of {table} must hold 0 and 1. Got {frame.loc[wrong, column].iloc[0]!r}. "
                "Unpack the archive again."
            )
    y, place = (frame[column].astype(int).to_numpy() for column in ("y", "place"))
    named = frame[list(_COLUMNS)].assign(class_name=np.take(_CLASSES, y), place=np.take(_PLACES, place))
    masks = copy.find("segmentations", archives=("segmentations.tgz",))
    homes = (table.parent, *([] if masks is None else [masks.parent]))
    return Content(_with_boxes(_with_masks(named, masks), copy), homes)


def read_fixed(copy: Copy, seed: int) -> Content:
    """The same with three species that live on land labelled as landbirds; the backgrounds stay as they are."""
    frame, homes = read(copy, seed)
    wrong = frame["img_filename"].str.partition("/")[0].isin(LANDBIRDS)
    label, name = frame["y"].mask(wrong, "0"), frame["class_name"].mask(wrong, "landbird")
    return Content(frame.assign(y=label, class_name=name), homes)


def _with_masks(frame: pd.DataFrame, folder: Path | None) -> pd.DataFrame:
    """The table with CUB's segmentations, by the name of the image; Waterbirds keeps CUB's sizes and positions."""
    if folder is None:
        return frame
    held = {f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*.png")}
    stems = [name.rpartition(".")[0] for name in frame["img_filename"]]
    return frame.assign(mask_filename=[str(folder / f"{stem}.png") if stem in held else "" for stem in stems])


def _with_boxes(frame: pd.DataFrame, copy: Copy) -> pd.DataFrame:
    """The table with CUB's bounding boxes, by the id that CUB gives to the name of the image."""
    boxes, names = (_cub_table(copy, f"{name}.txt") for name in ("bounding_boxes", "images"))
    if boxes is None or names is None:
        return frame
    ids = pd.Series(names.index, index=names.iloc[:, 0])
    wanted = boxes.set_axis(list(BOX_COLUMNS), axis=1).reindex(ids.reindex(frame["img_filename"]))
    return pd.concat([frame, wanted.reset_index(drop=True)], axis=1)


def _cub_table(copy: Copy, name: str) -> pd.DataFrame | None:
    """A table of CUB by the id of the image."""
    path = copy.find(name, archives=("CUB_200_2011.tgz",))
    return None if path is None else read_cells(path, sep=" ", header=None, index_col=0)


def _counts(train: tuple[int, ...], val: tuple[int, ...], test: tuple[int, ...]) -> dict[str, dict[str, int]]:
    """Published counts, from those of each group in the order of `_GROUPS`."""
    splits = {"train": train, "val": val, "test": test}
    return {split: {WHOLE: sum(n), **dict(zip(_GROUPS, n, strict=True))} for split, n in splits.items()}


_FILES = (
    RemoteFile(
        f"{_FOLDER}.tar.gz",
        (
            f"https://nlp.stanford.edu/data/dro/{_FOLDER}.tar.gz",
            f"https://downloads.cs.stanford.edu/nlp/data/dro/{_FOLDER}.tar.gz",
            "https://worksheets.codalab.org/rest/bundles/0x505056d5cdea4e4eaa0e242cbfe2daa4/contents/blob/",
        ),
    ),
    RemoteFile(
        "segmentations.tgz",
        ("https://data.caltech.edu/records/w9d68-gec53/files/segmentations.tgz?download=1",),
        needed=False,
    ),
)
_PAGE = (
    "https://github.com/kohpangwei/group_DRO (masks and boxes: https://www.vision.caltech.edu/datasets/cub_200_2011)"
)
_TERMS = "CUB-200-2011 and Places are for non-commercial research and education."

WATERBIRDS = Benchmark(
    "Waterbirds",
    read,
    "place",
    _counts((3498, 184, 56, 1057), (467, 466, 133, 133), (2255, 2255, 642, 642)),
    _FILES,
    _PAGE,
    _TERMS,
)
FIXED = Benchmark(
    "Waterbirds with three species corrected",
    read_fixed,
    "place",
    _counts((3502, 252, 52, 989), (478, 473, 122, 126), (2298, 2302, 599, 595)),
    _FILES,
    _PAGE,
    _TERMS,
)
