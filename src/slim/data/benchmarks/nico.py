"""NICO (He et al., 2021) and NICO++ (Zhang et al., 2023): objects in contexts, such as a dog on snow.

NICO has a folder of contexts for each class, perhaps below ``Animal`` and ``Vehicle``; NICO++, as released for its
challenge, has a folder of classes for each of six contexts, which all classes share. Neither publishes one split of all
images, so one is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from slim.data.benchmarks.benchmark import Benchmark, Content
from slim.data.benchmarks.copies import Copy
from slim.data.benchmarks.download import RemoteFile
from slim.data.columns import listed
from slim.data.splits import carve
from slim.data.trees import files_below, is_image, subfolders
from slim.errors import DataError

_CONTEXTS = {"autumn", "dim", "grass", "outdoor", "rock", "water"}
_SUPERCLASSES = {"animal", "animals", "vehicle", "vehicles"}


def read(copy: Copy, seed: int) -> Content:
    """All images with their class and context, in splits stratified by both."""
    released = copy.find("public_dg_0416", archives=("track_1.zip",))
    home = copy.root if released is None else released / "train"
    pairs = [(path, label, context) for label, context, folder in _folders(copy, home) for path in _images(folder)]
    if not pairs:
        raise DataError(
            f"{copy.title} must have images in folders of classes and contexts. Got none in {home}. "
            f"Name the folder that holds the classes, or get it from {copy.page}."
        )
    files, labels, contexts = zip(*sorted(pairs), strict=True)
    names = sorted(set(labels))
    if len(names) == 1:
        raise DataError(
            f"{copy.title} must have folders of several classes. Got {names[0]} alone in {home}. "
            f"Name the folder that holds the classes, or get it from {copy.page}."
        )
    y = np.array([names.index(label) for label in labels])
    groups = pd.factorize(pd.Series(labels) + "/" + pd.Series(contexts), sort=True)[0]
    keys = [path.relative_to(home).as_posix() for path in files]
    frame = pd.DataFrame({"img_filename": keys, "y": y, "class_name": labels, "context": contexts})
    return Content(frame.assign(split=carve(groups, keys, seed)), (home,))


def _folders(copy: Copy, home: Path) -> Iterator[tuple[str, str, Path]]:
    """Class, context and folder of each context of a class."""
    outer = subfolders(home) if home.is_dir() else []
    if len(_CONTEXTS.intersection(outer)) > 1:  # NICO++
        for context in outer:
            yield from ((label, context, home / context / label) for label in subfolders(home / context))
        return
    above = [name for name in outer if name.lower() in _SUPERCLASSES]
    for parent in [home / name for name in above] or [home]:
        for label in subfolders(parent):
            contexts = subfolders(parent / label)
            if not contexts:
                raise DataError(
                    f"{copy.title} must have a folder for each context of a class. "
                    f"Got {listed(sorted(path.name for path in (parent / label).iterdir()))} in {parent / label}. "
                    f"Name the folder that holds the classes, or get it from {copy.page}."
                )
            yield from ((label, context, parent / label / context) for context in contexts)


def _images(folder: Path) -> list[Path]:
    return [path for path in files_below(folder) if is_image(path)]


NICO = Benchmark(
    "NICO",
    read,
    "context",
    {},
    (
        RemoteFile(
            "track_1.zip",
            ("https://www.dropbox.com/sh/u2bq2xo8sbax4pr/AACvgYpfQHfS7u_M3yJwkK-ra/track_1/track_1.zip?dl=1",),
        ),
    ),
    "https://nico.thumedialab.com (NICO) or https://github.com/xxgege/NICO-plus (NICO++)",
    "The photographs are from the web and belong to their owners.",
)
