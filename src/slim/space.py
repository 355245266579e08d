"""The attention space: what the model sees where it looks, as components and as a plane, and what it sees elsewhere."""

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

COMPONENTS = 20
"""Principal components of the contrast, in which images are chosen and judgements are spread."""


@dataclass(frozen=True)
class EmbedSettings:
    """How features become the attention space.

    Parameters
    ----------
    features
        What the plane shows: the "contrast" of what the model sees where it looks to what it sees elsewhere, or the
        "core" features (published).
    metric
        Distance between features; "cosine" compares directions and ignores sizes.
    neighbors
        UMAP's n_neighbors: how local the neighbourhoods are.
    components
        Principal components that UMAP sees.
    fit_on
        At most so many images fit the embedding; the others are placed into it.
    """

    features: Literal["core", "contrast"] = "contrast"
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
        (n, 2) plane of what the model sees where it looks.
    environment
        (n, 2) embedding of the environment features.
    components
        (n, at most 20) principal components of the contrast, scaled to a mean square length of 1; all 0 where nothing
        differs.
    """

    core: Floats
    environment: Floats
    components: Floats

    def __len__(self) -> int:
        return len(self.core)

    def save(self, folder: str | Path) -> None:
        """Write ``core.npy``, ``environment.npy`` and ``components.npy`` into a folder."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, values in vars(self).items():
            np.save(Path(folder) / f"{name}.npy", values)

    @classmethod
    def load(cls, folder: str | Path) -> Space:
        """Load what `save` wrote."""
        return cls(**{name: np.load(Path(folder) / f"{name}.npy") for name in cls.__dataclass_fields__})

    def of(self, way: Literal["information", "centres", "regression", "spreading"]) -> Floats:
        """What a way of choosing queries, or of spreading judgements, works on: the plane (published) or components."""
        return self.core if way in ("centres", "spreading") else self.components


def embed(
    core: NDArray[Any],
    environment: NDArray[Any],
    contrast: NDArray[Any],
    settings: EmbedSettings | None = None,
    *,
    seed: int = 0,
) -> Space:
    """Embed what the model sees where it looks, and elsewhere, in two dimensions each.

    Parameters
    ----------
    core, environment, contrast
        (n, d), (n, d) and (n, e) features of the same images, as `slim.Attention` holds them.
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
    >>> space = embed(rng.normal(size=(30, 8)), rng.normal(size=(30, 8)), rng.normal(size=(30, 4)))
    >>> space.core.shape, space.environment.shape, space.components.shape
    ((30, 2), (30, 2), (30, 4))
    """
    settings = settings or EmbedSettings()
    if len(core) < 10:
        raise DataError(f"An attention space needs at least 10 images. Got {len(core)}. Add images to the split.")
    if not all(np.isfinite(values).all() for values in (core, environment, contrast)):
        raise DataError("Features must be finite. Got NaN or infinity. Compute them again with --precision 32-true.")
    shown = core if settings.features == "core" else contrast
    sources = track((shown, environment), "embedding what the model sees where it looks, and elsewhere")
    components = reduce(contrast, COMPONENTS, seed)
    length = float(np.sqrt(np.square(components).sum(1).mean()))
    plane, around = (_embedded(values, settings, seed) for values in sources)
    return Space(plane, around, np.asarray(components / (length or 1.0), np.float32))


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
