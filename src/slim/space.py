"""The attention space: a 2-D embedding of core features in which judgements spread, and one of the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from slim.errors import DataError, SettingsError
from slim.progress import track

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class EmbedSettings:
    """How features become the attention space.

    Parameters
    ----------
    features
        What judgements spread over: the "core" features (published), or their "difference" to the environment's.
    metric
        Distance between features; "cosine" compares directions and ignores sizes.
    neighbors
        UMAP's n_neighbors: how local the neighbourhoods are.
    components
        Principal components that UMAP sees.
    fit_on
        At most so many images fit the embedding; the others are placed into it.
    """

    features: Literal["core", "difference"] = "difference"
    metric: Literal["cosine", "euclidean"] = "cosine"
    neighbors: int = 5
    components: int = 50
    fit_on: int = 100_000

    def __post_init__(self) -> None:
        for name, least in (("neighbors", 2), ("components", 2), ("fit_on", 10)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} must be at least {least}. Got {getattr(self, name)}. Leave it out.")


@dataclass(frozen=True, eq=False)
class Space:
    """The attention space.

    Attributes
    ----------
    core
        (n, 2) coordinates in which judgements are asked for and spread.
    environment
        (n, 2) embedding of the environment features.
    """

    core: Floats
    environment: Floats

    def __len__(self) -> int:
        return len(self.core)

    def save(self, folder: str | Path) -> None:
        """Write ``core.npy`` and ``environment.npy`` into a folder."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name in ("core", "environment"):
            np.save(Path(folder) / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: str | Path) -> Space:
        """Load what `save` wrote."""
        return cls(*(np.load(Path(folder) / f"{name}.npy") for name in ("core", "environment")))


def embed(
    core: NDArray[Any], environment: NDArray[Any], settings: EmbedSettings | None = None, *, seed: int = 0
) -> Space:
    """Embed core and environment features in two dimensions each.

    Parameters
    ----------
    core, environment
        (n, d) features of the same images, as `slim.Attention` holds them.
    settings
        See `EmbedSettings`.
    seed
        Of PCA and UMAP.

    Returns
    -------
    Space
        Coordinates of every image, in the same order.

    Raises
    ------
    DataError
        Fewer than 10 images, or features that are not finite.

    Notes
    -----
    The published space is ``EmbedSettings(features="core", metric="euclidean")`` on features pooled by sum.

    References
    ----------
    L. McInnes, J. Healy, J. Melville, "UMAP: uniform manifold approximation and projection", 2018.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> space = embed(rng.normal(size=(30, 8)), rng.normal(size=(30, 8)))
    >>> space.core.shape, space.environment.shape
    ((30, 2), (30, 2))
    """
    settings = settings or EmbedSettings()
    if len(core) < 10:
        raise DataError(f"An attention space needs at least 10 images. Got {len(core)}. Add images to the split.")
    if not (np.isfinite(core).all() and np.isfinite(environment).all()):
        raise DataError("Features must be finite. Got NaN or infinity. Compute them again with --precision 32-true.")
    judged = core if settings.features == "core" else _direction(core) - _direction(environment)
    sources = track((judged, environment), "embedding what the model sees where it looks, and elsewhere")
    return Space(*(_embedded(values, settings, seed) for values in sources))


def _direction(features: NDArray[Any]) -> Floats:
    """Features of length 1, so that differences are not about size."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(length > 0, length, 1.0), np.float32)


def _embedded(features: NDArray[Any], settings: EmbedSettings, seed: int) -> Floats:
    """PCA, then UMAP, fitted on a sample where there are too many images."""
    from umap import UMAP  # here, since it compiles for seconds, which commands that do not embed need not wait for

    features = np.asarray(features, np.float32)
    rng = np.random.default_rng(seed)
    n = len(features)
    sample = np.sort(rng.choice(n, settings.fit_on, replace=False)) if n > settings.fit_on else np.arange(n)
    reduced = reduce(features, settings.components, seed)
    mapper = UMAP(
        n_components=2,
        n_neighbors=min(settings.neighbors, len(sample) - 1),
        min_dist=0.0,
        metric=settings.metric,
        random_state=seed,
        n_jobs=1,  # a seeded UMAP runs on one core, and warns when it has to say so
    )
    coordinates = np.empty((n, 2), np.float32)
    coordinates[sample] = mapper.fit_transform(reduced[sample])
    rest = np.setdiff1d(np.arange(n), sample)
    if len(rest):
        coordinates[rest] = mapper.transform(reduced[rest])
    return coordinates


def reduce(features: NDArray[Any], components: int, seed: int) -> Floats:
    """The first principal components (n, at most `components`) of features (n, d)."""
    k = min(components, *features.shape)
    solver = PCA(k, svd_solver="randomized", random_state=seed)
    return np.asarray(solver.fit_transform(np.asarray(features, np.float32)), np.float32)
