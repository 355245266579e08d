"""The attention space: what the model sees where it looks, as components and as a plane, and what it sees elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from slim.arguments import checked
from slim.clustering import Components
from slim.errors import DataError, SettingsError
from slim.progress import track
from slim.quantized import Vectors
from slim.record import Record
from slim.stages.attend import Attention
from slim.stages.settings import EmbedSettings

Floats = NDArray[np.float32]

COMPONENTS = 20
"""Principal components of the contrast, on which queries are selected and judgements propagated by default."""

_CHUNK = 4_096


@dataclass(frozen=True, eq=False)
class Space(Record):
    """The attention space of the pool, the split that queries and the subset come from.

    Attributes
    ----------
    plane
        (n, 2) plane of what the model sees where it looks: the map that the annotator and the report show.
    environment
        (n, 2) plane of the environment features.
    components
        (n, at most 20) principal components of the contrast, scaled to a mean square length of 1; all 0 where nothing
        differs.
    pool
        The split: "train" or "val".
    made_by
        What made the planes: "pca", or "umap" (published).
    """

    format: ClassVar[int] = 2  # 1 did not say what made the planes

    plane: Floats
    environment: Floats
    components: Floats
    pool: str = "train"
    made_by: Literal["pca", "umap"] = "umap"

    def __len__(self) -> int:
        return len(self.plane)

    def to_frame(self) -> pd.DataFrame:
        """One row per image of the pool: its place in the plane, ``plane_x`` and ``plane_y``."""
        return pd.DataFrame(np.asarray(self.plane), columns=["plane_x", "plane_y"])

    def __repr__(self) -> str:
        return f"Space({len(self)} {self.pool} images, {self.components.shape[1]} components)"

    def points(self, method: Literal["information", "centres", "regression", "spreading"]) -> Floats:
        """What a method of query selection or propagation works on: UMAP's plane (published) or the components.

        Raises
        ------
        SettingsError
            The method works on UMAP's plane, and the plane is another.
        """
        if method not in ("centres", "spreading"):
            return self.components
        self.check_plane(method)
        return self.plane

    def check_plane(self, asked: str) -> None:
        """Refuse what works on UMAP's plane where the plane is another."""
        if self.made_by != "umap":
            raise SettingsError(
                f"The plane must be UMAP's for {asked}. Got {self.made_by}. Run: slim embed RUN --plane umap"
            )


@checked
def embed(attention: Attention, settings: EmbedSettings | None = None, *, seed: int = 0) -> Space:
    """Place images by what the model looks at.

    What it sees where it looks, and what it sees elsewhere, are each placed on a plane.

    Parameters
    ----------
    attention
        Of every split; the pool's is embedded.
    settings
        See `EmbedSettings`.
    seed
        Random seed of PCA and UMAP.

    Returns
    -------
    Space
        Coordinates of every image of the pool, in the same order.

    Raises
    ------
    DataError
        Fewer than 10 images, or features that are not finite.

    Notes
    -----
    The published space is ``EmbedSettings(features="core", plane="umap", metric="euclidean")`` on features pooled by
    sum.

    References
    ----------
    L. McInnes, J. Healy, J. Melville, "UMAP: uniform manifold approximation and projection", 2018.

    Examples
    --------
    >>> from slim.stages.attend import SplitAttention
    >>> rng = np.random.default_rng(0)
    >>> maps, features = rng.random((30, 4, 4)), rng.normal(size=(30, 8))
    >>> split = SplitAttention(maps, features, features[::-1], features[:, :4], features, features[:, :2])
    >>> embed(Attention(split, split, split))
    Space(30 train images, 4 components)
    """
    settings = settings or EmbedSettings()
    split = attention.split(settings.pool)
    core, environment, contrast = split.core, split.environment, split.contrast
    if len(core) < 10:
        raise DataError(f"An attention space needs at least 10 images. Got {len(core)}. Add images to the split.")
    if not all(_finite(values) for values in (core, environment, contrast)):
        raise DataError("Features must be finite. Got NaN or infinity. Compute them again with --precision 32-true.")
    shown = core if settings.features == "core" else contrast
    sources = track((shown, environment), "embedding what the model sees where it looks, and elsewhere")
    components = Components(contrast, seed, count=COMPONENTS, directions=False)(contrast)
    length = float(np.sqrt(np.square(components).sum(1).mean()))
    place = _by_umap if settings.plane == "umap" else _by_pca
    plane, around = (place(values, settings, seed) for values in sources)
    components = np.asarray(components / (length or 1.0), np.float32)
    return Space(plane, around, components, settings.pool, settings.plane)


def _finite(features: Vectors) -> bool:
    """Whether all features are finite, a part of them in memory at a time."""
    return all(np.isfinite(features[start : start + _CHUNK]).all() for start in range(0, len(features), _CHUNK))


def _by_pca(features: Vectors, settings: EmbedSettings, seed: int) -> Floats:
    """The first two principal components; those of the directions where sizes are to be ignored."""
    plane = np.zeros((len(features), 2), np.float32)
    reduced = Components(features, seed, count=2, directions=settings.metric == "cosine")(features)
    plane[:, : reduced.shape[1]] = reduced
    return plane


@contextmanager
def _same_torch_threads() -> Iterator[None]:
    """Restore torch's number of threads, which numba changes when UMAP first uses it; later results depend on it."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_same_torch_threads()
def _by_umap(features: Vectors, settings: EmbedSettings, seed: int) -> Floats:
    """PCA, then UMAP, fitted on a sample where there are too many images."""
    from umap import UMAP  # here: its import takes seconds, which only this stage should wait for

    rng = np.random.default_rng(seed)
    n = len(features)
    sample = np.sort(rng.choice(n, settings.fit_on, replace=False)) if n > settings.fit_on else np.arange(n)
    reduced = Components(features, seed, count=settings.components, directions=False)(features)
    mapper = UMAP(
        n_components=2,
        n_neighbors=min(settings.neighbors, len(sample) - 1),
        min_dist=0.0,
        metric=settings.metric,
        init=_start(reduced[sample], rng),
        random_state=seed,
        n_jobs=1,  # a seeded UMAP runs on one core anyway, and would warn
    )
    coordinates = np.empty((n, 2), np.float32)
    rest = np.setdiff1d(np.arange(n), sample)
    coordinates[sample] = mapper.fit_transform(reduced[sample])
    if len(rest):
        coordinates[rest] = mapper.transform(reduced[rest])
    return coordinates


def _start(reduced: Floats, rng: np.random.Generator) -> Floats:
    """Where UMAP starts: two principal components, at most 10 from the centre, with noise that parts equal images.

    Its default, eigenvectors of the graph, differs from call to call where the graph has several parts.
    """
    plane = rng.normal(scale=1e-4, size=(len(reduced), 2))
    plane[:, : reduced.shape[1]] += 10 * reduced[:, :2] / (np.abs(reduced[:, :2]).max() or 1.0)
    return np.asarray(plane, np.float32)
