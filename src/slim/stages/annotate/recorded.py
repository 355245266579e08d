"""Recorded answers, read from a CSV file."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from slim.errors import AnnotationError, first_line
from slim.files import read_cells, unguarded
from slim.stages.annotate.annotator import Judged, Oracle
from slim.stages.annotate.oracle import is_oracle
from slim.stages.annotate.queries import Queries, Query
from slim.stages.judgements import PLACE_COLUMNS, Answer, Place, answers_that_count, check_place

# In the order of preference: a path still means the same image after the pool was reordered.
PATH_COLUMNS = ("path", "img_filename", "filename", "file", "image")
INDEX_COLUMN = "index"
WORDS: dict[str, Answer] = {
    "core": "core",
    "yes": "core",
    "1": "core",
    "spurious": "spurious",
    "no": "spurious",
    "0": "spurious",
    "unsure": "unsure",
    "maybe": "unsure",
}
YES = ("true", "1", "yes")
PLACE_NAMES = ("x", "y", "width", "height")


class RecordedAnswers(Oracle):
    """Repeats recorded answers.

    Parameters
    ----------
    path
        CSV file with a column ``answer`` (core, yes or 1; spurious, no or 0; unsure or maybe; empty = no answer) and
        one that identifies the image: ``path`` (or ``img_filename``, ``filename``, ``file``, ``image``), or else
        ``index``, its position in the pool. Columns ``x`` and ``y`` may say where the object is, ``width`` and
        ``height`` how large a box around it is, all as in `slim.Place`; empty = not said. Other columns are ignored.

    Raises
    ------
    AnnotationError
        The file is missing or not a CSV file, lacks a column, or has an unknown word for an answer or an impossible
        place.

    Notes
    -----
    Rows are matched to images by path or index, never by their order. A path may omit leading folders:
    ``cats/1.jpg`` matches ``/data/cats/1.jpg``, if no other image of the pool ends so. Where an image has several rows,
    the most frequent answer counts, and a tie is "unsure"; but a row with "true" in a column ``settles`` overrides the
    others. Rows whose ``annotator`` is an oracle on masks or boxes are left out if there are others. The last place
    with the answer that counts is the image's. An image without a row has no answer.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "answers.csv"
    >>> _ = file.write_text("path,answer\\ncats/1.jpg,yes\\ncats/2.jpg,spurious\\n")
    >>> RecordedAnswers(file)
    RecordedAnswers('answers.csv', 2 images)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        rows = read_rows(self.path)
        self.column = key_column(rows, self.path)
        keys = rows[self.column].map(plain_path if self.column != INDEX_COLUMN else str.strip)
        answered = rows["answer"].ne("") & keys.ne("")
        by_people = answered & ~rows.get("annotator", rows["answer"]).map(is_oracle).astype(bool)
        answered = by_people if by_people.any() else answered
        answers = rows.assign(index=keys, annotator="", seconds=0.0)[answered]
        settles = answers.get("settles", pd.Series("", answers.index)).str.lower().isin(YES)
        counted = answers_that_count(answers, answers[settles].drop_duplicates("index", keep="last"))
        places = (Place.from_columns(*row) for row in counted[list(PLACE_COLUMNS)].itertuples(index=False))
        replies = zip(counted["answer"], places, strict=True)
        self._answers: dict[str, Judged] = {
            str(key): answer if place is None else (answer, place)
            for key, (answer, place) in zip(counted.index, replies, strict=True)
        }
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()[:8]
        self.name = f"recorded {self.path.name} {digest}"  # the answers of an edited file replace the earlier ones
        self._pool: tuple[Queries | None, dict[str, list[str]]] = None, {}

    def __repr__(self) -> str:
        return f"RecordedAnswers({self.path.name!r}, {len(self._answers)} images)"

    def answer(self, query: Query) -> Judged | None:
        """The recorded answer, with the place if one is recorded; None if there is none.

        Raises
        ------
        AnnotationError
            The recorded path matches several images of the pool.
        """
        if self.column == INDEX_COLUMN:
            return self._answers.get(str(query.index))
        parts = plain_path(query.path).split("/")
        tails = ("/".join(parts[start:]) for start in range(len(parts)))
        tail = next((tail for tail in tails if tail in self._answers), None)
        if tail is None:
            return None
        return self._answers[tail] if self._means(tail, query.path, query.queries) else None

    def _means(self, tail: str, path: str, queries: Queries) -> bool:
        """Whether the image at this path is meant; refuses one, such as a bare name, that matches several."""
        if self._pool[0] is not queries:
            self._pool = queries, _by_name((queries.table if queries.pool is None else queries.pool).paths)
        named = self._pool[1].get(_name(tail), [])
        matches = [path for path in named if f"/{plain_path(path)}".endswith(f"/{tail}")]
        matches = [path for path in matches if plain_path(path) == tail] or matches
        if len(matches) > 1:
            raise AnnotationError(
                f"A recorded path must match one image. Got {tail!r}, which matches {matches[0]} and {matches[1]}. "
                f"Include more of the folders in {self.path}."
            )
        return path in matches


def read_rows(path: Path) -> pd.DataFrame:
    """The file's rows as text, with answers as core, spurious, unsure or empty, and places as numbers.

    Raises
    ------
    AnnotationError
        The file is missing or not a CSV file, lacks a column, or has an unknown word for an answer or an impossible
        place.
    """
    try:
        rows = read_cells(path, skip_blank_lines=False).map(unguarded)
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise AnnotationError(
            f"Recorded answers must be in a CSV file. Got {path}: {reason}. Check its name and contents."
        ) from error
    rows = rows.rename(columns=str.lower)
    key_column(rows, path)
    answers = [parse_answer(word, f"line {line} of {path}") for line, word in enumerate(rows["answer"], 2)]
    rows = rows.assign(answer=pd.Series(answers, index=rows.index, dtype="str"))
    places = [parse_place(row, f"line {line} of {path}") for line, row in enumerate(rows.to_dict("records"), 2)]
    values = [(float("nan"),) * 4 if place is None else place.columns for place in places]
    return rows.assign(**pd.DataFrame(values, rows.index, PLACE_COLUMNS, "float64"))


def key_column(rows: pd.DataFrame, path: Path) -> str:
    """Name of the column that identifies a row's image."""
    column = next((column for column in (*PATH_COLUMNS, INDEX_COLUMN) if column in rows.columns), None)
    if column is None or "answer" not in rows.columns:
        raise AnnotationError(
            f'Recorded answers must have a column "path" or "index" and a column "answer". '
            f"Got {', '.join(rows.columns)} in {path}. Rename its columns."
        )
    return column


def parse_answer(word: str, where: str) -> Answer | Literal[""]:
    """The answer that a word stands for; "" for an empty one."""
    key = word.strip().lower()
    if key and key not in WORDS:
        raise AnnotationError(
            f"Recorded answers must be {', '.join(WORDS)} or empty. Got {word!r} in {where}. Correct it."
        )
    return WORDS[key] if key else ""


def parse_place(row: Mapping[Any, Any], where: str) -> Place | None:
    """The place in the columns x, y, width and height of a row, or in place_x and so on, as judgements are saved.

    Without a column x, y may be something else, such as the label. An empty answer has no place.
    """
    prefix = "place_" if "place_x" in row else ""
    values = [str(row.get(f"{prefix}{name}", "")).strip() for name in PLACE_NAMES]
    if f"{prefix}x" not in row or not any(values) or not row["answer"]:
        return None
    try:
        place = Place(float(values[0]), float(values[1]), *(float(size or 0) for size in values[2:]))
        check_place(row["answer"], place)
    except (ValueError, AnnotationError) as error:
        got = ", ".join(f"{name} {value!r}" for name, value in zip(PLACE_NAMES, values, strict=True))
        raise AnnotationError(
            "A place must be x, y, width and height relative to the photo, from 0 to 1, of the answer core or "
            f"spurious. Got {got} with {row['answer']} in {where}. Correct it."
        ) from error
    return place


def _by_name(paths: Iterable[str]) -> dict[str, list[str]]:
    """Paths by the name of the file."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        found[_name(plain_path(path))].append(path)
    return found


def _name(path: str) -> str:
    """The last part of a plain path."""
    return path.rpartition("/")[2]


def plain_path(path: str) -> str:
    """A path with forward slashes only, without a leading ./ or /, its Unicode composed."""
    return unicodedata.normalize("NFC", path).strip().replace("\\", "/").removeprefix("./").lstrip("/")
