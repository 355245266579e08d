"""Whom to ask about: a few images of each class, spread over its attention space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.cluster import KMeans

from slim.datasets import ImageTable
from slim.errors import AnnotationError, SettingsError

Answer = Literal["core", "spurious", "unsure"]
AnnotatorKind = Literal["auto", "masks", "boxes", "recorded", "browser", "terminal"]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

ANSWERS: tuple[Answer, ...] = get_args(Answer)


@dataclass(frozen=True)
class AnnotateSettings:
    """Which images are asked about, and who answers.

    Parameters
    ----------
    budget
        Judgements asked per class.
    candidates
        Each query is drawn from so many images nearest to its centre in the attention space.
    annotator
        Who answers: masks or boxes (an oracle looks whether the attention lies on the object), recorded (answers
        in a CSV file), browser (you, on a page), terminal (you, with pictures in a folder). auto takes recorded
        answers where a file is given, then masks, then boxes, and else asks you.
    recorded
        CSV file of recorded answers, with a column "path" or "index" and a column "answer".
    noise
        Chance that an oracle's answer is turned into its opposite, from 0 to 1.
    threshold
        An oracle says core when more than this share of the strong attention lies on the object.

    Examples
    --------
    >>> AnnotateSettings(budget=10, noise=0.1).annotator
    'auto'
    """

    budget: int = 20
    candidates: int = 5
    annotator: AnnotatorKind = "auto"
    recorded: str | None = None
    noise: float = 0.0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        _at_least_one("budget", self.budget)
        _at_least_one("candidates", self.candidates)
        if not 0 <= self.noise <= 1:
            raise SettingsError(f"noise must be from 0 to 1. Got {self.noise}. Try --noise 0.1.")
        if not 0 <= self.threshold < 1:
            raise SettingsError(f"threshold must be at least 0 and below 1. Got {self.threshold}. Try --threshold 0.5.")
        self._check_annotator()

    def _check_annotator(self) -> None:
        """Refuse an annotator that does not exist, or settings that would have no effect on it."""
        if self.annotator not in get_args(AnnotatorKind):
            known = ", ".join(get_args(AnnotatorKind))
            raise SettingsError(f"annotator must be one of {known}. Got {self.annotator!r}. Try --annotator auto.")
        if self.annotator == "recorded" and not self.recorded:
            raise SettingsError(
                "Recorded answers must come from a file. Got annotator recorded without one. Add --recorded FILE.csv."
            )
        if self.recorded and self.annotator not in ("auto", "recorded"):
            raise SettingsError(
                f"A file of recorded answers needs annotator recorded or auto. Got {self.annotator}. Drop one of them."
            )
        if self.noise and (self.recorded or self.annotator in ("browser", "terminal")):
            kind = "recorded answers" if self.recorded else f"annotator {self.annotator}"
            raise SettingsError(f"noise must go with an oracle (masks or boxes). Got it with {kind}. Drop --noise.")


@dataclass(frozen=True, eq=False)
class Query:
    """One image shown for judging.

    Parameters
    ----------
    queries
        All queries that it is one of.
    position
        Its place among them, from 0.
    """

    queries: Queries
    position: int

    @property
    def index(self) -> int:
        """Position of the image in the pool, the table that the queries were selected from."""
        return int(self.queries.index[self.position])

    @property
    def y(self) -> int:
        """Label."""
        return int(self.queries.y[self.position])

    @property
    def class_name(self) -> str:
        """Name of the label."""
        return self.queries.class_names[self.y]

    @property
    def path(self) -> str:
        """Absolute path of the image."""
        return str(self.queries.table.frame["path"].iloc[self.position])

    @property
    def row(self) -> dict[str, Any]:
        """The image's row of the table."""
        return dict(self.queries.table.frame.iloc[self.position])

    @property
    def map(self) -> Floats:
        """Attention map (h, w) in [0, 1]; 1 = the strongest attention."""
        return np.asarray(self.queries.maps[self.position])

    def photo(self) -> Image.Image:
        """The image at its own size, RGB; `DataError` where it cannot be read."""
        return self.queries.table.image(self.position)

    def __repr__(self) -> str:
        return f"Query({self.position + 1} of {len(self.queries)}, {self.class_name}, {self.path})"


@dataclass(frozen=True, eq=False)
class Queries:
    """The images to ask about, each class's together. Iterate, or index with a position, to get each `Query`.

    Parameters
    ----------
    index
        (m,) position of each in the pool, without duplicates.
    y
        (m,) labels.
    table
        The m images, in this order.
    maps
        (m, h, w) attention maps in [0, 1].
    class_names
        Name of each label.

    Examples
    --------
    >>> import pandas as pd
    >>> table = ImageTable(pd.DataFrame({"path": ["/a.jpg", "/b.jpg"], "y": [0, 1]}), ("cat", "dog"))
    >>> queries = Queries(np.array([4, 7]), table.y, table, np.zeros((2, 7, 7)), table.class_names)
    >>> queries[1]
    Query(2 of 2, dog, /b.jpg)
    >>> queries
    Queries(2: 1 of cat, 1 of dog)
    """

    index: Ints
    y: Ints
    table: ImageTable
    maps: Floats
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.index), len(self.y), len(self.table), len(self.maps)}
        if len(sizes) > 1 or len(np.unique(self.index)) < len(self.index):
            raise AnnotationError(
                f"Queries must be different images, each with a label, a row and a map. Got {len(self.index)} "
                f"positions ({len(np.unique(self.index))} different), {len(self.y)} labels, {len(self.table)} rows "
                f"and {len(self.maps)} maps. Make them with slim.select_queries."
            )

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int) -> Query:
        return Query(self, range(len(self))[position])

    def __iter__(self) -> Iterator[Query]:
        return (Query(self, position) for position in range(len(self)))

    def __repr__(self) -> str:
        counts = np.bincount(self.y, minlength=len(self.class_names))
        parts = [f"{n} of {name}" for n, name in zip(counts, self.class_names, strict=True) if n]
        return f"Queries({len(self)}: {', '.join(parts)})"

    def of_class(self, y: int) -> list[Query]:
        """The queries of one class, in their order."""
        return [self[int(position)] for position in np.flatnonzero(self.y == y)]


def select_queries(
    coordinates: Floats,
    table: ImageTable,
    maps: Floats,
    *,
    budget: int = 20,
    candidates: int = 5,
    seed: int = 0,
) -> Queries:
    """Choose the images to ask about: per class one near each of `budget` k-means centres.

    Parameters
    ----------
    coordinates
        (n, 2) attention space of the pool.
    table
        The pool's n images.
    maps
        (n, h, w) their attention maps in [0, 1].
    budget
        Queries per class; the number is exact.
    candidates
        An image is drawn at random from so many of its class that are nearest to the centre. Where earlier draws
        have taken all of them, the next nearest comes.
    seed
        The same seed gives the same queries.

    Returns
    -------
    Queries
        ``budget * n_classes`` different images, class after class.

    Raises
    ------
    SettingsError
        A class has fewer images than the budget.
    AnnotationError
        Coordinates, images and maps differ in number, or coordinates are not finite.

    Notes
    -----
    Where a class has fewer distinct points than the budget, the points take turns as centres.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"path": [f"/{i}.jpg" for i in range(6)], "y": [0, 0, 0, 1, 1, 1]})
    >>> table = ImageTable(frame, ("cat", "dog"))
    >>> coordinates = np.array([[0, 0], [0, 1], [9, 9], [0, 0], [5, 5], [5, 6]])
    >>> queries = select_queries(coordinates, table, np.zeros((6, 7, 7)), budget=2, candidates=1)
    >>> queries.index[queries.y == 0].tolist().count(2)
    1
    >>> queries
    Queries(4: 2 of cat, 2 of dog)
    """
    coordinates = np.asarray(coordinates, dtype=np.float64)
    _check_pool(coordinates, table, maps)
    _at_least_one("budget", budget)
    _at_least_one("candidates", candidates)
    y = table.y
    chosen: list[int] = []
    for label, name in enumerate(table.class_names):
        members = np.flatnonzero(y == label)
        if len(members) < budget:
            raise SettingsError(
                f"The budget must not exceed the images of a class. Got budget {budget} for {name!r}, "
                f"which has {len(members)}. Try --budget {max(len(members), 1)} or less."
            )
        rng = np.random.default_rng((seed, label))
        chosen += members[_spread(coordinates[members], budget, candidates, seed, rng)].tolist()
    index = np.array(chosen, dtype=np.int64)
    return Queries(index, y[index], table[index], np.asarray(maps[index], dtype=np.float32), table.class_names)


def further_queries(
    coordinates: Floats, members: Ints, asked: Ints, count: int, *, seed: int = 0, sample: int = 20_000
) -> Ints:
    """Choose more images of a class to ask about: near the k-means centres that lie farthest from those asked before.

    Parameters
    ----------
    coordinates
        (n, 2) attention space of the pool.
    members
        Positions of the class's images in the pool.
    asked
        Positions that have been asked about; those of other classes do not matter.
    count
        How many; fewer come where the class has no more.
    seed
        Of the centres.
    sample
        At most so many images make the centres.

    Examples
    --------
    >>> line = np.stack([np.arange(9.0), np.zeros(9)], axis=1)
    >>> further_queries(line, np.arange(9), np.array([0, 4]), 1)
    array([7])
    """
    points = _scaled(np.asarray(coordinates, dtype=np.float64)[members])
    known = np.isin(members, asked)
    rng = np.random.default_rng((seed, len(asked)))
    few = rng.choice(len(points), sample, replace=False) if len(points) > sample else slice(None)
    centres = _centres(points[few], int(known.sum()) + count, seed)
    if known.any():
        gaps = np.square(centres[:, None] - points[known][None]).sum(2).min(1)
        centres = centres[np.argsort(-gaps, kind="stable")]
    free, chosen = ~known, []
    for turn in range(min(count, int(free.sum()))):
        gaps = np.where(free, np.square(points - centres[turn % len(centres)]).sum(1), np.inf)
        pick = int(gaps.argmin())
        free[pick] = False
        chosen.append(pick)
    return members[np.array(chosen, dtype=np.int64)]


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise SettingsError(f"{name} must be at least 1. Got {value}. Try --{name} 5.")


def _check_pool(coordinates: Floats, table: ImageTable, maps: Floats) -> None:
    """Refuse arrays that are not of the table's images."""
    if not len(coordinates) == len(table) == len(maps):
        raise AnnotationError(
            "Coordinates, images and maps must be of the same pool. "
            f"Got {len(coordinates)}, {len(table)} and {len(maps)}. Embed the split that was attended to."
        )
    if not np.isfinite(coordinates).all():
        bad = int((~np.isfinite(coordinates)).any(1).sum())
        raise AnnotationError(
            f"The attention space must be finite. Got NaN or infinite coordinates of {bad} images. "
            "Embed again, and look whether the reference model has diverged."
        )


def _spread(points: Floats, budget: int, candidates: int, seed: int, rng: np.random.Generator) -> list[int]:
    """Positions of `budget` different points (n, 2), each near its own centre."""
    scaled = _scaled(points)
    centres = _centres(scaled, budget, seed)
    free = np.ones(len(points), dtype=bool)
    chosen: list[int] = []
    for turn in range(budget):
        order = np.argsort(np.square(scaled - centres[turn % len(centres)]).sum(1), kind="stable")
        near = order[:candidates]
        near = near[free[near]]
        pick = int(rng.choice(near)) if len(near) else int(order[free[order]][0])
        free[pick] = False
        chosen.append(pick)
    return chosen


def _scaled(points: Floats) -> Floats:
    """The points within [-1, 1] on a grid of a millionth, so that different ones differ also when squared."""
    centred = points - points.mean(0)
    extent = np.abs(centred).max()
    return (centred / extent).round(6) if extent > 0 else np.zeros_like(centred)


def _centres(points: Floats, k: int, seed: int) -> Floats:
    """At most `k` k-means centres; every distinct point where there are no more of them than `k`."""
    distinct, counts = np.unique(points, axis=0, return_counts=True)
    if len(distinct) <= k:
        return distinct
    means = KMeans(n_clusters=k, n_init=10, random_state=seed).fit(distinct, sample_weight=counts)
    return np.asarray(means.cluster_centers_, dtype=np.float64)
