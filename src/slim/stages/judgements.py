"""Judgements: the answer that counts for each image, whether one or several annotators answered."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slim.arrays import Ints
from slim.data import ImageTable
from slim.errors import AnnotationError
from slim.record import Record

Answer = Literal["core", "spurious", "unsure"]

ANSWERS: tuple[Answer, ...] = get_args(Answer)
COLUMNS = {"index": "int64", "y": "int64", "path": "str", "answer": "str", "annotator": "str", "seconds": "float64"}

SPURIOUS, CORE, UNSURE, UNASKED = 0, 1, 2, 3
_CODES: dict[str, int] = {"spurious": SPURIOUS, "core": CORE, "unsure": UNSURE}


def queried_images(table: ImageTable, index: Ints) -> pd.DataFrame:
    """``index``, ``y`` and ``path`` of some images of a pool, as `Judgements.from_answers` takes them."""
    return pd.DataFrame({"index": index, "y": table.y[index], "path": table.frame["path"].to_numpy()[index]})


def answer_codes(answers: Sequence[Answer]) -> NDArray[np.int8]:
    """`CORE`, `SPURIOUS` or `UNSURE` for each answer.

    Examples
    --------
    >>> answer_codes(["core", "unsure"])
    array([1, 2], dtype=int8)
    """
    return np.array([_CODES[answer] for answer in answers], np.int8)


def answer_that_counts(answers: Iterable[Answer], settled: Answer | None = None) -> Answer:
    """The answer that counts for an image: the settled one, else the majority's; a tie counts as unsure.

    Parameters
    ----------
    answers
        The current answer of each annotator.
    settled
        The answer that settles a disagreement, where there is one.

    Examples
    --------
    >>> answer_that_counts(["core", "core", "spurious"]), answer_that_counts(["core", "spurious"])
    ('core', 'unsure')
    >>> answer_that_counts(["core", "core"], settled="spurious")
    'spurious'
    """
    if settled is not None:
        return settled
    (first, most), *others = Counter(answers).most_common()
    return first if all(count < most for _, count in others) else "unsure"


def answers_that_count(answers: pd.DataFrame, settled: pd.DataFrame) -> pd.DataFrame:
    """The answer that counts for each image, with all its annotators and their seconds in total.

    Parameters
    ----------
    answers, settled
        As `Store.answers` and `Store.settled` return them.

    Returns
    -------
    DataFrame
        ``answer``, ``annotator`` (several joined by " + ") and ``seconds``, indexed by image.
    """
    final: dict[int, Answer] = dict(zip(settled["index"], settled["answer"], strict=True))
    votes: dict[int, list[Answer]] = defaultdict(list)
    for index, answer in zip(answers["index"], answers["answer"], strict=True):
        votes[index].append(answer)
    counted = {index: answer_that_counts(votes[index], final.get(index)) for index in dict.fromkeys([*votes, *final])}
    everything = pd.concat([answers, settled]).groupby("index", sort=False)
    return pd.DataFrame(
        {
            "answer": pd.Series(counted, dtype=object),
            "annotator": everything["annotator"].agg(lambda names: " + ".join(sorted(set(names)))),
            "seconds": everything["seconds"].sum(),
        }
    )


@dataclass(frozen=True, eq=False)
class Judgements(Record):
    """The judgement of each image that was answered; a query without an answer has no row.

    Parameters
    ----------
    frame
        One row per judged image. Columns: ``index`` (position in the pool, no duplicates), ``y`` (label), ``path``,
        ``answer`` ("core", "spurious" or "unsure"), ``annotator`` (several joined by " + "), ``seconds`` (how long the
        answers took; 0 for oracles).

    Examples
    --------
    >>> columns = ["index", "y", "path", "answer", "annotator", "seconds"]
    >>> rows = [(4, 0, "/a.jpg", "core", "ann", 1.5), (7, 1, "/b.jpg", "unsure", "ann", 4.0)]
    >>> judgements = Judgements(pd.DataFrame(rows, columns=columns))
    >>> judgements
    Judgements(2: 1 core, 0 spurious, 1 unsure)
    >>> judgements.annotator
    'ann'
    """

    frame: pd.DataFrame = field(metadata={"file": "judgements"})

    def __post_init__(self) -> None:
        missing = [column for column in COLUMNS if column not in self.frame.columns]
        if missing:
            raise AnnotationError(
                f"Judgements must have the columns {', '.join(COLUMNS)}. Got none named {', '.join(missing)}. "
                "Make them with slim.annotate."
            )
        if len(self.frame) and self.frame["index"].dtype.kind not in "iu":
            raise AnnotationError(
                f"Judgements must name images by whole numbers. Got {self.frame['index'].dtype}. "
                "Check the column index."
            )
        unknown = sorted(set(self.frame["answer"].map(str)) - set(ANSWERS))
        if unknown or self.frame["index"].duplicated().any():
            got = f"the answer {unknown[0]!r}" if unknown else "an image twice"
            raise AnnotationError(
                f"Judgements must be core, spurious or unsure, one per image. Got {got}. Make them with slim.annotate."
            )
        frame = self.frame[list(COLUMNS)].astype(COLUMNS).reset_index(drop=True)
        object.__setattr__(self, "frame", frame)

    @classmethod
    def from_answers(
        cls, queried: pd.DataFrame, answers: pd.DataFrame, settled: pd.DataFrame | None = None
    ) -> Judgements:
        """The judgements of some images, in their order.

        Parameters
        ----------
        queried
            ``index``, ``y`` and ``path`` of the images; answers about others are left out.
        answers, settled
            As `Store.answers` and `Store.settled` return them.
        """
        settled = answers.iloc[:0] if settled is None else settled
        parts = (rows[rows["index"].isin(queried["index"])] for rows in (answers, settled))
        return cls(queried.join(answers_that_count(*parts), on="index", how="inner"))

    @property
    def annotator(self) -> str:
        """Who answered, several joined by " + "."""
        return " + ".join(sorted({name for names in self.frame["annotator"] for name in names.split(" + ")}))

    def codes(self, n: int) -> NDArray[np.int8]:
        """(n,) `CORE` (1), `SPURIOUS` (0), `UNSURE` (2) or `UNASKED` (3) for each image of a pool of n.

        Raises
        ------
        AnnotationError
            A judged image is not in the pool.

        Examples
        --------
        >>> frame = pd.DataFrame({"index": [3, 0], "y": 0, "path": "", "answer": ["core", "unsure"],
        ...                       "annotator": "ann", "seconds": 0.0})
        >>> Judgements(frame).codes(5)
        array([2, 3, 3, 1, 3], dtype=int8)
        """
        index = self.frame["index"].to_numpy()
        outside = index[(index < 0) | (index >= n)]
        if outside.size:
            raise AnnotationError(
                f"Judged images must be among the pool's {n}, from position 0. Got position {outside[0]}. "
                "Pass the data set that was judged."
            )
        codes = np.full(n, UNASKED, np.int8)
        codes[index] = answer_codes(self.frame["answer"].tolist())
        return codes

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        counts = self.frame["answer"].value_counts()
        return f"Judgements({len(self)}: {', '.join(f'{counts.get(answer, 0)} {answer}' for answer in ANSWERS)})"
