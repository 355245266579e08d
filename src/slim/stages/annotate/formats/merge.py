"""Merging answers from other programs into a store: each once, and none replaces a later one."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from slim.data import ImageTable
from slim.errors import AnnotationError
from slim.stages.annotate.formats.records import AnswerRow, same_place
from slim.stages.annotate.recorded import plain_path
from slim.stages.annotate.store import Post, Store
from slim.stages.judgements import PLACE_COLUMNS, Place

Rows = Sequence[tuple[str, AnswerRow]]
"""The path of each image, whose leading folders may be missing, and an answer about it."""


def merge_answers(store: Store, table: ImageTable, rows: Rows) -> int:
    """Store answers from another program under the names of their annotators.

    Parameters
    ----------
    store
        Receives them.
    table
        The pool.
    rows
        The path of each image, and an answer about it.

    Returns
    -------
    int
        How many were new. An answer changes nothing if it was imported before, repeats its annotator's current one, is
        older than that, or came from an oracle. A repeated answer without a place leaves the place as it is, since not
        every program keeps places.

    Raises
    ------
    AnnotationError
        A path matches no image of the pool, or several; or there is no person's answer at all.
    """
    rows = [(path, row) for path, row in rows if not row.by_oracle]
    if not rows:
        raise AnnotationError(
            "An import must hold people's answers. Got none. Answer at least one image, and export again."
        )
    positions = locate([path for path, _ in rows], table.paths)
    last = _last_rows(store)
    posts: dict[str, list[Post]] = defaultdict(list)
    for index, (_, row) in zip(positions, rows, strict=True):
        answer, time, place = last.get((index, row.annotator, row.settles), ("", "", None))
        if row.answer == answer and (row.place is None or same_place(row.place, place)):
            continue
        if not (row.time and time >= row.time):
            posts[row.annotator].append(_post(index, row))
    new = sum(store.post(own, annotator) for annotator, own in posts.items())
    store.add(list(dict.fromkeys(positions)))
    return new


def _last_rows(store: Store) -> dict[tuple[int, str, bool], tuple[str, str, Place | None]]:
    """Answer, time and place in the last row of each image and annotator, apart from those that settle."""
    history = store.history()
    keys = zip(history["index"], history["annotator"], history["settles"], strict=True)
    places = (Place.from_columns(*place) for place in history[list(PLACE_COLUMNS)].itertuples(index=False))
    return dict(zip(keys, zip(history["answer"], history["time"], places, strict=True), strict=True))


def _post(index: int, row: AnswerRow) -> Post:
    """The answer under a key derived from it, so that importing it again changes nothing."""
    content = f"{index}\n{row.annotator}\n{row.answer}\n{row.time}\n{row.settles}"
    content += "" if row.place is None else f"\n{row.place.columns}"
    key = f"import-{hashlib.sha256(content.encode()).hexdigest()[:24]}"
    return Post(key, index, row.answer, row.seconds, settles=row.settles, time=row.time, place=row.place)


def locate(keys: Sequence[str], paths: Sequence[str]) -> list[int]:
    """Positions of the images that paths match, whose leading folders may be missing.

    Raises
    ------
    AnnotationError
        A path matches no image, or several.

    Examples
    --------
    >>> locate(["cats/1.jpg", "/data/dogs/1.jpg"], ["/data/cats/1.jpg", "/data/dogs/1.jpg"])
    [0, 1]
    """
    by_name: dict[str, list[int]] = defaultdict(list)
    whole = {}
    for position, path in enumerate(paths):
        whole[plain_path(path)] = position
        by_name[PurePosixPath(plain_path(path)).name].append(position)
    return [whole.get(plain_path(key), -1) if plain_path(key) in whole else _only(key, by_name, paths) for key in keys]


def _only(key: str, by_name: dict[str, list[int]], paths: Sequence[str]) -> int:
    """Position of the one image whose path ends with a key."""
    end = plain_path(key)
    candidates = by_name.get(PurePosixPath(end).name, [])
    matches = [position for position in candidates if f"/{plain_path(paths[position])}".endswith(f"/{end}")]
    if len(matches) != 1:
        first = " and ".join(paths[position] for position in matches[:2])
        got = f"which matches {len(matches)}, among them {first}" if matches else "which matches none"
        hint = "Include more of the folders" if matches else "Import into the run that was exported"
        raise AnnotationError(f"An imported path must match one image of the run. Got {key!r}, {got}. {hint}.")
    return matches[0]
