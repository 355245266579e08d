"""What is exchanged with other programs: who answered what about which image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import numpy as np
import pandas as pd

from slim.arrays import Floats, Ints
from slim.stages.annotate.oracle import is_oracle
from slim.stages.annotate.page.session import Pool
from slim.stages.annotate.store import Store
from slim.stages.judgements import Answer, answers_that_count

SCORES = "attention score"  # the source of predictions, in programs that separate them from answers


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
    """

    answer: Answer
    annotator: str
    seconds: float = 0.0
    time: str = ""
    settles: bool = False

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
        The answer that counts for each image, as `answers_that_count` returns it.
    scores
        (n,) attention scores; None if there are none.
    """

    pool: Pool
    index: Ints
    answers: pd.DataFrame
    counted: pd.DataFrame
    scores: Floats | None = None

    @classmethod
    def from_store(cls, pool: Pool, queried: Ints, store: Store, scores: Floats | None = None) -> Sheet:
        """The queries, the images added to them, and all images that a store has answers about."""
        current, settled, people = store.answers(), store.settled(), store.people()
        answers = pd.concat([current.assign(settles=False), settled.assign(settles=True)])
        index = list(dict.fromkeys([*queried.tolist(), *store.added(), *answers["index"].tolist()]))
        # An oracle's answers count only where no person has answered.
        votes = current[current["annotator"].isin(people)] if people else current
        return cls(pool, np.array(index, dtype=np.int64), answers, answers_that_count(votes, settled), scores)

    def __iter__(self) -> Iterator[AnsweredImage]:
        by_image = {int(cast(int, index)): rows for index, rows in self.answers.groupby("index")}
        for index in self.index.tolist():
            yield self.image(index, by_image.get(index))

    def image(self, index: int, rows: pd.DataFrame | None = None) -> AnsweredImage:
        """One image of the pool, with these rows of `answers`."""
        table, probabilities = self.pool.table, self.pool.probabilities
        predicted = None if probabilities is None else np.asarray(probabilities[index])
        score = float("nan") if self.scores is None else float(self.scores[index])
        columns = ["answer", "annotator", "seconds", "time", "settles"]
        answers = () if rows is None else tuple(AnswerRow(*row) for row in rows[columns].itertuples(index=False))
        return AnsweredImage(
            index,
            table.paths[index],
            table.class_names[int(table.y[index])],
            None if predicted is None else table.class_names[int(predicted.argmax())],
            None if predicted is None else round(float(predicted.max()), 4),
            None if np.isnan(score) else round(score, 4),
            answers,
            *(self.counted.loc[index, ["answer", "annotator"]] if index in self.counted.index else (None, None)),
        )


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
