"""Answers from elsewhere into a store: each once, and never over a later one."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from slim.annotation.exchange.records import Given
from slim.annotation.recorded import plain
from slim.annotation.store import Post, Store
from slim.datasets import ImageTable
from slim.errors import AnnotationError

Rows = Sequence[tuple[str, Given]]
"""Which image (its path, leading folders may be missing), and what was answered."""


def take_in(store: Store, table: ImageTable, rows: Rows) -> int:
    """Keep answers that were given elsewhere, as rows of those who gave them.

    Parameters
    ----------
    store
        Where they go.
    table
        The pool.
    rows
        Each image by its path, and an answer.

    Returns
    -------
    int
        How many were new. One that was imported before, that repeats what its annotator says already, or that is
        older than what he has said since, changes nothing; nor does what masks or boxes answered.

    Raises
    ------
    AnnotationError
        A path means no image of the pool, or several; or there is no answer at all.
    """
    rows = [(path, given) for path, given in rows if not given.by_oracle]
    if not rows:
        raise AnnotationError(
            "An import must hold people's answers. Got none. Answer at least one image, and export again."
        )
    positions = locate([path for path, _ in rows], table.paths)
    history = store.history()
    keys = zip(history["index"], history["annotator"], history["settles"], strict=True)
    last = dict(zip(keys, zip(history["answer"], history["time"], strict=True), strict=True))
    posts: dict[str, list[Post]] = defaultdict(list)
    for index, (_, given) in zip(positions, rows, strict=True):
        answer, time = last.get((index, given.annotator, given.settles), ("", ""))
        if given.answer == answer or (given.time and time >= given.time):
            continue
        posts[given.annotator].append(_post(index, given))
    new = sum(store.post(own, who) for who, own in posts.items())
    store.add(list(dict.fromkeys(positions)))
    return new


def _post(index: int, given: Given) -> Post:
    """The answer with a key that is its own, so that importing it again changes nothing."""
    said = f"{index}\n{given.annotator}\n{given.answer}\n{given.time}\n{given.settles}"
    key = f"import-{hashlib.sha256(said.encode()).hexdigest()[:24]}"
    return Post(key, index, given.answer, given.seconds, settles=given.settles, time=given.time)


def locate(keys: Sequence[str], paths: Sequence[str]) -> list[int]:
    """Positions of the images that paths mean, where leading folders may be missing or other ones.

    Raises
    ------
    AnnotationError
        A path means no image, or several.

    Examples
    --------
    >>> locate(["cats/1.jpg", "/data/dogs/1.jpg"], ["/data/cats/1.jpg", "/data/dogs/1.jpg"])
    [0, 1]
    """
    by_name: dict[str, list[int]] = defaultdict(list)
    whole = {}
    for position, path in enumerate(paths):
        whole[plain(path)] = position
        by_name[PurePosixPath(plain(path)).name].append(position)
    return [whole.get(plain(key), -1) if plain(key) in whole else _only(key, by_name, paths) for key in keys]


def _only(key: str, by_name: dict[str, list[int]], paths: Sequence[str]) -> int:
    """The one image whose path ends as a key does."""
    end = plain(key)
    candidates = by_name.get(PurePosixPath(end).name, [])
    found = [position for position in candidates if f"/{plain(paths[position])}".endswith(f"/{end}")]
    if len(found) != 1:
        got = f"{len(found)} of that name, {paths[found[0]]} and {paths[found[1]]}" if found else "none of that name"
        hint = "Write more of the folders" if found else "Import into the run that was exported"
        raise AnnotationError(f"An imported path must mean one image of the run. Got {key!r}: {got}. {hint}.")
    return found[0]
