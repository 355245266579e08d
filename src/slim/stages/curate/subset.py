"""The curated subset: its settings, and the record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from slim.arrays import Flags, Ints
from slim.clustering import sampled
from slim.quantized import Vectors
from slim.record import Record
from slim.stages.attend import SplitAttention
from slim.stages.curate.factors import Source

SHORTCUT = 0.05
"""The least `Factor.evidence` from which on the reference model counts as having taken a shortcut."""


@dataclass(frozen=True, eq=False)
class Subset(Record):
    """The curated subset, and the cells that it is balanced over.

    Attributes
    ----------
    frame
        One row per distinct image: ``index`` in the pool, ``y``, ``core_cluster``, ``environment_cluster``, and
        ``copies``, how often the subset contains it. Copies sum to the subset's size.
    cells
        One row per non-empty cell (class, core cluster, environment cluster): ``y``, ``core_cluster``,
        ``environment_cluster``, ``available`` images with a high score, ``share`` of its class, ``size`` in the subset.
    core_cluster, environment_cluster
        (n,) clusters of every image of the pool.
    kept
        (n,) whether the image's attention score was high enough.
    balance
        How far the subset is balanced, measured without group labels. One row per (class, environment cluster): ``y``,
        ``environment_cluster``, ``pool_share`` among the pool's images of the class, ``subset_share`` among the
        subset's; shares lie in [0, 1] and sum to 1 over a class.
    balanced
        What the environment clusters were made from: "environment" or "features", as in `CurateSettings`.
    explains, evidence
        Share of the reference model's errors that these clusters explain, and the evidence for a shortcut; see
        `Factor`.
    pool
        The split that the subset comes from: "train" or "val".
    """

    frame: pd.DataFrame = field(metadata={"file": "subset"})
    cells: pd.DataFrame
    core_cluster: Ints
    environment_cluster: Ints
    kept: Flags
    balance: pd.DataFrame
    balanced: Source = "environment"
    explains: float | None = None
    evidence: float | None = None
    pool: str = "train"

    @property
    def shortcut(self) -> bool:
        """Whether the reference model seems to have taken a shortcut, so that retraining can help.

        True if its errors were not examined.
        """
        return self.evidence is None or self.evidence >= SHORTCUT

    @property
    def index(self) -> Ints:
        """(size,) positions in the pool; an image occurs as often as the subset contains it."""
        return np.repeat(self.frame["index"].to_numpy(), self.frame["copies"].to_numpy())

    def to_frame(self) -> pd.DataFrame:
        """One row per image of the pool: ``core_cluster``, ``environment_cluster``, ``kept``, and ``copies`` in it."""
        copies = np.bincount(self.index, minlength=len(self.kept))
        clusters = {"core_cluster": self.core_cluster, "environment_cluster": self.environment_cluster}
        return pd.DataFrame({**clusters, "kept": self.kept, "copies": copies})

    def cell(self, *, with_val: bool) -> Ints:
        """(n,) cells, besides the class, by which a last layer weights, resamples and tunes.

        The pairs of core and environment cluster; if val is fitted to as well, the environment clusters alone, which
        val's images can join.
        """
        if with_val:
            return self.environment_cluster
        return self.core_cluster * (int(self.environment_cluster.max()) + 1) + self.environment_cluster

    def join(self, known: SplitAttention, others: SplitAttention, clusters: Ints | None = None) -> Ints:
        """Clusters of other images, by a vote of the five nearest images of the pool.

        Parameters
        ----------
        known, others
            Attention of the pool, and of the images that join its clusters.
        clusters
            (n,) clusters of the pool; the environment clusters by default.
        """
        clusters = self.environment_cluster if clusters is None else clusters
        return join_clusters(getattr(known, self.balanced), clusters, getattr(others, self.balanced))

    def __len__(self) -> int:
        return int(self.frame["copies"].sum())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The positions, so that ``table[subset]`` is the table of the subset's images."""
        return np.asarray(self.index, dtype)

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {"cells": self.cells, f"balance over clusters of {self.balanced}": self.balance}

    def __repr__(self) -> str:
        shares = self.balance.to_string(index=False, float_format="{:.2f}".format)
        return (
            f"Subset of {len(self)} images, {len(self.frame)} of them different\n{self.cells.to_string(index=False)}\n"
            f"Balance over clusters of {self.balanced}\n{shares}"
        )


def join_clusters(known: Vectors, cluster: Ints, features: Vectors) -> Ints:
    """Clusters of other images, by a vote of the five nearest images by cosine distance, among at most `FITTED`.

    Parameters
    ----------
    known, cluster
        (n, d) features of the pool and (n,) their clusters.
    features
        (m, d) features of the other images, for instance of the test split.

    Returns
    -------
    ndarray of shape (m,)
    """
    if (cluster == cluster[0]).all():
        return np.full(len(features), cluster[0])
    among = sampled(np.arange(len(known)), seed=0)
    known, cluster, features = np.asarray(known[among]), cluster[among], np.asarray(features)
    vote = KNeighborsClassifier(min(5, len(known)), metric="cosine", algorithm="brute")
    return np.asarray(vote.fit(known, cluster).predict(features), np.int64)
