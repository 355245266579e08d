"""The factor that a subset is balanced over: clusters that explain the reference model's errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from slim.arrays import Flags, Floats, Ints
from slim.clustering import CLUSTERS, Components, choose_k, fit_clusters
from slim.progress import track
from slim.quantized import Vectors

_AS_GOOD = 0.05
"""Factors that explain as much within this difference count as equally good; the one with fewest clusters is taken."""

Source = Literal["environment", "features"]


@dataclass(frozen=True, eq=False)
class Mistakes:
    """The reference model's errors on images that it was not trained on.

    Attributes
    ----------
    features
        (m, d) features of each source, as for the pool.
    y
        (m,) labels.
    wrong
        (m,) whether the prediction is wrong.
    head
        (n_classes, p) weights of the linear head that reads "features"; None if there is none.
    """

    features: Mapping[Source, Vectors]
    y: Ints
    wrong: Flags
    head: Floats | None = None

    @classmethod
    def from_predictions(
        cls, environment: Vectors, features: Vectors, probabilities: Floats, y: Ints, head: Floats | None = None
    ) -> Mistakes:
        """From the arrays of a `SplitAttention` and the labels.

        Parameters
        ----------
        environment, features, probabilities
            (m, d), (m, p) and (m, n_classes).
        y
            (m,) labels.
        head
            (n_classes, p) weights of the linear head, if there is one.
        """
        wrong = np.asarray(probabilities).argmax(1) != y
        return cls({"environment": environment, "features": features}, y, wrong, head)


@dataclass(frozen=True, eq=False)
class Factor:
    """A way to cluster the images of a pool.

    Attributes
    ----------
    source
        The features that are clustered: "environment", or the whole image's "features" before the linear head.
    cluster
        (n,) cluster of each image.
    explains
        Share of the errors, beyond what the class explains, that class and cluster together explain: 1 = all of it,
        below 0 = less than as many random cells would. None if the errors were not examined.
    evidence
        Evidence for a shortcut: the largest such share for clusters of the features after removing what the linear
        head reads from them, or for clusters of the environment if there is no linear head.
    """

    source: Source
    cluster: Ints
    explains: float | None
    evidence: float | None = None


def find_factor(
    pool: Mapping[Source, Vectors],
    mistakes: Mistakes | None,
    *,
    fit_on: Flags,
    clusters: int | None = None,
    choose_by: Literal["elbow", "silhouette"] = "elbow",
    seed: int = 0,
) -> Factor:
    """Among all sources and numbers of clusters, choose the fewest clusters that explain the errors well.

    Parameters
    ----------
    pool
        (n, d) features of the pool, by source.
    mistakes
        See `Mistakes`; with None, the first source is taken, and `choose_by` gives the number of clusters.
    fit_on
        (n,) the images that the clusters are fitted to; the others join the nearest cluster.
    clusters
        Number of clusters; chosen by default.
    choose_by
        How the number of clusters is chosen without errors to explain.
    seed
        Random seed of PCA and k-means.

    Notes
    -----
    A model that took a shortcut errs where the shortcut misleads. Of two ways to split a class into clusters, the one
    whose clusters differ in accuracy is therefore the one to balance, and class labels of the val split suffice to
    find it. What remains unexplained is the negative log likelihood of right and wrong given each cell's error rate,
    penalised as in the Bayesian information criterion.

    Clusters that follow the predicted class explain the errors of any model. The evidence for a shortcut therefore
    comes from features from which the directions of the linear head's weights are projected out. An attribute that the
    model mistakes for the class also shows in other directions, so it still explains the errors; the errors of a model
    without a shortcut are then explained by nothing.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> place, kind, y = rng.integers(2, size=(3, 400))
    >>> scene, look = np.eye(2)[place] + 0.1 * rng.random((400, 2)), np.eye(2)[kind] + 0.1 * rng.random((400, 2))
    >>> factor = find_factor({"environment": scene, "features": look}, Mistakes(
    ...     {"environment": scene, "features": look}, y, kind != y), fit_on=np.ones(400, bool))
    >>> factor.source, bool(factor.explains > 0.9)
    ('features', True)
    """
    if mistakes is None:
        source, features = next(iter(pool.items()))
        points = Components(features, seed, among=fit_on)(features)
        k = clusters or choose_k(points[fit_on], choose_by, seed)
        return Factor(source, np.asarray(fit_clusters(points[fit_on], k, seed).predict(points), np.int64), None)
    tried: list[tuple[float, Factor]] = []
    for source, features in track(pool.items(), "clustering what the model sees", total=len(pool)):
        components = Components(features, seed, among=fit_on)
        points, others = components(features), components(mistakes.features[source])
        for k in (clusters,) if clusters else CLUSTERS:
            cluster, of_others = _members(points, others, fit_on, k, seed)
            explains = _share_explained(mistakes, of_others)
            tried.append((explains, Factor(source, cluster, explains)))
    most = max(explains for explains, _ in tried)
    good = [(explains, factor) for explains, factor in tried if explains >= most - _AS_GOOD]
    fewest = min(good, key=lambda pair: (int(pair[1].cluster.max()), -pair[0]))[1]
    return replace(fewest, evidence=_evidence(pool, mistakes, fit_on, seed))


def _evidence(pool: Mapping[Source, Vectors], mistakes: Mistakes, fit_on: Flags, seed: int) -> float:
    """The evidence for a shortcut; see `Factor`."""
    source: Source = "environment" if mistakes.head is None or "features" not in pool else "features"
    read = _read_by(np.asarray(mistakes.head)) if source == "features" else None
    components = Components(pool[source], seed, among=fit_on, without=read)
    points, of_others = components(pool[source]), components(mistakes.features[source])
    shown = track(CLUSTERS, "looking for a shortcut")
    return max(_share_explained(mistakes, _members(points, of_others, fit_on, k, seed)[1]) for k in shown)


def _read_by(head: Floats) -> Floats:
    """Orthonormal rows (n_classes - 1, p) that span all differences between the classes' weights."""
    return np.asarray(np.linalg.svd(head - head.mean(0), full_matrices=False)[2][: len(head) - 1])


def _members(points: Floats, others: Floats, fit_on: Flags, k: int, seed: int) -> tuple[Ints, Ints]:
    """Clusters of the pool's images, and of other images."""
    kmeans = fit_clusters(points[fit_on], k, seed)
    return np.asarray(kmeans.predict(points), np.int64), np.asarray(kmeans.predict(others), np.int64)


def _share_explained(mistakes: Mistakes, cluster: Ints) -> float:
    """Share of the errors that class and cluster explain beyond the class; 0 if there is nothing to explain."""
    cells = mistakes.y * (int(cluster.max()) + 1) + cluster
    more = len(np.unique(cells)) - len(np.unique(mistakes.y))
    unexplained = _misfit(mistakes.y, mistakes.wrong)
    if unexplained == 0:
        return 0.0
    return 1 - (_misfit(cells, mistakes.wrong) + 0.5 * more * float(np.log(len(cells)))) / unexplained


def _misfit(cells: Ints, wrong: Flags) -> float:
    """Negative log likelihood of right and wrong given the cells' error rates, in nats."""
    total = 0.0
    for cell in np.unique(cells):
        inside = wrong[cells == cell]
        rate = inside.mean()
        if 0 < rate < 1:
            total -= len(inside) * float(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    return total
