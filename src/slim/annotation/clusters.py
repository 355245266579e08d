"""Clusters of the environment features, which the page's map may be coloured by."""

from __future__ import annotations

from threading import Lock

import numpy as np

from slim.annotation.queries import Floats
from slim.clustering import Components, choose_k, fit_clusters
from slim.errors import DataError

FITTED = 10_000  # at most so many images make the clusters; the others go to the nearest
CHUNK = 20_000  # images that are held in memory at once


class EnvironmentClusters:
    """Gives each image's cluster as a byte; computed when it is first asked for.

    Parameters
    ----------
    features
        (n, d) environment features; None where there are none.

    Notes
    -----
    Two to five clusters of all classes together, as many as the elbow of their inertia says, the largest first.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(scale=0.01, size=(30, 4))
    >>> found = EnvironmentClusters(np.eye(4)[[0, 1, 2]].repeat([8, 12, 10], axis=0) + noise)()
    >>> set(found[:8]), set(found[8:20]), set(found[20:])
    ({2}, {0}, {1})
    """

    def __init__(self, features: Floats | None) -> None:
        self._features = features
        self._found: bytes | None = None
        self._lock = Lock()

    def __call__(self) -> bytes:
        """n bytes, from 0.

        Raises
        ------
        DataError
            There are no environment features.
        """
        if self._features is None:
            raise DataError(
                "Clusters must come from environment features. Got none. Open the page with slim annotate RUN."
            )
        with self._lock:
            if self._found is None:
                self._found = _clusters(self._features)
        return self._found


def _clusters(features: Floats) -> bytes:
    n = len(features)
    drawn = np.sort(np.random.default_rng(0).choice(n, min(n, FITTED), replace=False))
    sample = np.asarray(features[drawn], np.float32)
    components = Components(sample, seed=0)
    points = components(sample)
    means = fit_clusters(points, choose_k(points, "elbow"), seed=0)
    parts = [
        means.predict(components(np.asarray(features[start : start + CHUNK], np.float32)))
        for start in range(0, n, CHUNK)
    ]
    found = np.concatenate(parts)
    by_size = np.argsort(-np.bincount(found), kind="stable")
    return bytes(np.argsort(by_size).astype(np.uint8)[found])
