"""What SLIM knows about a published benchmark: how to read a copy of it, what is in it, and where it comes from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from slim.data.benchmarks.copies import Copy
from slim.data.benchmarks.download import RemoteFile
from slim.data.splits import SPLITS
from slim.data.table import Dataset, ImageTable
from slim.errors import SlimWarning

EVERYTHING = "all"
"""The split of a published count that is about all images, where the splits are drawn."""

WHOLE = ""
"""The group of a published count that is about a whole split."""


class Content(NamedTuple):
    """What a copy holds: a table with the columns of metadata.csv, and the folders that its files are in.

    File names are relative to the first folder, or absolute. Where the folders are, beside each other or unpacked into
    the cache, makes no difference to the data set's fingerprint.
    """

    frame: pd.DataFrame
    homes: tuple[Path, ...]


class Count(NamedTuple):
    """Images of a group (or, where it is empty, of the whole split) in a copy, and as published if that is known."""

    split: str
    group: str
    found: int
    published: int | None


@dataclass(frozen=True)
class Benchmark:
    """A published benchmark.

    Parameters
    ----------
    title
        What people call it.
    read
        From a copy and the seed of splits that are not published to its content.
    attribute
        Column of the spurious attribute; None if it has none.
    counts
        Published numbers of images, by split and group.
    files
        What to download.
    page
        Where it is published, for a person.
    terms
        On what conditions, in a sentence.
    """

    title: str
    read: Callable[[Copy, int], Content]
    attribute: str | None
    counts: Mapping[str, Mapping[str, int]]
    files: tuple[RemoteFile, ...]
    page: str
    terms: str

    def count(self, data: Dataset) -> list[Count]:
        """The images of each split, and of each group of which the published number is known or that has a name."""
        tables = [data.split(name) for name in SPLITS]
        rows = [row for table in tables for row in self._of_split(table)]
        everything = self.counts.get(EVERYTHING, {})
        if everything:
            rows.append(Count(EVERYTHING, WHOLE, sum(len(table) for table in tables), everything[WHOLE]))
        return rows

    def _of_split(self, table: ImageTable) -> list[Count]:
        """The counts of one split; groups are left out where they are too many to read."""
        published = self.counts.get(table.split, {})
        rows = [Count(table.split, WHOLE, len(table), published.get(WHOLE))]
        groups = table.groups
        codes, names = (table.y, table.class_names) if groups is None else (groups, table.group_names)
        if len(names) > _MOST_GROUPS:
            return rows
        found = np.bincount(codes, minlength=len(names)).tolist()
        return rows + [Count(table.split, *pair, published.get(pair[0])) for pair in zip(names, found, strict=True)]

    def warn_of_differences(self, data: Dataset) -> None:
        """Say where a copy first differs from what was published: a miniature or a subset is no mistake."""
        differs = next((row for row in self.count(data) if row.published not in (None, row.found)), None)
        if differs is not None:
            kind = "images" if differs.split == EVERYTHING else f"{differs.split} images"
            where = f" of {differs.group}" if differs.group else ""
            warnings.warn(
                f"{self.title} as published has {differs.published:,} {kind}{where}, this copy has "
                f"{differs.found:,}: figures on it cannot be compared with published ones.",
                SlimWarning,
                stacklevel=3,
            )


_MOST_GROUPS = 12
