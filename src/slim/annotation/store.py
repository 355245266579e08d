"""Where answers are kept: an SQLite file that only grows, and outlives whatever kills the program.

Each row says what somebody answered about an image, or that he took the answer back. Of each annotator's rows
about an image the last one counts. Where people differ, a row may settle it: that one is of record, and everybody's own
answer stays as it was. Nothing is ever changed or deleted; the database itself refuses it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import monotonic, sleep
from types import TracebackType
from typing import Literal, Self, get_args

import pandas as pd

from slim.annotation.queries import Answer
from slim.annotation.schema import NOW, STEPS, VERSION
from slim.errors import AnnotationError, ArtifactError

_INSERT = (
    "INSERT INTO judgements (image, answer, annotator, seconds, settles, time) "
    f"VALUES (?, ?, ?, ?, ?, coalesce(?, {NOW}))"
)
_HISTORY = "SELECT image, answer, annotator, seconds, time, settles FROM judgements"
_LAST = "id IN (SELECT max(id) FROM judgements WHERE NOT settles GROUP BY image, annotator) AND answer <> 'undone'"
_SETTLED = "id IN (SELECT max(id) FROM judgements WHERE settles GROUP BY image) AND answer <> 'undone'"
_COLUMNS = {"index": "int64", "answer": "str", "annotator": "str", "seconds": "float64", "time": "str"}
_PEOPLE = "SELECT annotator, max(id) FROM judgements WHERE {} GROUP BY annotator ORDER BY annotator"
_POSTED = "id IN (SELECT judgement FROM posts)"
_BUSY_SECONDS = 30


@dataclass(frozen=True)
class Post:
    """What the page sends about one image.

    Parameters
    ----------
    key
        Made by the sender, never used again: a post whose key is known already changes nothing.
    index
        Position of the image in the pool.
    answer
        A judgement, "undone" to take one back, or "flag": the photo itself has something wrong.
    seconds
        What a judgement took.
    note
        What is wrong with a flagged photo.
    settles
        Whether the answer, or its being taken back, is of record for everybody: it settles what people differ about.
    time
        When it was answered, as ISO 8601 in UTC with milliseconds; empty = now.
    """

    key: str
    index: int
    answer: Answer | Literal["undone", "flag"]
    seconds: float = 0.0
    note: str = ""
    settles: bool = False
    time: str = ""

    def __post_init__(self) -> None:
        known = (*get_args(Answer), "undone", "flag")
        if self.answer not in known or self.index < 0 or not self.key or not 0 <= self.seconds < float("inf"):
            raise AnnotationError(
                f"A post must be one of {', '.join(known)}, with a key, about a position from 0, in seconds from 0. "
                f"Got {self.answer!r} about {self.index} in {self.seconds} s with key {self.key!r}. Reload the page."
            )


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
            self._insert(index, answer, annotator, seconds)

    def post(self, posts: Sequence[Post], annotator: str) -> int:
        """Keep what the page sent, all of it or nothing. It is on the disk when this returns.

        Returns
        -------
        int
            How many were new. One whose key is known already, since it was sent twice, changes nothing.

        Examples
        --------
        >>> with Store(":memory:") as store:
        ...     once = [store.post([Post("a7", 4, "core", 2.5)], "ann") for _ in range(2)]
        ...     once, len(store.history())
        ([1, 0], 1)
        """
        if not annotator:
            raise AnnotationError("An annotator must have a name. Got an empty one. Say who answers on the page.")
        with self._writing():
            return sum(self._keep(post, annotator) for post in posts)

    def _keep(self, post: Post, annotator: str) -> bool:
        """Keep one post within a transaction; False where its key is known."""
        run = self._connection.execute
        if run("SELECT 1 FROM posts WHERE key = ?", (post.key,)).fetchone() is not None:
            return False
        row: int | None = None
        if post.answer == "flag":
            run("INSERT INTO flags (image, note, annotator) VALUES (?, ?, ?)", (int(post.index), post.note, annotator))
        elif post.answer != "undone" or self._has(post.index, annotator, settles=post.settles):
            row = self._insert(post.index, post.answer, annotator, post.seconds, settles=post.settles, time=post.time)
        run("INSERT INTO posts (key, judgement) VALUES (?, ?)", (post.key, row))
        return True

    def _insert(
        self, index: int, answer: str, annotator: str, seconds: float, *, settles: bool = False, time: str = ""
    ) -> int | None:
        """Add a row within a transaction."""
        values = (int(index), str(answer), str(annotator), float(seconds), int(settles), time or None)
        return self._connection.execute(_INSERT, values).lastrowid

    def people(self) -> list[str]:
        """Who has answered on the page, or elsewhere and was imported, in the order of the alphabet."""
        return list(self._last_rows(f"NOT settles AND {_POSTED}"))

    def last_rows(self) -> dict[str, int]:
        """The number of each person's last row, whatever it says: who remembers it sees that there is a newer one."""
        return self._last_rows(_POSTED)

    def _last_rows(self, which: str) -> dict[str, int]:
        with self._lock:
            return dict(self._connection.execute(_PEOPLE.format(which)).fetchall())

    def flags(self) -> pd.DataFrame:
        """The photos that were flagged, oldest first: columns ``index, note, annotator, time``."""
        with self._lock:
            rows = self._connection.execute("SELECT image, note, annotator, time FROM flags ORDER BY id").fetchall()
        return pd.DataFrame(rows, columns=["index", "note", "annotator", "time"])

    def add(self, index: Sequence[int]) -> None:
        """Keep more images to be asked about; those that were added before stay where they are."""
        with self._writing():
            self._connection.executemany(
                "INSERT OR IGNORE INTO added (image) VALUES (?)", [(int(image),) for image in index]
            )

    def added(self) -> list[int]:
        """The images that `add` was told of, oldest first."""
        with self._lock:
            return [image for (image,) in self._connection.execute("SELECT image FROM added ORDER BY id")]

    def undo(self, index: int, annotator: str) -> bool:
        """Take an annotator's answer about an image back: it counts as not asked, and the history keeps it.

        Returns
        -------
        bool
            Whether there was one.
        """
        with self._writing():
            found = self._has(index, annotator)
            if found:
                self._insert(index, "undone", annotator, 0.0)
        return found

    def _has(self, index: int, annotator: str, *, settles: bool = False) -> bool:
        """Whether an annotator has answered about an image, or anybody has settled it, and not taken it back."""
        whose = "settles" if settles else "NOT settles AND annotator = :who"
        last = f"SELECT answer FROM judgements WHERE image = :image AND {whose} ORDER BY id DESC LIMIT 1"
        row = self._connection.execute(last, {"image": int(index), "who": annotator}).fetchone()
        return row is not None and row[0] != "undone"

    def answers(self) -> pd.DataFrame:
        """The current answer of each annotator about each image, oldest first.

        Returns
        -------
        DataFrame
            Columns ``index, answer, annotator, seconds, time`` (UTC, ISO 8601).
        """
        return self._read(f"{_HISTORY} WHERE {_LAST} ORDER BY id").drop(columns="settles")

    def settled(self) -> pd.DataFrame:
        """The answer that settles each image about which people differed, and who gave it: columns as `answers`.

        Examples
        --------
        >>> with Store(":memory:") as store:
        ...     _ = store.post([Post("a", 4, "core")], "ann"), store.post([Post("b", 4, "spurious")], "bob")
        ...     _ = store.post([Post("c", 4, "spurious", settles=True)], "ann")
        ...     store.answers()["answer"].tolist(), store.settled()["answer"].tolist()
        (['core', 'spurious'], ['spurious'])
        """
        return self._read(f"{_HISTORY} WHERE {_SETTLED} ORDER BY id").drop(columns="settles")

    def history(self) -> pd.DataFrame:
        """Everything ever recorded, oldest first: as `answers`, where "undone" takes an answer back.

        A last column, ``settles``, is True where the row is of record for everybody.
        """
        return self._read(f"{_HISTORY} ORDER BY id")

    def _read(self, query: str) -> pd.DataFrame:
        with self._lock:
            rows = self._connection.execute(query).fetchall()
        columns = {**_COLUMNS, "settles": "bool"}
        return pd.DataFrame(rows, columns=list(columns)).astype(columns)

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
            for statements in STEPS[self._check_version() :]:
                for statement in statements:
                    self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {VERSION}")

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
        if version > VERSION:
            raise ArtifactError(
                f"{self.path} must be of schema version {VERSION} or older. Got version {version}, made by a "
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
