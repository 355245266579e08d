"""Whom to ask about: a few images of each class, those whose answers tell most of the others."""

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
Selection = Literal["information", "centres"]
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
    select
        Which: those whose answers would leave least unknown ("information"), or one near each of `budget` k-means
        "centres" of the plane (published).
    candidates
        By centres, each query is drawn from so many images nearest to its centre.
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
    select: Selection = "information"
    candidates: int = 5
    annotator: AnnotatorKind = "auto"
    recorded: str | None = None
    noise: float = 0.0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        _at_least_one("budget", self.budget)
        _at_least_one("candidates", self.candidates)
        _check_selection(self.select)
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
    points: Floats,
    table: ImageTable,
    maps: Floats,
    *,
    budget: int = 20,
    select: Selection = "information",
    candidates: int = 5,
    seed: int = 0,
) -> Queries:
    """Choose the images to ask about.

    Parameters
    ----------
    points
        Of the pool's attention space: (n, d) `components` to select by information, the (n, 2) plane `core` for
        centres.
    table
        The pool's n images.
    maps
        (n, h, w) their attention maps in [0, 1].
    budget
        Queries per class; the number is exact.
    select
        "information": one after the other the image whose answer would most lessen the mean variance of a linear
        regression over its class, whatever the answers are. "centres": one near each of `budget` k-means centres.
    candidates
        By centres an image is drawn at random from so many of its class that are nearest to the centre. Where earlier
        draws have taken all of them, the next nearest comes.
    seed
        Of centres and draws.

    Returns
    -------
    Queries
        ``budget * n_classes`` different images, class after class.

    Raises
    ------
    SettingsError
        A class has fewer images than the budget.
    AnnotationError
        Points, images and maps differ in number, or points are not finite.

    Notes
    -----
    By information, points should have a mean square length of 1, as the components do, and each class takes into
    account what those before it ask. By centres, where a class has fewer distinct points than the budget, the points
    take turns as centres.

    References
    ----------
    K. Yu, J. Bi, V. Tresp, "Active learning via transductive experimental design", ICML 2006.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"path": [f"/{i}.jpg" for i in range(6)], "y": [0, 0, 0, 1, 1, 1]})
    >>> table = ImageTable(frame, ("cat", "dog"))
    >>> points = np.array([[1, 0], [1, 0.1], [0, 1], [0, 0], [-1, 1], [-1, 0.9]])
    >>> queries = select_queries(points, table, np.zeros((6, 7, 7)), budget=2)
    >>> queries.index[queries.y == 0].tolist()
    [1, 2]
    >>> queries
    Queries(4: 2 of cat, 2 of dog)
    """
    points = np.asarray(points, dtype=np.float64)
    _check_pool(points, table, maps)
    _at_least_one("budget", budget)
    _at_least_one("candidates", candidates)
    _check_selection(select)
    y = table.y
    chosen: list[int] = []
    for label, name in enumerate(table.class_names):
        members = np.flatnonzero(y == label)
        if len(members) < budget:
            raise SettingsError(
                f"The budget must not exceed the images of a class. Got budget {budget} for {name!r}, "
                f"which has {len(members)}. Try --budget {max(len(members), 1)} or less."
            )
        if select == "information":
            chosen += most_informative(points, members, np.array(chosen, np.int64), budget).tolist()
        else:
            rng = np.random.default_rng((seed, label))
            chosen += members[_spread(points[members], budget, candidates, seed, rng)].tolist()
    index = np.array(chosen, dtype=np.int64)
    return Queries(index, y[index], table[index], np.asarray(maps[index], dtype=np.float32), table.class_names)


def most_informative(points: Floats, members: Ints, asked: Ints, count: int) -> Ints:
    """Choose images of a class: each time the one whose answer would leave least unknown about the class.

    Parameters
    ----------
    points
        (n, d) of the pool, of a mean square length of about 1.
    members
        Positions of the class's images in the pool.
    asked
        Positions that have been asked about, of any class.
    count
        How many; fewer come where the class has no more.

    Notes
    -----
    A Bayesian linear regression with an intercept, unit prior and unit noise: its variance depends on which points were
    observed, not on what was observed there.

    Examples
    --------
    >>> points = np.array([[1.0, 0.0], [0.9, 0.1], [0.8, 0.0], [0.0, 1.0], [0.1, 0.8]])
    >>> most_informative(points, np.arange(5), np.array([0]), 1)
    array([3])
    """
    known, of_class = (
        np.concatenate([np.asarray(points[some], np.float64), np.ones((len(some), 1))], 1) for some in (asked, members)
    )
    unknown = np.linalg.inv(np.eye(known.shape[1]) + known.T @ known)
    moments = of_class.T @ of_class
    free, chosen = ~np.isin(members, asked), []
    for _ in range(min(count, int(free.sum()))):
        reach = of_class @ unknown
        gains = ((reach @ moments) * reach).sum(1) / ((reach * of_class).sum(1) + 1)
        pick = int(np.where(free, gains, -np.inf).argmax())
        free[pick] = False
        chosen.append(pick)
        unknown = unknown - np.outer(reach[pick], reach[pick]) / (reach[pick] @ of_class[pick] + 1)
    return members[np.array(chosen, dtype=np.int64)]


def _check_selection(select: str) -> None:
    if select not in get_args(Selection):
        known = " or ".join(get_args(Selection))
        raise SettingsError(f"select must be {known}. Got {select!r}. Try --select information.")


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise SettingsError(f"{name} must be at least 1. Got {value}. Try --{name} 5.")


def _check_pool(points: Floats, table: ImageTable, maps: Floats) -> None:
    """Refuse arrays that are not of the table's images."""
    if not len(points) == len(table) == len(maps):
        raise AnnotationError(
            "Points, images and maps must be of the same pool. "
            f"Got {len(points)}, {len(table)} and {len(maps)}. Embed the split that was attended to."
        )
    if not np.isfinite(points).all():
        bad = int((~np.isfinite(points)).any(1).sum())
        raise AnnotationError(
            f"The attention space must be finite. Got NaN or infinity for {bad} images. "
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
