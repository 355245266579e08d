"""Answers that somebody gave before, in a CSV file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import pandas as pd

from slim.annotation.asking import Oracle
from slim.annotation.judgements import majority
from slim.annotation.queries import Answer, Query
from slim.errors import AnnotationError

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


class RecordedAnswers(Oracle):
    """Repeats recorded answers.

    Parameters
    ----------
    path
        CSV file with a column ``answer`` (core, yes or 1; spurious, no or 0; unsure or maybe; empty = not asked)
        and a column that says which image: ``path`` (also ``img_filename``, ``filename``, ``file``, ``image``)
        or else ``index``, its position in the pool. Other columns are ignored.

    Raises
    ------
    AnnotationError
        The file is missing or no CSV, lacks a column, or has another word for an answer.

    Notes
    -----
    Rows are joined by what they say, never by their order. A path may leave out leading folders:
    ``cats/1.jpg`` is ``/data/cats/1.jpg``. Where an image has several rows, the most frequent answer counts,
    and a tie is "unsure"; but where one has "true" in a column ``settles``, that one counts. An image without a row
    counts as not asked.

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
        keys = rows[self.column].map(plain if self.column != INDEX_COLUMN else str.strip)
        answers = rows["answer"]
        given = answers.ne("") & keys.ne("")
        settled = given & rows.get("settles", pd.Series("", rows.index)).str.lower().isin(YES)
        self._answers: dict[str, Answer] = {
            str(key): majority(group) for key, group in answers[given].groupby(keys[given])
        }
        self._answers |= dict(zip(keys[settled], answers[settled], strict=True))
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()[:8]
        self.name = f"recorded {self.path.name} {digest}"  # an edited file is asked anew

    def __repr__(self) -> str:
        return f"RecordedAnswers({self.path.name!r}, {len(self._answers)} images)"

    def answer(self, query: Query) -> Answer | None:
        """The recorded answer; None where there is none.

        Raises
        ------
        AnnotationError
            The recorded path fits several queries.
        """
        if self.column == INDEX_COLUMN:
            return self._answers.get(str(query.index))
        parts = plain(query.path).split("/")
        tails = ("/".join(parts[start:]) for start in range(len(parts)))
        tail = next((tail for tail in tails if tail in self._answers), None)
        if tail is None:
            return None
        self._check_alone(tail, query)
        return self._answers[tail]

    def _check_alone(self, tail: str, query: Query) -> None:
        """Refuse a path, such as a bare file name, that means several of the queries."""
        meant = [path for path in query.queries.table.paths if f"/{plain(path)}".endswith(f"/{tail}")]
        if len(meant) > 1:
            raise AnnotationError(
                f"A recorded path must mean one image. Got {tail!r}, which is {meant[0]} and {meant[1]}. "
                f"Write more of the folders in {self.path}."
            )


def read_rows(path: Path) -> pd.DataFrame:
    """The file's rows, everything as text, answers as core, spurious, unsure or empty.

    Raises
    ------
    AnnotationError
        The file is missing or no CSV, has no column of answers, or another word for an answer.
    """
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise AnnotationError(
            f"Recorded answers must be in a CSV file. Got {path}: {reason}. Look at the name and the contents."
        ) from error
    rows = rows.rename(columns=lambda name: str(name).strip().lower())
    key_column(rows, path)
    said = [answer_of(word, f"line {line} of {path}") for line, word in enumerate(rows["answer"], 2)]
    return rows.assign(answer=pd.Series(said, index=rows.index, dtype="str"))


def key_column(rows: pd.DataFrame, path: Path) -> str:
    """The column that says which image a row is about."""
    column = next((column for column in (*PATH_COLUMNS, INDEX_COLUMN) if column in rows.columns), None)
    if column is None or "answer" not in rows.columns:
        raise AnnotationError(
            f'Recorded answers must have a column "path" or "index" and a column "answer". '
            f"Got {', '.join(rows.columns)} in {path}. Rename its columns."
        )
    return column


def answer_of(word: str, where: str) -> Answer | Literal[""]:
    """The answer that a word means; "" for an empty one."""
    said = word.strip().lower()
    if said and said not in WORDS:
        raise AnnotationError(
            f"Recorded answers must be {', '.join(WORDS)} or empty. Got {word!r} in {where}. Correct it."
        )
    return WORDS[said] if said else ""


def plain(path: str) -> str:
    """A path with forward slashes only, and without a leading ./ or /."""
    return path.strip().replace("\\", "/").removeprefix("./").lstrip("/")
