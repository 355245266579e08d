"""The store of answers: an append-only SQLite file, which survives a crash at any moment.

Each row is one annotator's answer about one image, or withdraws an earlier one. Of an annotator's rows about an image,
the last one counts. Where people disagree, a row may settle the image: that answer then counts, and the annotators' own
answers stay as they were. No row is ever changed or deleted; the database itself refuses it.
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
from typing import Any, Literal, Self, get_args

import pandas as pd

from slim.errors import AnnotationError, ArtifactError
from slim.stages.annotate.schema import NOW, STEPS, VERSION
from slim.stages.judgements import PLACE_COLUMNS, Answer, Place, check_place

_INSERT = (
    "INSERT INTO judgements (image, answer, annotator, seconds, settles, time, x, y, width, height) "
    f"VALUES (?, ?, ?, ?, ?, coalesce(?, {NOW}), ?, ?, ?, ?)"
)
_HISTORY = "SELECT image, answer, annotator, seconds, time, x, y, width, height, settles FROM judgements"
_POSTED = "id IN (SELECT judgement FROM posts WHERE judgement IS NOT NULL)"
# Of recorded answers, those of the file that was asked last are in force; see the name of `RecordedAnswers`.
_FILE = f"(annotator GLOB 'recorded * {'[0-9a-f]' * 8}' AND NOT {_POSTED})"
_LAST_FILE = f"(SELECT annotator FROM judgements WHERE {_FILE} ORDER BY id DESC LIMIT 1)"
_IN_FORCE = f"NOT ({_FILE} AND annotator <> {_LAST_FILE})"
_BY_PERSON = f"({_POSTED} OR {_FILE} OR seconds > 0) AND {_IN_FORCE}"  # an oracle takes no time
_LATEST = "id IN (SELECT max(id) FROM judgements WHERE NOT settles GROUP BY image, annotator)"
_LAST = f"{_LATEST} AND answer <> 'undone' AND {_IN_FORCE}"
_SETTLED = "id IN (SELECT max(id) FROM judgements WHERE settles GROUP BY image) AND answer <> 'undone'"
_ANSWER = {"index": "int64", "answer": "str", "annotator": "str", "seconds": "float64", "time": "str"}
_COLUMNS = {**_ANSWER, **dict.fromkeys(PLACE_COLUMNS, "float64"), "settles": "bool"}
_PEOPLE = "SELECT annotator, max(id) FROM judgements WHERE {} GROUP BY annotator ORDER BY annotator"
_BUSY_SECONDS = 30

IMPORTED = "import-"
"""How the key of an imported answer begins."""

MEMORY = ":memory:"
"""The path of a store that is not on the disk."""


@dataclass(frozen=True)
class Post:
    """What the page sends about one image.

    Parameters
    ----------
    key
        Unique key that the sender chose: a post whose key is already known changes nothing.
    index
        Position of the image in the pool.
    answer
        A judgement, "undone" to withdraw one, or "flag" to report a fault of the photo itself.
    seconds
        Time that the judgement took.
    note
        What is wrong with a flagged photo.
    settles
        Whether the answer, or its withdrawal, settles a disagreement and so holds for everybody.
    time
        Time of the answer, as ISO 8601 in UTC with milliseconds; empty = now.
    place
        Where the object is, with core or spurious; None = not said.
    """

    key: str
    index: int
    answer: Answer | Literal["undone", "flag"]
    seconds: float = 0.0
    note: str = ""
    settles: bool = False
    time: str = ""
    place: Place | None = None

    def __post_init__(self) -> None:
        check_place(self.answer, self.place)
        known = (*get_args(Answer), "undone", "flag")
        if self.answer not in known or self.index < 0 or not self.key or not 0 <= self.seconds < float("inf"):
            raise AnnotationError(
                f"A post must be one of {', '.join(known)}, with a key, about a position from 0, in seconds from 0. "
                f"Got {self.answer!r} about {self.index} in {self.seconds} s with key {self.key!r}. Reload the page."
            )


class Store:
    """The answers of a run, in a file. Use it in a ``with`` block, which closes it.

    Several processes and threads may write to the same file at once.

    Parameters
    ----------
    path
        The SQLite file, created with its folder if it does not exist. ``":memory:"`` keeps nothing on the disk.

    Raises
    ------
    ArtifactError
        The file is not a store, was made by a newer version of SLIM, or cannot be written.

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
        if self.on_disk:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        try:
            # Without an isolation level, the module opens no transactions of its own.
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        try:
            self._prepare()
        except (sqlite3.Error, UnicodeDecodeError) as error:  # of a message that quotes damaged text
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

    @property
    def on_disk(self) -> bool:
        """Whether the answers outlive the program."""
        return str(self.path) != MEMORY

    def close(self) -> None:
        """Close the file. Every answer is already in it."""
        self._connection.close()

    def record(
        self, index: int, answer: Answer, annotator: str, seconds: float = 0.0, place: Place | None = None
    ) -> None:
        """Store an answer. It is on the disk when this returns.

        Parameters
        ----------
        index
            Position of the image in the pool.
        answer
            "core", "spurious" or "unsure". A later answer of the same annotator replaces this one.
        annotator
            Name of the annotator.
        seconds
            Time that the answer took.
        place
            Where the object is, with core or spurious; None = not said.

        Raises
        ------
        AnnotationError
            An unknown answer, a negative position, an empty name, negative seconds, or a place with "unsure".
        """
        if answer not in get_args(Answer) or index < 0 or not annotator or not seconds >= 0:
            raise AnnotationError(
                "An answer must be core, spurious or unsure, about a position from 0, by a named annotator, in seconds "
                f"from 0. Got {answer!r} about {index} by {annotator!r} in {seconds} s. Fix the annotator."
            )
        check_place(answer, place)
        with self._writing():
            self._insert(index, answer, annotator, seconds, place, settles=False, time="")

    def post(self, posts: Sequence[Post], annotator: str) -> int:
        """Store posts from the page, all or none of them. They are on the disk when this returns.

        Returns
        -------
        int
            How many were new. A post that was sent twice, and whose key is therefore known, changes nothing.

        Examples
        --------
        >>> with Store(":memory:") as store:
        ...     once = [store.post([Post("a7", 4, "core", 2.5)], "ann") for _ in range(2)]
        ...     once, len(store.history())
        ([1, 0], 1)
        """
        if not annotator:
            raise AnnotationError("An annotator must have a name. Got an empty one. Enter a name on the page.")
        with self._writing():
            return sum(self._keep(post, annotator) for post in posts)

    def _keep(self, post: Post, annotator: str) -> bool:
        """Store one post within a transaction; False if its key is already known."""
        run = self._connection.execute
        if run("SELECT 1 FROM posts WHERE key = ?", (post.key,)).fetchone() is not None:
            return False
        row: int | None = None
        if post.answer == "flag":
            run("INSERT INTO flags (image, note, annotator) VALUES (?, ?, ?)", (int(post.index), post.note, annotator))
        elif post.answer != "undone" or self._has(post.index, annotator, settles=post.settles):
            how = post.seconds, post.place, post.settles, post.time
            row = self._insert(post.index, post.answer, annotator, *how)
        run("INSERT INTO posts (key, judgement) VALUES (?, ?)", (post.key, row))
        return True

    def _insert(
        self, index: int, answer: str, annotator: str, seconds: float, place: Place | None, settles: bool, time: str
    ) -> int | None:
        """Add a row within a transaction."""
        where = (None,) * 4 if place is None else place.columns
        values = (int(index), str(answer), str(annotator), float(seconds), int(settles), time or None, *where)
        return self._connection.execute(_INSERT, values).lastrowid

    def people(self) -> list[str]:
        """Names of all who have answered, except oracles, in alphabetical order.

        They are people on the page and at the terminal, those whose answers were imported, and the file of recorded
        answers that was asked last.
        """
        return [name for name, _ in self._rows(_PEOPLE.format(f"NOT settles AND {_BY_PERSON}"))]

    def judged(self) -> list[int]:
        """Positions of the images that people judged or settled, in the order of their first answers."""
        people = f"SELECT annotator FROM judgements WHERE NOT settles AND {_BY_PERSON}"
        rows = self._rows(
            f"SELECT image FROM judgements WHERE settles OR annotator IN ({people}) GROUP BY image ORDER BY min(id)"
        )
        return [image for (image,) in rows]

    def last_rows(self) -> dict[str, int]:
        """The number of each person's last row of any kind, which tells a page whether it has seen that row."""
        return dict(self._rows(_PEOPLE.format(_POSTED)))

    def _rows(self, query: str) -> list[Any]:
        """What a query finds."""
        try:
            with self._lock:
                return self._connection.execute(query).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error

    def flags(self) -> pd.DataFrame:
        """The photos that were flagged, oldest first: columns ``index, note, annotator, time``."""
        rows = self._rows("SELECT image, note, annotator, time FROM flags ORDER BY id")
        return pd.DataFrame(rows, columns=["index", "note", "annotator", "time"])

    def add(self, index: Sequence[int]) -> None:
        """Add images to the queries; an image that was added before keeps its place."""
        known = set(self.added())
        new = [(int(image),) for image in index if image not in known]
        if new:  # even an insertion that is ignored would change the file
            with self._writing():
                self._connection.executemany("INSERT OR IGNORE INTO added (image) VALUES (?)", new)

    def added(self) -> list[int]:
        """The images added with `add`, oldest first."""
        return [image for (image,) in self._rows("SELECT image FROM added ORDER BY id")]

    def undo(self, index: int, annotator: str) -> bool:
        """Withdraw an annotator's answer about an image; the history keeps it.

        Returns
        -------
        bool
            Whether there was an answer to withdraw.
        """
        with self._writing():
            answered = self._has(index, annotator)
            if answered:
                self._insert(index, "undone", annotator, 0.0, None, settles=False, time="")
        return answered

    def _has(self, index: int, annotator: str, *, settles: bool = False) -> bool:
        """Whether an annotator's answer about an image stands, or, with `settles`, anybody's that settles it."""
        whose = "settles" if settles else "NOT settles AND annotator = :who"
        last = f"SELECT answer FROM judgements WHERE image = :image AND {whose} ORDER BY id DESC LIMIT 1"
        row = self._connection.execute(last, {"image": int(index), "who": annotator}).fetchone()
        return row is not None and row[0] != "undone"

    def answers(self) -> pd.DataFrame:
        """The current answer of each annotator about each image, oldest first.

        Answers from a recorded file are current until those of another file, or of the edited one, are asked for.

        Returns
        -------
        DataFrame
            Columns ``index, answer, annotator, seconds, time`` (UTC, ISO 8601), and ``place_x, place_y, place_width,
            place_height`` as in `Place` (NaN = no place).
        """
        return self._read(f"{_HISTORY} WHERE {_LAST} ORDER BY id").drop(columns="settles")

    def settled(self) -> pd.DataFrame:
        """The answer that settles each image on which people disagreed: columns as for `answers`.

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
        """Every row ever recorded, oldest first: as `answers`, where "undone" withdraws an answer.

        A last column, ``settles``, is True where the row settles a disagreement.
        """
        return self._read(f"{_HISTORY} ORDER BY id")

    def imported(self) -> pd.DataFrame:
        """The rows of the history that were imported."""
        return self._read(
            f"{_HISTORY} WHERE id IN (SELECT judgement FROM posts WHERE key GLOB '{IMPORTED}*') ORDER BY id"
        )

    def _read(self, query: str) -> pd.DataFrame:
        return pd.DataFrame(self._rows(query), columns=list(_COLUMNS)).astype(_COLUMNS)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction that takes the file's write lock at its start, so that it cannot fail halfway."""
        try:
            with self._lock:
                self._connection.execute("BEGIN IMMEDIATE")
                with self._connection:  # commits, or rolls back after an error
                    yield
        except sqlite3.OperationalError as error:
            raise self._unusable(error) from error

    def _prepare(self) -> None:
        """Check that the file is a store, create or upgrade its tables, and ask for durable commits."""
        version = self._check_version()
        fault = self._connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if fault != "ok":  # before anything is read from it or added to it
            raise sqlite3.DatabaseError(str(fault).splitlines()[-1])
        # FULL: a commit returns only once it is on the disk. WAL: readers do not block the writer.
        self._connection.execute("PRAGMA synchronous = FULL")
        self._switch_to_wal()
        if version == VERSION:
            return  # reading answers leaves every byte of the file as it is
        with self._writing():
            for statements in STEPS[self._check_version() :]:
                for statement in statements:
                    self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def _switch_to_wal(self) -> None:
        """Switch to write-ahead logging; retry while another process opens the new file at the same moment.

        SQLite itself waits for locks everywhere but here.
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
        """The file's schema version, 0 for an empty file; refuses other programs' files and newer versions."""
        # In this order: if another process creates the tables meanwhile, their version is read after them.
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

    def _unusable(self, error: Exception) -> ArtifactError:
        return ArtifactError(
            f"{self.path} must be a store of judgements that can be written. Got: {error}. "
            "Check the disk's free space and the file's permissions, or move the file away and start again."
        )
