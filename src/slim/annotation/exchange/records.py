"""What goes to other programs and comes back: who answered what about which image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slim.annotation.judgements import of_record
from slim.annotation.oracle import is_oracle
from slim.annotation.queries import Answer
from slim.annotation.session import Pool
from slim.annotation.store import Store

SCORES = "attention score"  # who predicts, in programs that tell predictions from answers


@dataclass(frozen=True)
class Given:
    """One answer about one image.

    Parameters
    ----------
    answer
        "core", "spurious" or "unsure".
    annotator
        Who gave it.
    seconds
        What it took; 0 where that is not known.
    time
        When, as ISO 8601 in UTC; empty where that is not known.
    settles
        Whether it settles what people differ about.
    """

    answer: Answer
    annotator: str
    seconds: float = 0.0
    time: str = ""
    settles: bool = False

    @property
    def by_oracle(self) -> bool:
        """Whether masks or boxes gave it, and nobody."""
        return is_oracle(self.annotator)


@dataclass(frozen=True, eq=False)
class Asked:
    """An image that was asked about.

    Parameters
    ----------
    index
        Position in the pool.
    path, label
        Of the image.
    prediction, confidence
        Of the reference model, confidence in [0, 1]; None where they are not known.
    score
        Attention score in [0, 1], 1 = looks at the core; None where nothing is spread yet.
    answers
        Everybody's, and the one that settles them where there is one.
    judgement, judged_by
        The answer of record and all who answered; None where nobody has.
    """

    index: int
    path: str
    label: str
    prediction: str | None
    confidence: float | None
    score: float | None
    answers: tuple[Given, ...]
    judgement: str | None
    judged_by: str | None

    def facts(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Sheet:
    """What an export holds.

    Parameters
    ----------
    pool
        The images, with their maps and probabilities.
    index
        (m,) positions in the pool of the images that were asked about.
    answers
        As `Store.history`, only the rows that count.
    record
        As `of_record` gives it.
    scores
        (n,) attention scores; None where there are none.
    """

    pool: Pool
    index: NDArray[np.int64]
    answers: pd.DataFrame
    record: pd.DataFrame
    scores: NDArray[np.floating[Any]] | None = None

    @classmethod
    def of(
        cls, pool: Pool, asked: NDArray[np.int64], store: Store, scores: NDArray[np.floating[Any]] | None = None
    ) -> Sheet:
        """Everything that a store holds about the queries and the images that were added."""
        given, settled, people = store.answers(), store.settled(), store.people()
        answers = pd.concat([given.assign(settles=False), settled.assign(settles=True)])
        index = list(dict.fromkeys([*asked.tolist(), *store.added(), *answers["index"].tolist()]))
        # An oracle's answers count where it alone was asked.
        counted = given[given["annotator"].isin(people)] if people else given
        return cls(pool, np.array(index, dtype=np.int64), answers, of_record(counted, settled), scores)

    def __iter__(self) -> Iterator[Asked]:
        by_image = {int(cast(int, index)): rows for index, rows in self.answers.groupby("index")}
        for index in self.index.tolist():
            yield self.image(index, by_image.get(index))

    def image(self, index: int, rows: pd.DataFrame | None = None) -> Asked:
        """What is known and was said of one image of the pool."""
        table, probabilities = self.pool.table, self.pool.probabilities
        seen = None if probabilities is None else np.asarray(probabilities[index])
        score = float("nan") if self.scores is None else float(self.scores[index])
        columns = ["answer", "annotator", "seconds", "time", "settles"]
        given = () if rows is None else tuple(Given(*row) for row in rows[columns].itertuples(index=False))
        return Asked(
            index,
            table.paths[index],
            table.class_names[int(table.y[index])],
            None if seen is None else table.class_names[int(seen.argmax())],
            None if seen is None else round(float(seen.max()), 4),
            None if np.isnan(score) else round(score, 4),
            given,
            *(self.record.loc[index, ["answer", "annotator"]] if index in self.record.index else (None, None)),
        )


def utc(time: str) -> str:
    """A time as the store writes it, so that times compare as text; empty where it says nothing.

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
