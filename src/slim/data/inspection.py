"""`check`: every image, mask and box is read before hours of work, and what is wrong comes as one list."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from slim.arguments import checked
from slim.data.pixels import check_image
from slim.data.splits import SPLITS
from slim.data.table import Dataset, ImageTable
from slim.errors import DataError, SlimError, SlimWarning, first_line
from slim.files import guarded, read_cells, unguarded, write_text
from slim.progress import track

_CHUNK = 32  # images that a thread reads in one go
_REGION = 8  # pixels: the smallest square shows what is wrong with a mask


class Fault(NamedTuple):
    """An image that cannot be used, and why."""

    path: str
    split: str
    problem: str


class _Seen(NamedTuple):
    """What was found out about one image."""

    digest: bytes
    fault: Fault | None
    inverted: bool | None
    flat: bool


@dataclass(frozen=True)
class Inspection:
    """What `check` found.

    Attributes
    ----------
    n_images
        Number of images.
    faults
        Images that cannot be read, or whose mask or box does not fit, in the order of the splits and tables.
    notes
        What looks odd but can be used, one sentence each.
    """

    n_images: int
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Inspection({self.n_images} images, {len(self.faults)} cannot be used, {len(self.notes)} notes)"

    def write(self, path: str | Path) -> None:
        """Write the images that cannot be used to a CSV file, which `slim.load_dataset` takes as ``without=``."""
        rows = io.StringIO()
        writer = csv.writer(rows, lineterminator="\n")
        writer.writerows([Fault._fields, *([guarded(cell) for cell in fault] for fault in self.faults)])
        write_text(Path(path), rows.getvalue())

    def stop(self, hint: str = "Replace them, or leave them out: slim.load_dataset(..., without=).") -> None:
        """Refuse the data set where an image cannot be used.

        Raises
        ------
        DataError
            The message counts them and says what is wrong with the first.
        """
        if self.faults:
            raise DataError(
                f"Every image must be readable, with a mask or box that fits. Got {len(self.faults)} of "
                f"{self.n_images} that cannot be used. The first: {self.faults[0].problem} {hint}"
            )


@checked
def check(data: Dataset) -> Inspection:
    """Read every image, mask and box of a data set, on all cores.

    Parameters
    ----------
    data
        The data set.

    Returns
    -------
    Inspection
        Images that cannot be used, all at once; and notes: identical files in two splits or with two labels, images of
        a single colour, masks that seem inverted, and warnings of masks and boxes. An image that cannot be used raises
        nothing.

    Notes
    -----
    A JPEG is decoded at an eighth of its size, where its format allows, which reads all of the file but saves time.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from PIL import Image
    >>> from slim.data import load_dataset
    >>> folder = Path(tempfile.mkdtemp())
    >>> for i in range(20):
    ...     Image.new("RGB", (8, 6), (i, 0, 0)).save(folder / f"{i}.png")
    >>> _ = (folder / "7.png").write_bytes(b"")
    >>> table = pd.DataFrame({"filename": [f"{i}.png" for i in range(20)], "y": [0, 1] * 10})
    >>> found = check(load_dataset(table, root=folder))
    >>> found, Path(found.faults[0].path).name
    (Inspection(20 images, 1 cannot be used, 1 notes), '7.png')
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", SlimWarning)
        seen = {split: list(_seen(data.split(split))) for split in SPLITS}
    everything = [one for part in seen.values() for one in part]
    faults = tuple(one.fault for one in everything if one.fault is not None)
    notes = [*_notes(data, seen), *dict.fromkeys(str(warning.message) for warning in caught)]
    return Inspection(len(everything), faults, tuple(notes))


def _seen(table: ImageTable) -> Iterator[_Seen]:
    """Each image of a table, read in threads: Pillow decodes without holding Python's lock."""
    chunks = [range(start, min(start + _CHUNK, len(table))) for start in range(0, len(table), _CHUNK)]
    usable = table.has_region.tolist()
    paths = table.paths

    def read(chunk: range) -> list[_Seen]:
        return [_look(table, i, paths[i], usable[i]) for i in chunk]

    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="slim-check") as pool:
        counted = (one for part in pool.map(read, chunks) for one in part)
        yield from track(counted, f"checking {len(table)} {table.split} images", total=len(table))


def _look(table: ImageTable, i: int, path: str, has_region: bool) -> _Seen:
    """One image."""
    digest, flat, inverted = b"", False, None
    try:
        content, flat = check_image(path)
        digest = hashlib.blake2b(content, digest_size=16).digest()
        if has_region:
            region = table.region(i, _REGION)
            inverted = bool(region[[0, 0, -1, -1], [0, -1, 0, -1]].all() and not region.all())
    except SlimError as error:
        return _Seen(digest, Fault(path, table.split, str(error)), None, False)
    return _Seen(digest, None, inverted, flat)


def _notes(data: Dataset, seen: dict[str, list[_Seen]]) -> Iterator[str]:
    """What is odd about readable images."""
    first: dict[bytes, tuple[str, str, int]] = {}
    twins: list[tuple[str, str]] = []
    contrary: list[tuple[str, str]] = []
    for split, part in seen.items():
        table = data.split(split)
        for path, y, one in zip(table.paths, table.y.tolist(), part, strict=True):
            other, name, label = first.setdefault(one.digest, (split, path, y)) if one.digest else (split, path, y)
            if other != split:
                twins.append((name, path))
            if label != y:
                contrary.append((name, path))
    if twins:
        yield (
            f"Identical files are in two splits, which leaks: {len(twins)}, such as {twins[0][0]} and {twins[0][1]}."
        )
    if contrary:
        yield f"Identical files have two labels: {len(contrary)}, such as {contrary[0][0]} and {contrary[0][1]}."
    everything = [one for part in seen.values() for one in part]
    flat = sum(one.flat for one in everything)
    if flat:
        yield f"Images of a single colour: {flat}."
    masks = [one.inverted for one in everything if one.inverted is not None]
    if sum(masks) > len(masks) / 2:
        yield (
            f"{sum(masks)} of {len(masks)} masks mark all four corners and not the rest, as if the background were the "
            "object. Look at a few."
        )


def faults_in(path: str | Path) -> list[Fault]:
    """The images in a file that `Inspection.write` wrote, or in another CSV file with a column ``path``.

    Raises
    ------
    DataError
        The file is missing or has no such column.
    """
    try:
        cells = read_cells(Path(path)).map(unguarded)
        rows = cells[["path"]].assign(split=cells.get("split", ""), problem=cells.get("problem", ""))
    except (OSError, ValueError, KeyError) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise DataError(
            f"{path} must be a CSV table with a column path, the images to leave out. Got: {reason}. "
            "Write it with slim check DATA --write FILE."
        ) from error
    return [Fault(*row) for row in rows.itertuples(index=False)]
