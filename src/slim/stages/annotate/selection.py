"""Query selection: a few images of each class, those whose answers are most informative about the others."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans

from slim.arguments import checked
from slim.arrays import Floats, Ints
from slim.data import Dataset, ImageTable
from slim.errors import AnnotationError, SettingsError
from slim.stages.annotate.queries import Queries
from slim.stages.annotate.settings import AnnotateSettings
from slim.stages.attend import Attention
from slim.stages.embed import Space


@checked
def select_queries(
    data: Dataset, attention: Attention, space: Space, settings: AnnotateSettings | None = None, *, seed: int = 0
) -> Queries:
    """Choose the images to judge: ``settings.budget`` different ones per class, the classes in turn.

    Parameters
    ----------
    data, attention, space
        The images, their attention, and the attention space of the pool.
    settings
        See `AnnotateSettings`.
    seed
        Random seed of the published selection; the default one draws nothing.

    Raises
    ------
    SettingsError
        A class has fewer images than the budget.
    AnnotationError
        The space is not of these images, or not finite.

    Examples
    --------
    ``queries = slim.select_queries(data, attention, space, slim.AnnotateSettings(budget=10))``
    """
    settings, table = settings or AnnotateSettings(), data.split(space.pool)
    maps = attention.split(space.pool).maps
    if len(maps) != len(table):
        raise AnnotationError(
            f"The attention must be of these {len(table)} {space.pool} images. Got {len(maps)} maps. "
            "Pass the data set that was attended to."
        )
    index = choose(space.points(settings.select), table, settings, seed)
    return Queries(index, table.y[index], table[index], np.asarray(maps[index], np.float32), table.class_names, table)


def choose(points: Floats, table: ImageTable, settings: AnnotateSettings, seed: int = 0) -> Ints:
    """Positions of the images to judge.

    Parameters
    ----------
    points
        (n, d) components of the attention space, or its (n, 2) plane to select by centres.
    table
        The pool's n images.
    settings, seed
        See `select_queries`.

    Returns
    -------
    ndarray of shape (budget * n_classes,)
        One of each class, then a second one of each class, and so on.

    Notes
    -----
    The classes take turns, since the first answers are about the objects of all classes then, and object maps need
    fewer of them.

    By information, one image after the other is chosen: the one whose answer would most reduce the mean variance of a
    linear regression over its class, whatever the answers are. Points should have a mean square length of 1, as the
    components have, and each class takes the queries of the classes before it into account.

    By centres, an image is drawn at random from those of its class nearest to the centre; if earlier draws have taken
    all of them, the next nearest is taken. If a class has fewer distinct points than the budget, the points take turns
    as centres.

    References
    ----------
    K. Yu, J. Bi, V. Tresp, "Active learning via transductive experimental design", ICML 2006.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"path": [f"/{i}.jpg" for i in range(6)], "y": [0, 0, 0, 1, 1, 1]})
    >>> table = ImageTable(frame, ("cat", "dog"))
    >>> points = np.array([[1, 0], [1, 0.1], [0, 1], [0, 0], [-1, 1], [-1, 0.9]])
    >>> choose(points, table, AnnotateSettings(budget=2)).tolist()
    [1, 4, 2, 5]
    """
    points = np.asarray(points, dtype=np.float64)
    _check_points(points, table)
    check_budget(settings.budget, table)
    y = table.y
    chosen: list[int] = []
    for label in range(table.n_classes):
        members = np.flatnonzero(y == label)
        if settings.select == "information":
            chosen += most_informative(points, members, np.array(chosen, np.int64), settings.budget).tolist()
        else:
            rng = np.random.default_rng((seed, label))
            chosen += members[_near_centres(points[members], settings.budget, settings.candidates, seed, rng)].tolist()
    return np.array(chosen, dtype=np.int64).reshape(-1, settings.budget).T.ravel()


def check_budget(budget: int, table: ImageTable) -> None:
    """Refuse a budget that a class of the pool has too few images for.

    Raises
    ------
    SettingsError
        A class has fewer images than the budget.
    """
    counts = np.bincount(table.y, minlength=table.n_classes)
    smallest = int(counts.argmin())
    if budget > counts[smallest]:
        hint = f"Try --annotate.budget {max(1, counts[smallest] // 2)}." if counts[smallest] else "Add some."
        raise SettingsError(
            f"The budget, in judgements per class, must not exceed the images of a class. Got budget {budget} for "
            f"{table.class_names[smallest]!r}, which has {counts[smallest]} in {table.split}. {hint}"
        )


def most_informative(points: Floats, members: Ints, queried: Ints, count: int) -> Ints:
    """Choose images of a class, one after the other: each time the one whose answer is most informative about it.

    Parameters
    ----------
    points
        (n, d) points of the pool, with a mean square length of about 1.
    members
        Positions of the class's images in the pool.
    queried
        Positions of the queries so far, of any class.
    count
        How many to choose; fewer if the class has no more.

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
        np.concatenate([np.asarray(points[some], np.float64), np.ones((len(some), 1))], 1)
        for some in (queried, members)
    )
    unknown = np.linalg.inv(np.eye(known.shape[1]) + known.T @ known)
    moments = of_class.T @ of_class
    free, chosen = ~np.isin(members, queried), []
    for _ in range(min(count, int(free.sum()))):
        reach = of_class @ unknown
        gains = ((reach @ moments) * reach).sum(1) / ((reach * of_class).sum(1) + 1)
        pick = int(np.where(free, gains, -np.inf).argmax())
        free[pick] = False
        chosen.append(pick)
        unknown = unknown - np.outer(reach[pick], reach[pick]) / (reach[pick] @ of_class[pick] + 1)
    return members[np.array(chosen, dtype=np.int64)]


def _check_points(points: Floats, table: ImageTable) -> None:
    """Refuse points that do not match the table's images, or are not finite."""
    if len(points) != len(table):
        raise AnnotationError(
            f"The attention space must be of the pool's {len(table)} images. Got {len(points)} points. "
            "Embed the split that was attended to."
        )
    if not np.isfinite(points).all():
        bad = int((~np.isfinite(points)).any(1).sum())
        raise AnnotationError(
            f"The attention space must be finite. Got NaN or infinity for {bad} images. "
            "Embed again, and check whether the reference model has diverged."
        )


def _near_centres(points: Floats, budget: int, candidates: int, seed: int, rng: np.random.Generator) -> list[int]:
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
