"""Clusters of the environment features, by which the page can colour its map."""

from __future__ import annotations

from threading import Lock

import numpy as np

from slim.clustering import Components, choose_k, fit_clusters
from slim.errors import DataError
from slim.quantized import Vectors


class EnvironmentClusters:
    """The cluster of each image, as a byte; computed on the first call.

    Parameters
    ----------
    features
        (n, d) environment features; None where there are none.

    Notes
    -----
    Two to five clusters over all classes, their number by the elbow of the inertia, the largest first.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(scale=0.01, size=(30, 4))
    >>> clusters = EnvironmentClusters(np.eye(4)[[0, 1, 2]].repeat([8, 12, 10], axis=0) + noise)()
    >>> set(clusters[:8]), set(clusters[8:20]), set(clusters[20:])
    ({2}, {0}, {1})
    """

    def __init__(self, features: Vectors | None) -> None:
        self._features = features
        self._clusters: bytes | None = None
        self._lock = Lock()

    def __call__(self) -> bytes:
        """(n,) cluster numbers from 0, as bytes.

        Raises
        ------
        DataError
            There are no environment features.
        """
        if self._features is None:
            raise DataError("Clusters need environment features. Got none. Open the page with slim annotate RUN.")
        with self._lock:
            if self._clusters is None:
                self._clusters = _cluster(self._features)
        return self._clusters


def _cluster(features: Vectors) -> bytes:
    points = Components(features, seed=0)(features)
    clusters = fit_clusters(points, choose_k(points, "elbow"), seed=0).predict(points)
    by_size = np.argsort(-np.bincount(clusters), kind="stable")
    return bytes(np.argsort(by_size).astype(np.uint8)[clusters])
