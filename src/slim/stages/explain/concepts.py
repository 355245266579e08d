"""Concepts: kinds of places that the model attends to, found without a person and without group labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.cluster import KMeans

from slim.arrays import Bytes, Flags, Floats, Ints
from slim.localization import Places
from slim.network.gradcam import upsample

_SAMPLE = 2000  # images that the clusters are fitted to
_PER_IMAGE = 24  # places of each, most of them attended
_UNATTENDED = 0.02  # weight of a place without attention, so that clusters of the rest exist too
_TOGETHER = 0.2  # mean correlation from which clusters are one concept
_FULL, _LEAST = 0.9, 2
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Concepts:
    """Kinds of places.

    Attributes
    ----------
    centres
        (k, c) centres of clusters of places.
    concept
        (k,) the concept that each cluster belongs to, 0 to n_concepts - 1.
    least
        (n_concepts,) the number of cells from which an image shows a concept.
    """

    centres: Floats
    concept: Ints
    least: Ints

    def __len__(self) -> int:
        return len(self.least)

    def cells(self, places: Places) -> Bytes:
        """The concept (n, g, g) of each place (n, g, g, c)."""
        return self.concept.astype(np.uint8)[_nearest(self.centres, places)]

    def shown(self, cells: Bytes) -> Flags:
        """(n, n_concepts) whether each image shows each concept."""
        return _counts(cells, len(self)) >= self.least


def find_concepts(places: Places, attention: Floats, y: Ints, n_clusters: int, seed: int) -> Concepts:
    """Cluster the places of images, attended ones above all, and join clusters that come together.

    Parameters
    ----------
    places
        (n, g, g, c) features of places.
    attention
        (n, h, w) attention maps in [0, 1].
    y
        (n,) labels.
    n_clusters
        Clusters before they are joined.
    seed
        Random seed.

    Notes
    -----
    Clusters are joined where images *of the same class* show them together: leaves and moss stand in the same forests,
    in those of the few dogs too. What only shares its class, such as forests and cats' ears, stays apart.
    """
    rng = np.random.default_rng((seed, 12))
    sample = np.sort(rng.permutation(len(places))[:_SAMPLE])
    weight = np.square(attention_of_places(attention[sample], places.shape[1])).reshape(len(sample), -1) + _UNATTENDED
    drawn = [rng.choice(len(one), min(_PER_IMAGE, len(one)), replace=False, p=one / one.sum()) for one in weight]
    rows = [np.asarray(places[i]).reshape(-1, places.shape[-1])[at] for i, at in zip(sample, drawn, strict=True)]
    points = np.concatenate(rows).astype(np.float32)
    k = min(n_clusters, len(np.unique(points, axis=0)))
    centres = KMeans(k, n_init=1, max_iter=50, random_state=seed).fit(points).cluster_centers_.astype(np.float32)
    clusters = _nearest(centres, places)
    counts = _counts(clusters, k)
    concept = _joined(counts >= _least(counts), y)
    return Concepts(centres, concept, _least(_counts(concept.astype(np.uint8)[clusters], int(concept.max()) + 1)))


def attention_of_places(attention: Floats, side: int) -> Floats:
    """Attention maps (n, h, w) on the grid of places, (n, side, side)."""
    return upsample(torch.from_numpy(np.array(attention, np.float32)), side).numpy()


def _nearest(centres: Floats, places: Places) -> Bytes:
    """The nearest centre of each place, (n, g, g)."""
    nearest = np.empty(places.shape[:3], np.uint8)
    half = np.square(centres).sum(1) / 2
    for start in range(0, len(places), _CHUNK):
        chunk = np.asarray(places[start : start + _CHUNK], np.float32)
        nearest[start : start + _CHUNK] = (chunk @ centres.T - half).argmax(-1)
    return nearest


def _counts(cells: Bytes, n: int) -> Ints:
    """(len(cells), n) cells of each kind in each image."""
    flat = cells.reshape(len(cells), -1) + n * np.arange(len(cells))[:, None]
    return np.bincount(flat.ravel(), minlength=n * len(cells)).reshape(len(cells), n)


def _least(counts: Ints) -> Ints:
    """Half as many cells as in images that are full of a kind."""
    return np.maximum(_LEAST, np.ceil(np.quantile(counts, _FULL, axis=0) / 2)).astype(np.int64)


def _joined(shown: Flags, y: Ints) -> Ints:
    """The concept of each cluster (k,), by the correlation of what images (n, k) of the same class show."""
    k = shown.shape[1]
    if k < 2:
        return np.zeros(k, np.int64)
    together = np.full((k, k), -1.0)
    for label in np.unique(y):
        own = shown[y == label].astype(np.float64)
        centred = own - own.mean(0)
        spread = np.sqrt(np.square(centred).sum(0))
        correlation = centred.T @ centred / np.maximum(np.outer(spread, spread), 1e-9)
        together = np.maximum(together, correlation)
    distance = squareform(1 - (together + together.T) / 2, checks=False)
    concept: Ints = fcluster(linkage(distance, "average"), 1 - _TOGETHER, "distance").astype(np.int64) - 1
    return concept
