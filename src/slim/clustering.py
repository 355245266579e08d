"""Principal components of features, clusters of them by k-means, and the number of clusters."""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

from slim.arrays import Flags, Floats
from slim.quantized import Vectors

T = TypeVar("T", bound=np.generic)

CLUSTERS = (2, 3, 4, 5)
"""The numbers of clusters that are tried."""

FITTED = 10_000
"""The most images that components and clusters are fitted to; the others are placed by them."""

_COMPONENTS = 50
_CHUNK = 4_096  # images whose features are in memory at a time


class Components:
    """Principal components of features, or of their directions, so that long vectors count no more than short ones.

    Parameters
    ----------
    features
        (n, d) features that the components are fitted to, or a random `FITTED` of them.
    seed
        Random seed of the fit.
    count
        How many components there are at most.
    directions
        Whether they are those of the directions.
    among
        (n,) the images to fit to; all by default.
    without
        Orthonormal rows (r, d): what to project out of all features first.

    Notes
    -----
    The same to the last digit whatever the number of threads: the sums of several threads have another order.

    Examples
    --------
    >>> axes = np.eye(3).repeat(4, axis=0)
    >>> bool(np.allclose(Components(axes, seed=0)(axes), Components(axes, seed=0)(7 * axes), atol=1e-6))
    True
    """

    def __init__(
        self,
        features: Vectors,
        seed: int,
        *,
        count: int = _COMPONENTS,
        directions: bool = True,
        among: Flags | None = None,
        without: Floats | None = None,
    ) -> None:
        self._without, self._directions = without, directions
        rows = np.arange(len(features)) if among is None else np.flatnonzero(among)
        with threadpool_limits(1, "blas"):
            sample = self._prepared(features[sampled(rows, seed)])
            self._pca = PCA(min(count, *sample.shape), svd_solver="randomized", random_state=seed).fit(sample)

    def __call__(self, features: Vectors) -> Floats:
        """(m, k) components of features (m, d), which may be larger than memory."""
        points = np.empty((len(features), self._pca.n_components_), np.float32)
        with threadpool_limits(1, "blas"):
            for start in range(0, len(features), _CHUNK):
                chunk = slice(start, start + _CHUNK)
                points[chunk] = self._pca.transform(self._prepared(features[chunk]))
        return points

    def _prepared(self, features: Floats) -> Floats:
        features = np.asarray(features)
        if self._without is not None:
            features = features - (features @ self._without.T) @ self._without
        if self._directions:
            length = np.linalg.norm(features, axis=1, keepdims=True)
            features = features / np.where(length > 0, length, 1.0)
        return np.asarray(features, np.float32)


def sampled(rows: NDArray[T], seed: int, most: int = FITTED) -> NDArray[T]:
    """Random rows, in their order, or all if there are no more than wanted."""
    if len(rows) <= most:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))]


def fit_clusters(points: Floats, k: int, seed: int) -> KMeans:
    """k-means with k clusters, or fewer if there are fewer distinct points, on at most `FITTED` points."""
    points = sampled(points, seed)
    distinct = len(np.unique(points, axis=0))
    return KMeans(min(k, distinct), n_init=10, random_state=seed).fit(points)


def choose_k(points: Floats, by: Literal["elbow", "silhouette"], seed: int = 0) -> int:
    """The number of clusters, from 2 to 5.

    Parameters
    ----------
    points
        (n, d).
    by
        "elbow": where the second difference of the inertia is largest; inertia is computed from 1 to 6 clusters, so
        that each of the four numbers can win. "silhouette": where the mean silhouette of at most 2,000 points is
        highest.
    seed
        Random seed of k-means.

    Examples
    --------
    >>> corners = np.array([[0, 0], [0, 9], [9, 0]]).repeat(10, axis=0)
    >>> choose_k(corners + np.random.default_rng(0).normal(size=(30, 2)), "elbow")
    3
    """
    points = sampled(points, seed)
    n_distinct = len(np.unique(points, axis=0))
    candidates = [k for k in CLUSTERS if k < n_distinct]
    if not candidates:
        return 1
    if by == "silhouette":
        values = [
            silhouette_score(
                points, fit_clusters(points, k, seed).labels_, sample_size=min(2000, len(points)), random_state=seed
            )
            for k in candidates
        ]
        return candidates[int(np.argmax(values))]
    tried = range(1, candidates[-1] + 2)
    inertia = [float(fit_clusters(points, k, seed).inertia_) for k in tried]
    return candidates[int(np.argmax(np.diff(inertia, 2)))]
