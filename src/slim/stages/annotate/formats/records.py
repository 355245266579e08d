"""What is exchanged with other programs: who answered what about which image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from slim.arrays import Floats, Ints
from slim.errors import AnnotationError, first_line
from slim.files import MALFORMED
from slim.stages.annotate.oracle import is_oracle
from slim.stages.annotate.page.session import Pool
from slim.stages.annotate.store import Store
from slim.stages.judgements import PLACE_COLUMNS, Answer, Judgements, Place, answers_that_count

SCORES = "attention score"  # the source of predictions, in programs that separate them from answers
_SAME = 1e-4  # of the photo's side: programs round places, and turn corners into centres


@dataclass(frozen=True)
class AnswerRow:
    """One answer about one image.

    Parameters
    ----------
    answer
        "core", "spurious" or "unsure".
    annotator
        Name of the annotator.
    seconds
        Time that the answer took; 0 if unknown.
    time
        Time of the answer, as ISO 8601 in UTC; empty if unknown.
    settles
        Whether it settles a disagreement.
    place
        Where the object is; None = not said.
    """

    answer: Answer
    annotator: str
    seconds: float = 0.0
    time: str = ""
    settles: bool = False
    place: Place | None = None

    @property
    def by_oracle(self) -> bool:
        """Whether it comes from an oracle on masks or boxes, not from a person."""
        return is_oracle(self.annotator)


@dataclass(frozen=True, eq=False)
class AnsweredImage:
    """An image with everybody's answers about it.

    Parameters
    ----------
    index
        Position in the pool.
    path, label
        Path of the image and name of its label.
    prediction, confidence
        What the reference model predicts, and its confidence in [0, 1]; None if unknown.
    score
        Attention score in [0, 1], 1 = looks at the core; None if there is none.
    answers
        Each annotator's answer, and the one that settles a disagreement, if any.
    judgement, judged_by
        The answer that counts and all its annotators; None without an answer.
    place
        The place that counts; None without one.
    """

    index: int
    path: str
    label: str
    prediction: str | None
    confidence: float | None
    score: float | None
    answers: tuple[AnswerRow, ...]
    judgement: str | None
    judged_by: str | None
    place: Place | None


@dataclass(frozen=True, eq=False)
class Found:
    """What later stages found about each image of the pool; None where they are not done.

    Attributes
    ----------
    scores
        (n,) attention scores.
    objects
        (n, h, w) object maps in [0, 1].
    cells
        ``core_cluster``, ``environment_cluster`` and ``copies`` in the curated subset, one row per image.
    """

    scores: Floats | None = None
    objects: Floats | None = None
    cells: pd.DataFrame | None = None


@dataclass(frozen=True, eq=False)
class Sheet:
    """What an export contains. Iterate to get each `AnsweredImage`.

    Parameters
    ----------
    pool
        The images, with their maps and probabilities.
    index
        (m,) positions in the pool of the queries and of all images with an answer.
    answers
        Current answers and those that settle a disagreement, with the columns of `Store.history`.
    counted
        The judgement of each image that has one, as `answers_that_count` returns it.
    found
        What later stages found, as far as they are done.
    """

    pool: Pool
    index: Ints
    answers: pd.DataFrame
    counted: pd.DataFrame
    found: Found = field(default_factory=lambda: Found())

    @classmethod
    def from_store(
        cls,
        pool: Pool,
        queried: Ints,
        store: Store,
        found: Found | None = None,
        judgements: Judgements | None = None,
    ) -> Sheet:
        """The queries, the images added to them, and all images that a store has answers about.

        Without the run's judgements, people's answers count or, where there are none, those of who answered last.
        """
        current, settled, people = store.answers(), store.settled(), store.people()
        answers = pd.concat([current.assign(settles=False), settled.assign(settles=True)])
        index = list(dict.fromkeys([*queried.tolist(), *store.added(), *answers["index"].tolist()]))
        if judgements is None:
            voters = people or current["annotator"].tolist()[-1:]
            counted = answers_that_count(current[current["annotator"].isin(voters)], settled)
        else:
            counted = judgements.frame.set_index("index")
        return cls(pool, np.array(index, dtype=np.int64), answers, counted, found or Found())

    def __iter__(self) -> Iterator[AnsweredImage]:
        by_image = {int(cast(int, index)): rows for index, rows in self.answers.groupby("index")}
        for index in self.index.tolist():
            yield self.image(index, by_image.get(index))

    def image(self, index: int, rows: pd.DataFrame | None = None) -> AnsweredImage:
        """One image of the pool, with these rows of `answers`."""
        table, probabilities = self.pool.table, self.pool.probabilities
        predicted = None if probabilities is None else np.asarray(probabilities[index])
        score = float("nan") if self.found.scores is None else float(self.found.scores[index])
        nothing = {"answer": None, "annotator": None, **dict.fromkeys(PLACE_COLUMNS, float("nan"))}
        counted: Any = self.counted.loc[index] if index in self.counted.index else nothing
        return AnsweredImage(
            index,
            table.paths[index],
            table.class_names[int(table.y[index])],
            None if predicted is None else table.class_names[int(predicted.argmax())],
            None if predicted is None else round(float(predicted.max()), 4),
            None if np.isnan(score) else round(score, 4),
            () if rows is None else answer_rows(rows),
            counted["answer"],
            counted["annotator"],
            Place.from_columns(*(counted[column] for column in PLACE_COLUMNS)),
        )


def answer_rows(rows: pd.DataFrame) -> tuple[AnswerRow, ...]:
    """The answers in rows with the columns of `Store.history`."""
    columns = ["answer", "annotator", "seconds", "time", "settles", *PLACE_COLUMNS]
    return tuple(
        AnswerRow(answer, annotator, seconds, time, settles, Place.from_columns(*place))
        for answer, annotator, seconds, time, settles, *place in rows[columns].itertuples(index=False)
    )


def same_place(one: Place | None, other: Place | None) -> bool:
    """Whether two places are the same but for rounding, or both are missing.

    Examples
    --------
    >>> same_place(Place(0.5, 1 / 3), Place(0.5, 0.33333)), same_place(None, Place(0.5, 0.5)), same_place(None, None)
    (True, False, True)
    """
    if one is None or other is None:
        return one is other
    return bool(np.allclose(one.columns, other.columns, rtol=0, atol=_SAME))


def utc(time: str) -> str:
    """A time as the store writes it, so that times compare as text; empty for an empty one.

    Examples
    --------
    >>> utc("2026-03-09T23:16:08.728353+01:00")
    '2026-03-09T22:16:08.728Z'
    """
    if not time.strip():
        return ""
    moment = datetime.fromisoformat(time.strip())
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


@contextmanager
def well_formed(source: Path) -> Iterator[None]:
    """Refuse answers from another program whose structure is not that of the format.

    Raises
    ------
    AnnotationError
        Reading them in the block went wrong.

    Examples
    --------
    >>> with well_formed(Path("answers.json")):
    ...     {"image": "a.png"}["path"]
    Traceback (most recent call last):
    ...
    slim.errors.AnnotationError: answers.json must be as its program wrote it. Got KeyError: 'path'. ...
    """
    try:
        yield
    except MALFORMED as error:
        reason = first_line(error)
        raise AnnotationError(
            f"{source} must be as its program wrote it. Got {type(error).__name__}: {reason}. Export it again."
        ) from error
