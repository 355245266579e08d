"""Judgements: the answer that counts for each image, whether one or several annotators answered, and the click."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field
from typing import Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slim.arrays import Floats, Ints
from slim.data import ImageTable
from slim.errors import AnnotationError
from slim.record import Record

Answer = Literal["core", "spurious", "unsure"]

ANSWERS: tuple[Answer, ...] = get_args(Answer)
PLACE_COLUMNS = ("place_x", "place_y", "place_width", "place_height")
_REQUIRED = {"index": "int64", "y": "int64", "path": "str", "answer": "str", "annotator": "str", "seconds": "float64"}
COLUMNS = {**_REQUIRED, **dict.fromkeys(PLACE_COLUMNS, "float64")}

SPURIOUS, CORE, UNSURE, UNASKED = 0, 1, 2, 3
_CODES: dict[str, int] = {"spurious": SPURIOUS, "core": CORE, "unsure": UNSURE}


@dataclass(frozen=True)
class Place:
    """Where the object is in a photo: a click on it, or a box around it.

    Parameters
    ----------
    x, y
        The click, or the centre of the box: from the left and from the top of the photo as it is shown (turned as its
        EXIF data say), in [0, 1].
    width, height
        Of the box, as shares of the photo's width and height, in [0, 1]; 0 for a click.

    Raises
    ------
    AnnotationError
        A value is not a number from 0 to 1.

    Examples
    --------
    >>> Place(0.5, 0.25)
    Place(x=0.5, y=0.25, width=0.0, height=0.0)
    """

    x: float
    y: float
    width: float = 0.0
    height: float = 0.0

    def __post_init__(self) -> None:
        values = astuple(self)
        if not all(isinstance(value, (int, float, np.number)) and 0 <= value <= 1 for value in values):
            raise AnnotationError(
                "A place must be x, y, width and height relative to the photo, from 0 to 1. "
                f"Got {', '.join(map(str, values))}. Divide pixels by the photo's width and height."
            )
        for name, value in zip(("x", "y", "width", "height"), values, strict=True):
            object.__setattr__(self, name, float(value))

    @classmethod
    def from_columns(cls, x: float, y: float, width: float, height: float) -> Self | None:
        """The place in the columns `PLACE_COLUMNS` of a table, where NaN means none."""
        return None if x != x else cls(x, y, width, height)

    @property
    def is_box(self) -> bool:
        """Whether it is a box, and not a click."""
        return self.width > 0 or self.height > 0

    @property
    def columns(self) -> tuple[float, float, float, float]:
        """``x, y, width, height``."""
        return self.x, self.y, self.width, self.height


def check_place(answer: str, place: Place | None) -> None:
    """Refuse a place that goes with no answer about the object.

    Raises
    ------
    AnnotationError
        There is a place, and the answer is neither core nor spurious.
    """
    if place is not None and answer not in ("core", "spurious"):
        raise AnnotationError(
            f"A place must come with the answer core or spurious. Got {answer} with {place}. Leave the place out."
        )


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
    """The answer that counts for each image, with all its annotators, their seconds in total, and the place.

    Parameters
    ----------
    answers, settled
        As `Store.answers` and `Store.settled` return them; the columns of the place may be missing.

    Returns
    -------
    DataFrame
        ``answer``, ``annotator`` (several joined by " + "), ``seconds`` and the place, indexed by image.

    Notes
    -----
    The place that counts is that of the settled answer, else the latest one among the annotators whose answer is the
    one that counts.
    """
    final: dict[int, Answer] = dict(zip(settled["index"], settled["answer"], strict=True))
    votes: dict[int, list[Answer]] = defaultdict(list)
    for index, answer in zip(answers["index"], answers["answer"], strict=True):
        votes[index].append(answer)
    counted = {index: answer_that_counts(votes[index], final.get(index)) for index in dict.fromkeys([*votes, *final])}
    rows = pd.concat([answers, settled])
    everything = rows.groupby("index", sort=False)
    return pd.DataFrame(
        {
            "answer": pd.Series(counted, dtype=object),
            "annotator": everything["annotator"].agg(lambda names: " + ".join(sorted(set(names)))),
            "seconds": everything["seconds"].sum(),
        }
    ).join(_places_that_count(rows, counted))


def _places_that_count(rows: pd.DataFrame, counted: dict[int, Answer]) -> pd.DataFrame:
    """The last place in the rows of each image whose answer is the one that counts."""
    rows = rows.reindex(columns=["index", "answer", *PLACE_COLUMNS])
    agreeing = rows[rows["answer"] == rows["index"].map(counted)].dropna(subset=["place_x"])
    return agreeing.drop_duplicates("index", keep="last").set_index("index")[list(PLACE_COLUMNS)].astype("float64")


@dataclass(frozen=True, eq=False)
class Judgements(Record):
    """The judgement of each image that was answered; a query without an answer has no row.

    Parameters
    ----------
    frame
        One row per judged image. Columns: ``index`` (position in the pool, no duplicates), ``y`` (label), ``path``,
        ``answer`` ("core", "spurious" or "unsure"), ``annotator`` (several joined by " + "), ``seconds`` (how long the
        answers took; 0 for oracles), and where the object is, as in `Place`: ``place_x``, ``place_y``, ``place_width``,
        ``place_height`` (NaN = no place; a frame may lack these four).

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
        missing = [column for column in _REQUIRED if column not in self.frame.columns]
        if missing:
            raise AnnotationError(
                f"Judgements must have the columns {', '.join(_REQUIRED)}. Got none named {', '.join(missing)}. "
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
        frame = self.frame.reindex(columns=list(COLUMNS)).astype(COLUMNS).reset_index(drop=True)
        object.__setattr__(self, "frame", _with_whole_places(frame))

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
        codes = np.full(n, UNASKED, np.int8)
        codes[self._positions(n)] = answer_codes(self.frame["answer"].tolist())
        return codes

    def places(self, n: int) -> Floats:
        """(n, 4) ``x, y, width, height`` of the object in each image of a pool of n, as in `Place`; NaN = no place.

        Raises
        ------
        AnnotationError
            A judged image is not in the pool.

        Examples
        --------
        >>> frame = pd.DataFrame({"index": [1], "y": 0, "path": "", "answer": "spurious", "annotator": "ann",
        ...                       "seconds": 0.0, "place_x": 0.5, "place_y": 0.25})
        >>> Judgements(frame).places(2)
        array([[ nan,  nan,  nan,  nan],
               [0.5 , 0.25, 0.  , 0.  ]])
        """
        places = np.full((n, len(PLACE_COLUMNS)), np.nan)
        places[self._positions(n)] = self.frame[list(PLACE_COLUMNS)].to_numpy()
        return places

    def to_frame(self, n: int) -> pd.DataFrame:
        """One row for each of n images of the pool: ``answer``, and ``annotator``; NaN without an answer."""
        return self.frame.set_index("index")[["answer", "annotator"]].reindex(range(n)).reset_index(drop=True)

    def _positions(self, n: int) -> Ints:
        """Positions of the judged images; refuses those outside a pool of n."""
        index = self.frame["index"].to_numpy()
        outside = index[(index < 0) | (index >= n)]
        if outside.size:
            raise AnnotationError(
                f"Judged images must be among the pool's {n}, from position 0. Got position {outside[0]}. "
                "Pass the data set that was judged."
            )
        return index

    def __len__(self) -> int:
        return len(self.frame)

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {repr(self): self.frame}

    def __repr__(self) -> str:
        counts = self.frame["answer"].value_counts()
        return f"Judgements({len(self)}: {', '.join(f'{counts.get(answer, 0)} {answer}' for answer in ANSWERS)})"


def _with_whole_places(frame: pd.DataFrame) -> pd.DataFrame:
    """Judgements whose clicks have width and height 0; refuses a place that is none."""
    placed = frame[list(PLACE_COLUMNS)].notna().any(axis=1)
    frame.loc[placed, list(PLACE_COLUMNS[2:])] = frame.loc[placed, list(PLACE_COLUMNS[2:])].fillna(0.0)
    for answer, *place in frame.loc[placed, ["answer", *PLACE_COLUMNS]].itertuples(index=False):
        check_place(answer, Place(*place))
    return frame
