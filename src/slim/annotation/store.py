"""Where answers are kept: an SQLite file that only grows, and outlives whatever kills the program.

Each row says what somebody answered about an image, or that he took the answer back. Of each annotator's rows
about an image the last one counts. Nothing is ever changed or deleted; the database itself refuses it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from time import monotonic, sleep
from types import TracebackType
from typing import Self, get_args

import pandas as pd

from slim.annotation.queries import Answer
from slim.artifacts import write_text
from slim.errors import AnnotationError, ArtifactError

SCHEMA_VERSION = 1

_SCHEMA = (
    """
    CREATE TABLE judgements (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        image INTEGER NOT NULL CHECK (typeof(image) = 'integer' AND image >= 0),
        answer TEXT NOT NULL CHECK (answer IN ('core', 'spurious', 'unsure', 'undone')),
        annotator TEXT NOT NULL CHECK (typeof(annotator) = 'text' AND annotator <> ''),
        seconds REAL NOT NULL CHECK (typeof(seconds) = 'real' AND seconds >= 0),
        time TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    )
    """,
    "CREATE INDEX judgements_of_image ON judgements (image, annotator, id)",
    """
    CREATE TRIGGER judgements_never_change BEFORE UPDATE ON judgements
    BEGIN SELECT RAISE(ABORT, 'judgements are append-only'); END
    """,
    """
    CREATE TRIGGER judgements_never_go BEFORE DELETE ON judgements
    BEGIN SELECT RAISE(ABORT, 'judgements are append-only'); END
    """,
    # INSERT OR REPLACE deletes without firing the trigger above.
    """
    CREATE TRIGGER judgements_never_replaced BEFORE INSERT ON judgements
    WHEN EXISTS (SELECT 1 FROM judgements WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'judgements are append-only'); END
    """,
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_INSERT = "INSERT INTO judgements (image, answer, annotator, seconds) VALUES (?, ?, ?, ?)"
_HISTORY = "SELECT image, answer, annotator, seconds, time FROM judgements"
_LAST = "id IN (SELECT max(id) FROM judgements GROUP BY image, annotator) AND answer <> 'undone'"
_COLUMNS = {"index": "int64", "answer": "str", "annotator": "str", "seconds": "float64", "time": "str"}
_BUSY_SECONDS = 30


class Store:
    """The answers of a run. Use it in a ``with`` block, which closes it.

    Several processes and threads may write to the same file at once.

    Parameters
    ----------
    path
        The SQLite file, made where there is none, with its folder. ``":memory:"`` keeps nothing.

    Raises
    ------
    ArtifactError
        The file is no store, or a newer version of SLIM made it, or it cannot be written.

    Examples
    --------
    >>> with Store(":memory:") as store:
    ...     store.record(4, "core", "ann", seconds=2.5)
    ...     store.record(4, "spurious", "ann", seconds=1.0)
    ...     store.record(7, "unsure", "ann")
    ...     undone = store.undo(7, "ann")
    ...     store.answers()[["index", "answer", "annotator", "seconds"]]
       index    answer annotator  seconds
    0      4  spurious       ann      1.0
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        if str(path) != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        try:
            # Without isolation level, the module begins no transaction behind our back.
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self.close()
            raise self._unusable(error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def close(self) -> None:
        """Let go of the file. Every answer is already in it."""
        self._connection.close()

    def record(self, index: int, answer: Answer, annotator: str, seconds: float = 0.0) -> None:
        """Keep an answer. It is on the disk when this returns.

        Parameters
        ----------
        index
            Position of the image in the pool.
        answer
            "core", "spurious" or "unsure". A later answer of the same annotator takes the place of this one.
        annotator
            Who answered.
        seconds
            What it took.

        Raises
        ------
        AnnotationError
            Another answer, a negative position, no name, or negative seconds.
        """
        if answer not in get_args(Answer) or index < 0 or not annotator or not seconds >= 0:
            raise AnnotationError(
                "An answer must be core, spurious or unsure, about a position from 0, of a named annotator, in seconds "
                f"from 0. Got {answer!r} about {index} of {annotator!r} in {seconds} s. Mend the annotator."
            )
        with self._writing():
            self._connection.execute(_INSERT, (int(index), str(answer), str(annotator), float(seconds)))

    def undo(self, index: int, annotator: str) -> bool:
        """Take an annotator's answer about an image back: it counts as not asked, and the history keeps it.

        Returns
        -------
        bool
            Whether there was one.
        """
        with self._writing():
            query = f"SELECT 1 FROM judgements WHERE image = ? AND annotator = ? AND {_LAST}"
            found = self._connection.execute(query, (int(index), annotator)).fetchone() is not None
            if found:
                self._connection.execute(_INSERT, (int(index), "undone", annotator, 0.0))
        return found

    def answers(self) -> pd.DataFrame:
        """The current answer of each annotator about each image, oldest first.

        Returns
        -------
        DataFrame
            Columns ``index, answer, annotator, seconds, time`` (UTC, ISO 8601).
        """
        return self._read(f"{_HISTORY} WHERE {_LAST} ORDER BY id")

    def history(self) -> pd.DataFrame:
        """Everything ever recorded, oldest first: as `answers`, where "undone" takes an answer back."""
        return self._read(f"{_HISTORY} ORDER BY id")

    def export_csv(self, path: str | Path) -> None:
        """Write the current answers as CSV, which `RecordedAnswers` reads."""
        write_text(Path(path), self.answers().to_csv(index=False, lineterminator="\n"))

    def _read(self, query: str) -> pd.DataFrame:
        with self._lock:
            rows = self._connection.execute(query).fetchall()
        return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction that holds the file's only writing lock from its start, so that it never has to give up."""
        try:
            with self._lock:
                self._connection.execute("BEGIN IMMEDIATE")
                with self._connection:  # commits, or rolls back after an error
                    yield
        except sqlite3.OperationalError as error:
            raise self._unusable(error) from error

    def _prepare(self) -> None:
        """Check whose file it is, make the tables in a new one, and ask for durable commits."""
        self._check_version()
        # FULL: a commit returns only after the disk has it. WAL: readers do not block the writer.
        self._connection.execute("PRAGMA synchronous = FULL")
        self._switch_to_wal()
        with self._writing():
            if self._check_version() == 0:
                for statement in _SCHEMA:
                    self._connection.execute(statement)

    def _switch_to_wal(self) -> None:
        """Ask for write-ahead logging, again and again while another process opens the new file at the same moment.

        SQLite does not wait here by itself, as it does everywhere else.
        """
        deadline = monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                    raise
                sleep(0.01)

    def _check_version(self) -> int:
        """The file's schema version, 0 for an empty file; refuses files of others and of newer versions."""
        # In this order: tables seen here came with the version that is read next, should another process make them.
        used = self._connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise ArtifactError(
                f"{self.path} must be of schema version {SCHEMA_VERSION} or older. Got version {version}, made by a "
                "newer SLIM. Upgrade: pip install --upgrade slim-vision"
            )
        if version == 0 and used:
            raise ArtifactError(
                f"{self.path} must be a store of judgements. Got another program's database. Name another file."
            )
        return version

    def _unusable(self, error: sqlite3.Error) -> ArtifactError:
        return ArtifactError(
            f"{self.path} must be a store of judgements that can be written. Got: {error}. "
            "Look at the disk's space and rights, or move the file away and start again."
        )
