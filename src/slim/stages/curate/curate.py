"""Stage 7: a small subset of images with high attention scores, balanced over core and environment clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from slim.arguments import checked
from slim.arrays import Flags, Floats, Ints
from slim.clustering import Components, choose_k, fit_clusters
from slim.data import Dataset
from slim.errors import DataError, SettingsError
from slim.network.classifier import Classifier
from slim.quantized import Vectors
from slim.stages.attend import Attention
from slim.stages.curate.allocation import (
    best_attended,
    cell_shares,
    cluster_balance,
    distance_to_centre,
    diverse_images,
    rounded_shares,
)
from slim.stages.curate.factors import Factor, Mistakes, Source, find_factor
from slim.stages.curate.subset import Subset
from slim.stages.embed import Space
from slim.stages.propagate.scores import Scores
from slim.stages.settings import CurateSettings


@checked
def curate(
    data: Dataset,
    reference: Classifier,
    attention: Attention,
    space: Space,
    scores: Scores,
    settings: CurateSettings | None = None,
    *,
    seed: int = 0,
) -> Subset:
    """Choose a small subset, balanced over what the model sees.

    Parameters
    ----------
    data, reference, attention, space
        The images, the reference model, its attention, and the attention space of the pool. The factor to balance over
        is chosen by the reference model's errors on val, which needs only class labels.
    scores
        Attention scores of the pool.
    settings
        See `CurateSettings`.
    seed
        Random seed of PCA and k-means.

    Returns
    -------
    Subset
        Exactly ``settings.size`` images, copies counted.

    Raises
    ------
    SettingsError
        The subset would be larger than the pool of well-attended images, the settings balance penultimate features
        and the network has none, or they cluster the embedding and the plane is not UMAP's.

    Examples
    --------
    ``subset = slim.curate(data, reference, attention, space, scores, slim.CurateSettings(size=60))``
    """
    settings = settings or CurateSettings()
    if settings.cluster_on == "embedding":
        space.check_plane("clusters of the embedding")
    pool, table, val = attention.split(space.pool), data.split(space.pool), attention.val
    mistakes = Mistakes.from_predictions(
        val.environment, val.features, val.probabilities, data.val.y, reference.head_weight
    )
    subset = choose_subset(
        pool.core,
        pool.environment,
        (space.plane, space.environment),
        scores.values,
        table.y,
        settings,
        features=pool.features,
        mistakes=mistakes,
        class_names=table.class_names,
        seed=seed,
    )
    return replace(subset, pool=space.pool)


def choose_subset(
    core: Vectors,
    environment: Vectors,
    space: tuple[Floats, Floats],
    scores: Floats,
    y: Ints,
    settings: CurateSettings | None = None,
    *,
    features: Vectors | None = None,
    mistakes: Mistakes | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> Subset:
    """Choose the subset from arrays; returns and raises as `curate`, which calls it.

    Parameters
    ----------
    core, environment
        (n, d) features of the pool, as in `slim.SplitAttention`.
    space
        Their planes, each (n, 2).
    scores
        (n,) attention scores in [0, 1]; 1 = looks at the core.
    y
        (n,) labels.
    settings
        See `CurateSettings`.
    features
        (n, p) penultimate features of the pool, if the network has a linear head.
    mistakes
        The reference model's errors on the val split; without them "auto" means "environment".
    class_names
        Names of the classes, for messages.
    seed
        Random seed of PCA and k-means.

    Notes
    -----
    Clusters are fitted to all classes together, so that an environment that is rare in one class is still found
    through the class in which it is common. The subset is then allocated to cells within each class.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y, place = np.repeat([0, 1], 50), np.tile([0, 0, 0, 0, 1], 20)
    >>> environment = rng.normal(size=(100, 6)) * 0.1 + np.eye(6)[place]
    >>> core = rng.normal(size=(100, 6)) * 0.1 + np.eye(6)[y + 2]
    >>> subset = choose_subset(core, environment, (core[:, 2:4], environment[:, :2]), np.ones(100), y,
    ...                 CurateSettings(size=20, core_clusters=1, environment_clusters=2, keep=1.0))
    >>> subset.cells["size"].tolist()
    [5, 5, 5, 5]
    """
    settings = settings or CurateSettings()
    n_classes = int(y.max()) + 1
    names = list(class_names) if class_names is not None else [str(k) for k in range(n_classes)]
    fit_on = np.ones(len(y), bool)
    if settings.keep_within == "class":
        kept = fit_on = best_attended(scores, y, settings.keep, least=0)
    factor = _factor(environment, space[1], features, mistakes, fit_on, settings, seed)
    environment_cluster = factor.cluster
    if settings.keep_within == "cell":
        cells = np.unique(y * (int(environment_cluster.max()) + 1) + environment_cluster, return_inverse=True)[1]
        kept = best_attended(scores, cells, settings.keep, least=-(-settings.size // (int(cells.max()) + 1)))
    _check_sizes(kept, y, settings.size, names)
    core_points = _points(core, space[0], kept, settings, seed)
    k = settings.core_clusters or choose_k(core_points[kept], settings.choose_by, seed)
    core_cluster = np.asarray(fit_clusters(core_points[kept], k, seed).predict(core_points), np.int64)
    directions = Components(environment, seed)(environment)
    distance = None
    if settings.allocation == "spread":
        balanced = features if factor.source == "features" and features is not None else environment
        distance = (
            distance_to_centre(core_points, core_cluster, kept),
            distance_to_centre(_points(balanced, space[1], kept, settings, seed), environment_cluster, kept),
        )
    rows, table = [], []
    for k, class_size in enumerate(rounded_shares(np.full(n_classes, 1 / n_classes), settings.size)):
        members = np.flatnonzero(kept & (y == k))
        shares = cell_shares(core_cluster[members], environment_cluster[members], members, distance)
        for ((i, j), share), size in zip(
            shares.items(), rounded_shares(np.array([*shares.values()]), class_size), strict=True
        ):
            cell = members[(core_cluster[members] == i) & (environment_cluster[members] == j)]
            key = {"y": k, "core_cluster": i, "environment_cluster": j}
            table.append({**key, "available": len(cell), "share": share, "size": int(size)})
            for index, copies in diverse_images(directions, cell, int(size), seed):
                rows.append({"index": index, **key, "copies": copies})
    frame = pd.DataFrame(rows)
    balance = cluster_balance(frame, y, environment_cluster)
    return Subset(
        frame,
        pd.DataFrame(table),
        core_cluster,
        environment_cluster,
        kept,
        balance,
        factor.source,
        factor.explains,
        factor.evidence,
    )


def _check_sizes(kept: Flags, y: Ints, size: int, names: Sequence[str]) -> None:
    counts = np.bincount(y[kept], minlength=len(names))
    if counts.min() == 0:
        raise DataError(
            f"Every class needs images to curate from. Got none of class {names[int(counts.argmin())]}. "
            "Check the split that the pool comes from."
        )
    if size > counts.sum():
        raise SettingsError(
            f"The subset must not be larger than the pool of well-attended images. Got size {size} for {counts.sum()} "
            "images. Choose a smaller subset (--size) or keep more images (--keep)."
        )
    if size < len(names):
        raise SettingsError(
            f"The subset must hold an image of each class. Got size {size} for {len(names)} classes. "
            f"Choose at least {len(names)} (--size)."
        )


def _points(features: Vectors, embedding: Floats, kept: Flags, settings: CurateSettings, seed: int) -> Floats:
    """(n, d) points that are clustered."""
    return embedding if settings.cluster_on == "embedding" else Components(features, seed, among=kept)(features)


def _factor(
    environment: Vectors,
    embedding: Floats,
    features: Vectors | None,
    mistakes: Mistakes | None,
    fit_on: Flags,
    settings: CurateSettings,
    seed: int,
) -> Factor:
    """The factor to balance over."""
    if settings.cluster_on == "embedding":
        k = settings.environment_clusters or choose_k(embedding[fit_on], settings.choose_by, seed)
        cluster = fit_clusters(embedding[fit_on], k, seed).predict(embedding)
        return Factor("environment", np.asarray(cluster, np.int64), None)
    sources: dict[Source, Vectors] = {"environment": environment}
    if features is not None and features.shape[1]:
        sources["features"] = features
    elif settings.balance == "features":
        raise SettingsError(
            "To balance penultimate features, the network must end in one linear layer. Got one that does not. "
            "Use --balance environment."
        )
    if settings.balance != "auto":
        sources, mistakes = {settings.balance: sources[settings.balance]}, None
    return find_factor(
        sources,
        mistakes,
        fit_on=fit_on,
        clusters=settings.environment_clusters,
        choose_by=settings.choose_by,
        seed=seed,
    )
