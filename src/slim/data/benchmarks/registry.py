"""The benchmarks by name: reading a copy, and fetching one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from slim.data.benchmarks.benchmark import Benchmark
from slim.data.benchmarks.celeba import CELEBA
from slim.data.benchmarks.copies import Copy
from slim.data.benchmarks.download import download
from slim.data.benchmarks.imagenet9 import IMAGENET9
from slim.data.benchmarks.isic import ISIC
from slim.data.benchmarks.nico import NICO
from slim.data.benchmarks.waterbirds import FIXED, WATERBIRDS
from slim.data.metadata import Rows, table_rows
from slim.errors import DataError, SlimWarning
from slim.files import cache_folder

BENCHMARKS: dict[str, Benchmark] = {
    "waterbirds": WATERBIRDS,
    "waterbirds-fixed": FIXED,
    "celeba": CELEBA,
    "isic": ISIC,
    "nico": NICO,
    "imagenet9": IMAGENET9,
}


def downloads(name: str) -> Path:
    """The folder of the cache that a benchmark is downloaded into."""
    return cache_folder() / name.removesuffix("-fixed")


def fetch(name: str) -> Path:
    """Download a benchmark into the cache, unless it is there already.

    Raises
    ------
    DataError
        A file that the benchmark needs is nowhere to be had; the message says how to use a copy of one's own.

    Warns
    -----
    SlimWarning
        The same of a file that it does not need, such as masks.
    """
    benchmark, folder = BENCHMARKS[name], downloads(name)
    for file in benchmark.files:
        try:
            download(file, folder)
        except DataError as error:
            own = f"{error} It is published at {benchmark.page}. Put it into a folder: slim data {name} --root FOLDER"
            if file.needed:
                raise DataError(own) from error
            warnings.warn(f"{own}, or go on without it.", SlimWarning, stacklevel=2)
    return folder


def home_of(name: str, root: str | Path | None) -> Path:
    """The folder of a copy: the one that was named, or the downloaded one.

    Raises
    ------
    DataError
        Nothing is there.
    """
    if root is not None and not Path(root).is_dir():
        raise DataError(f"root= of {name} must be a folder that holds a copy. Got {root}. Check the path.")
    folder = downloads(name) if root is None else Path(root).absolute()
    if not folder.is_dir():
        raise DataError(
            f"{name} must be a folder here, or a copy of the benchmark. Got neither. "
            f"Download it (slim data {name}), or name your copy with root= or --root."
        )
    return folder


def benchmark_rows(
    name: str, root: Path, attribute: str | Sequence[str] | None, mask: str | None, seed: int
) -> tuple[Rows, tuple[Path, ...]]:
    """The rows of a copy, and the folders that its files are in; names are relative to the first."""
    benchmark = BENCHMARKS[name]
    content = benchmark.read(Copy(benchmark.title, root, benchmark.page), seed)
    usual = [] if benchmark.attribute is None else [benchmark.attribute]
    rows = table_rows(content.frame, benchmark.title, usual if attribute is None else attribute, mask, seed)
    return rows, content.homes
