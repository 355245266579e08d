"""Recorded answers, read from a CSV file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import pandas as pd

from slim.errors import AnnotationError
from slim.stages.annotate.annotator import Oracle
from slim.stages.annotate.queries import Query
from slim.stages.judgements import Answer, answer_that_counts

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
        CSV file with a column ``answer`` (core, yes or 1; spurious, no or 0; unsure or maybe; empty = no answer) and
        one that identifies the image: ``path`` (or ``img_filename``, ``filename``, ``file``, ``image``), or else
        ``index``, its position in the pool. Other columns are ignored.

    Raises
    ------
    AnnotationError
        The file is missing or not a CSV file, lacks a column, or has an unknown word for an answer.

    Notes
    -----
    Rows are matched to images by path or index, never by their order. A path may omit leading folders:
    ``cats/1.jpg`` matches ``/data/cats/1.jpg``. Where an image has several rows, the most frequent answer counts, and a
    tie is "unsure"; but a row with "true" in a column ``settles`` overrides the others. An image without a row has no
    answer.

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
        answers = rows["answer"]
        answered = answers.ne("") & keys.ne("")
        settles = answered & rows.get("settles", pd.Series("", rows.index)).str.lower().isin(YES)
        settled = dict(zip(keys[settles], answers[settles], strict=True))
        self._answers: dict[str, Answer] = {
            str(key): answer_that_counts(group, settled.get(key))
            for key, group in answers[answered].groupby(keys[answered])
        }
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()[:8]
        self.name = f"recorded {self.path.name} {digest}"  # the answers of an edited file replace the earlier ones

    def __repr__(self) -> str:
        return f"RecordedAnswers({self.path.name!r}, {len(self._answers)} images)"

    def answer(self, query: Query) -> Answer | None:
        """The recorded answer; None if there is none.

        Raises
        ------
        AnnotationError
            The recorded path matches several queries.
        """
        if self.column == INDEX_COLUMN:
            return self._answers.get(str(query.index))
        parts = plain_path(query.path).split("/")
        tails = ("/".join(parts[start:]) for start in range(len(parts)))
        tail = next((tail for tail in tails if tail in self._answers), None)
        if tail is None:
            return None
        self._check_unique(tail, query)
        return self._answers[tail]

    def _check_unique(self, tail: str, query: Query) -> None:
        """Refuse a path, such as a bare file name, that matches several of the queries."""
        matches = [path for path in query.queries.table.paths if f"/{plain_path(path)}".endswith(f"/{tail}")]
        if len(matches) > 1:
            raise AnnotationError(
                f"A recorded path must match one image. Got {tail!r}, which matches {matches[0]} and {matches[1]}. "
                f"Include more of the folders in {self.path}."
            )


def read_rows(path: Path) -> pd.DataFrame:
    """The file's rows as text, with answers as core, spurious, unsure or empty.

    Raises
    ------
    AnnotationError
        The file is missing or not a CSV file, lacks a column, or has an unknown word for an answer.
    """
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise AnnotationError(
            f"Recorded answers must be in a CSV file. Got {path}: {reason}. Check its name and contents."
        ) from error
    rows = rows.rename(columns=lambda name: str(name).strip().lower())
    key_column(rows, path)
    answers = [parse_answer(word, f"line {line} of {path}") for line, word in enumerate(rows["answer"], 2)]
    return rows.assign(answer=pd.Series(answers, index=rows.index, dtype="str"))


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


def plain_path(path: str) -> str:
    """A path with forward slashes only, and without a leading ./ or /."""
    return path.strip().replace("\\", "/").removeprefix("./").lstrip("/")
