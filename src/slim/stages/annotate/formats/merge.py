"""Merging answers from other programs into a store: each once, and none replaces a later one."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

import pandas as pd

from slim.data import ImageTable
from slim.errors import AnnotationError
from slim.stages.annotate.formats.records import AnswerRow, answer_rows, same_place
from slim.stages.annotate.recorded import plain_path
from slim.stages.annotate.store import IMPORTED, Post, Store

Rows = Sequence[tuple[str, AnswerRow]]
"""The path of each image, whose leading folders may be missing, and an answer about it."""

Whom = tuple[int, str, bool]
"""Position of an image, the annotator, and whether the answer settles a disagreement."""


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
        How many were new. Of an annotator's answers about an image, the last counts. It changes nothing if it was
        imported before, repeats the annotator's current one, is older than that, or came from an oracle; without a
        time, if it repeats the one that was imported last. A repeated answer without a place leaves the place as it is,
        since not every program keeps places.

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
    history, imported = _by_whom(store.history()), _by_whom(store.imported())
    posts: dict[str, list[Post]] = defaultdict(list)
    for whom, row in _last_of_each(positions, [row for _, row in rows]).items():
        last, earlier = history[whom][-1:], imported[whom]
        is_older = row.time and any(before.time >= row.time for before in last)
        is_known = _repeats(row, last) or (not row.time and _repeats(row, earlier[-1:]))
        if not is_older and not is_known:
            posts[row.annotator].append(_post(whom[0], row, len(earlier)))
    return sum(store.post(own, annotator) for annotator, own in posts.items())


def _last_of_each(positions: Sequence[int], rows: Sequence[AnswerRow]) -> dict[Whom, AnswerRow]:
    """The latest row about each image by each annotator; without times, the one that comes last."""
    latest: dict[Whom, AnswerRow] = {}
    for index, row in zip(positions, rows, strict=True):
        whom = index, row.annotator, row.settles
        if whom not in latest or not row.time or row.time >= latest[whom].time:
            latest[whom] = row
    return latest


def _by_whom(history: pd.DataFrame) -> dict[Whom, list[AnswerRow]]:
    """The rows of a history about each image by each annotator, oldest first."""
    found: dict[Whom, list[AnswerRow]] = defaultdict(list)
    for index, row in zip(history["index"], answer_rows(history), strict=True):
        found[index, row.annotator, row.settles].append(row)
    return found


def _repeats(row: AnswerRow, others: Sequence[AnswerRow]) -> bool:
    """Whether one of the others says the same; a row without a place says nothing about it."""
    return any(
        row.answer == other.answer and (row.place is None or same_place(row.place, other.place)) for other in others
    )


def _post(index: int, row: AnswerRow, earlier: int) -> Post:
    """The answer under a key derived from it, so that importing it again changes nothing.

    One without a time may return to what was imported before, so its key counts the imports of the annotator about the
    image.
    """
    content = f"{index}\n{row.annotator}\n{row.answer}\n{row.time}\n{row.settles}"
    content += "" if row.place is None else f"\n{row.place.columns}"
    content += f"\n{earlier}" if earlier and not row.time else ""
    key = f"{IMPORTED}{hashlib.sha256(content.encode()).hexdigest()[:24]}"
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
