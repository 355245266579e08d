"""The factor that a subset is balanced over: clusters that explain where the reference model errs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slim.clustering import CLUSTERS, Components, choose_k, fit_clusters

Floats = NDArray[np.floating]
Indices = NDArray[np.int64]

_AS_GOOD = 0.05
"""Difference of what two factors explain that does not count: of such, the one of fewer clusters is taken."""

Source = Literal["environment", "features"]


@dataclass(frozen=True, eq=False)
class Mistakes:
    """What the reference model gets wrong among images that it was not trained on.

    Attributes
    ----------
    features
        By source, (m, d): what the images are clustered by, as for the pool.
    y
        (m,) labels.
    wrong
        (m,) whether the model errs.
    head
        (n_classes, p) weights of the linear head that reads "features"; None where there is none.
    """

    features: Mapping[Source, Floats]
    y: Indices
    wrong: NDArray[np.bool_]
    head: Floats | None = None

    @classmethod
    def of(
        cls, environment: Floats, features: Floats, probabilities: Floats, y: Indices, head: Floats | None = None
    ) -> Mistakes:
        """From what `slim.Attention` holds of images, and their labels.

        Parameters
        ----------
        environment, features, probabilities
            (m, d), (m, p) and (m, n_classes).
        y
            (m,) labels.
        head
            (n_classes, p), see above.
        """
        wrong = np.asarray(probabilities).argmax(1) != y
        return cls({"environment": environment, "features": features}, y, wrong, head)


@dataclass(frozen=True, eq=False)
class Factor:
    """Clusters of a pool's images.

    Attributes
    ----------
    source
        What was clustered: "environment" features, or the whole image's "features" before the linear head.
    cluster
        (n,) of each image.
    explains
        Share of what the class leaves unexplained of where the model errs that class and cluster together explain,
        at most 1 = all of it; below 0 = less than so many cells would by chance. None where no mistakes were looked at.
    evidence
        What speaks for a shortcut: the same share, at most, for clusters of the features without what the linear head
        reads in them; of the environment where there is no linear head.
    """

    source: Source
    cluster: Indices
    explains: float | None
    evidence: float | None = None


def find_factor(
    pool: Mapping[Source, Floats],
    mistakes: Mistakes | None,
    *,
    fit_on: NDArray[np.bool_],
    clusters: int | None = None,
    choose_by: Literal["elbow", "silhouette"] = "elbow",
    seed: int = 0,
) -> Factor:
    """Of all sources and numbers of clusters, take the fewest clusters that explain the reference's mistakes well.

    Parameters
    ----------
    pool
        By source, (n, d) features of the pool.
    mistakes
        See `Mistakes`; None takes the first source, and as many clusters as `choose_by` says.
    fit_on
        (n,) the images that clusters are found among; the others join the nearest.
    clusters
        How many; chosen by default.
    choose_by
        How their number is chosen where there are no mistakes to explain.
    seed
        Of PCA and k-means.

    Notes
    -----
    A model that took a shortcut errs where the shortcut misleads. So of two ways to part the images of a class, the
    one whose parts differ in accuracy is the one to balance. The labels of the val split suffice to see it. What is
    unexplained is measured by the deviance of right and wrong given each cell's rate, penalised as in the Bayesian
    information criterion.

    Clusters that are close to the predicted class explain mistakes too, of any model. So the evidence for a shortcut
    comes from features whose part along the linear head's weights is taken out. An attribute that the model takes for
    the class shows in much else of what it sees, and so still goes with the mistakes; those of a model without a
    shortcut go with nothing.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> place, kind, y = rng.integers(2, size=(3, 400))
    >>> scene, look = np.eye(2)[place] + 0.1 * rng.random((400, 2)), np.eye(2)[kind] + 0.1 * rng.random((400, 2))
    >>> found = find_factor({"environment": scene, "features": look}, Mistakes(
    ...     {"environment": scene, "features": look}, y, kind != y), fit_on=np.ones(400, bool))
    >>> found.source, bool(found.explains > 0.9)
    ('features', True)
    """
    if mistakes is None:
        source, features = next(iter(pool.items()))
        points = Components(np.asarray(features)[fit_on], seed)(np.asarray(features))
        k = clusters or choose_k(points[fit_on], choose_by, seed)
        return Factor(source, np.asarray(fit_clusters(points[fit_on], k, seed).predict(points), np.int64), None)
    tried: list[tuple[float, Factor]] = []
    for source, features in pool.items():
        components = Components(np.asarray(features)[fit_on], seed)
        points = components(np.asarray(features))
        others = components(np.asarray(mistakes.features[source]))
        for k in (clusters,) if clusters else CLUSTERS:
            cluster, of_others = _members(points, others, fit_on, k, seed)
            explains = _share_explained(mistakes, of_others)
            tried.append((explains, Factor(source, cluster, explains)))
    most = max(explains for explains, _ in tried)
    good = [(explains, factor) for explains, factor in tried if explains >= most - _AS_GOOD]
    fewest = min(good, key=lambda pair: (int(pair[1].cluster.max()), -pair[0]))[1]
    return replace(fewest, evidence=_evidence(pool, mistakes, fit_on, seed))


def _evidence(pool: Mapping[Source, Floats], mistakes: Mistakes, fit_on: NDArray[np.bool_], seed: int) -> float:
    """See `Factor`."""
    source: Source = "environment" if mistakes.head is None or "features" not in pool else "features"
    seen, others = np.asarray(pool[source]), np.asarray(mistakes.features[source])
    if source == "features":
        read = _read_by(np.asarray(mistakes.head))
        seen, others = seen - (seen @ read.T) @ read, others - (others @ read.T) @ read
    components = Components(seen[fit_on], seed)
    points, of_others = components(seen), components(others)
    return max(_share_explained(mistakes, _members(points, of_others, fit_on, k, seed)[1]) for k in CLUSTERS)


def _read_by(head: Floats) -> Floats:
    """Orthonormal rows (n_classes - 1, p) that span all differences between the classes' weights."""
    return np.asarray(np.linalg.svd(head - head.mean(0), full_matrices=False)[2][: len(head) - 1])


def _members(points: Floats, others: Floats, fit_on: NDArray[np.bool_], k: int, seed: int) -> tuple[Indices, Indices]:
    """Clusters of the pool's images, and of others."""
    found = fit_clusters(points[fit_on], k, seed)
    return np.asarray(found.predict(points), np.int64), np.asarray(found.predict(others), np.int64)


def _share_explained(mistakes: Mistakes, cluster: Indices) -> float:
    """What class and cluster explain of where the model errs, beyond the class; 0 where there is nothing to explain."""
    cells = mistakes.y * (int(cluster.max()) + 1) + cluster
    more = len(np.unique(cells)) - len(np.unique(mistakes.y))
    unexplained = _misfit(mistakes.y, mistakes.wrong)
    if unexplained == 0:
        return 0.0
    return 1 - (_misfit(cells, mistakes.wrong) + 0.5 * more * float(np.log(len(cells)))) / unexplained


def _misfit(cells: Indices, wrong: NDArray[np.bool_]) -> float:
    """Negative log likelihood of right and wrong by the cells' rates, in nats."""
    total = 0.0
    for cell in np.unique(cells):
        inside = wrong[cells == cell]
        rate = inside.mean()
        if 0 < rate < 1:
            total -= len(inside) * float(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    return total
