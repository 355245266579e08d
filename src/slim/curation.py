"""Curation: a small subset of well-attended images, balanced over what the model sees on and off the object."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from slim.artifacts import read_json, write_json, write_text
from slim.clustering import Components, choose_k, fit_clusters
from slim.errors import DataError, SettingsError, SlimWarning
from slim.factors import Factor, Mistakes, Source, find_factor

Floats = NDArray[np.floating]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class CurateSettings:
    """How the subset is chosen.

    Parameters
    ----------
    size
        Images in the subset, exactly; as equal a share for each class as goes.
    keep
        Share of the images that stays: those of the highest attention scores. 0.5 is above the median.
    keep_within
        Whether that share is taken of each class's "cell" of environment, or of the whole "class" (published). In
        cells, scores choose among images of like surroundings: they cannot cut a rare environment away, nor a cell
        below its part of the subset.
    cluster_on
        Where the clusters are found: in the 2-D "embedding" (published), or in the principal components of the
        "features" taken as directions.
    balance
        What is balanced beside the class: clusters of "environment" features (published), of the whole image's
        "features" before the linear head, or "auto": whichever of them, and as many, as explain best where the
        reference model errs on the val split; in the embedding always the environment.
    core_clusters
        Clusters of what the model looks at; chosen from 2 to 5 by default.
    environment_clusters
        Clusters of what is balanced; chosen from 2 to 5 by default.
    choose_by
        How other numbers of clusters are chosen: the "elbow" of the inertia (published), or the best "silhouette".
    allocation
        Shares of the cells: "uniform" over environment clusters and over core clusters within each, or by their
        "spread" (published).
    """

    size: int = 120
    keep: float = 0.5
    keep_within: Literal["cell", "class"] = "cell"
    cluster_on: Literal["features", "embedding"] = "features"
    balance: Literal["auto", "environment", "features"] = "auto"
    core_clusters: int | None = None
    environment_clusters: int | None = None
    choose_by: Literal["elbow", "silhouette"] = "elbow"
    allocation: Literal["uniform", "spread"] = "uniform"

    def __post_init__(self) -> None:
        if self.size < 2:
            raise SettingsError(f"The subset's size must be at least 2. Got {self.size}. Try 120.")
        if not 0 < self.keep <= 1:
            raise SettingsError(f"The share to keep must lie in (0, 1]. Got {self.keep}. Try 0.5.")
        if self.cluster_on == "embedding" and self.balance == "features":
            raise SettingsError(
                "Only the environment can be balanced in the embedding, which has no other features. Got "
                "features. Leave out --balance or --cluster-on."
            )
        for name in ("core_clusters", "environment_clusters"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} must be at least 1. Got {value}. Leave it out to have it chosen.")


SHORTCUT = 0.05
"""The least evidence, as `slim.factors.Factor` has it, for the reference to have taken a shortcut."""


@dataclass(frozen=True, eq=False)
class Subset:
    """The curated subset, and the cells that it is balanced over.

    Attributes
    ----------
    frame
        One row an image of the subset: ``index`` in the pool, ``y``, ``core_cluster``, ``environment_cluster``,
        ``copies``: how often it is taken. Copies sum to the subset's size.
    cells
        One row a (class, core cluster, environment cluster) with images: ``y``, ``core_cluster``,
        ``environment_cluster``, ``available`` images of a high score, ``share`` of its class, ``size`` in the subset.
    core_cluster, environment_cluster
        (n,) clusters of every image of the pool.
    kept
        (n,) whether the image's attention score was high enough.
    balance
        How far the subset evens out what is balanced, without any group label. One row a (class, environment
        cluster): ``y``, ``environment_cluster``, ``pool_share`` of the pool's images of the class, ``subset_share`` of
        the subset's; shares lie in [0, 1] and sum to 1 over a class.
    balanced
        What the environment clusters are clusters of: "environment" or "features", as in `CurateSettings`.
    explains, evidence
        Share of where the reference model errs that they explain, and the evidence for a shortcut: see
        `slim.factors.Factor`.
    """

    frame: pd.DataFrame
    cells: pd.DataFrame
    core_cluster: Indices
    environment_cluster: Indices
    kept: NDArray[np.bool_]
    balance: pd.DataFrame
    balanced: Source = "environment"
    explains: float | None = None
    evidence: float | None = None

    @property
    def shortcut(self) -> bool:
        """Whether the reference model seems to have taken a shortcut, so that there is something to retrain for.

        True where nobody looked at its mistakes.
        """
        return self.evidence is None or self.evidence >= SHORTCUT

    @property
    def index(self) -> Indices:
        """(size,) positions in the pool, an image as often as it is taken."""
        return np.repeat(self.frame["index"].to_numpy(), self.frame["copies"].to_numpy())

    def cell(self, *, with_val: bool) -> Indices:
        """(n,) what a last layer counts, draws and is tuned by, beside the class.

        The pairs of core and environment cluster; where val is fitted to as well, the environment clusters alone, which
        val's images can join.
        """
        if with_val:
            return self.environment_cluster
        return self.core_cluster * (int(self.environment_cluster.max()) + 1) + self.environment_cluster

    def __len__(self) -> int:
        return int(self.frame["copies"].sum())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The positions, so that ``table[subset]`` is the table of the subset's images."""
        return np.asarray(self.index, dtype)

    def __repr__(self) -> str:
        shares = self.balance.to_string(index=False, float_format="{:.2f}".format)
        return (
            f"Subset of {len(self)} images, {len(self.frame)} of them different\n{self.cells.to_string(index=False)}\n"
            f"Balance over clusters of {self.balanced}\n{shares}"
        )

    def save(self, folder: str | Path) -> None:
        """Write ``subset.csv``, ``cells.json``, ``balance.json``, ``factor.json``, ``clusters.npz`` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "subset.csv", self.frame.to_csv(index=False))
        write_json(folder / "cells.json", self.cells.to_dict("records"))
        write_json(folder / "balance.json", self.balance.to_dict("records"))
        factor = {"balanced": self.balanced, "explains": self.explains, "evidence": self.evidence}
        write_json(folder / "factor.json", factor)
        np.savez(folder / "clusters.npz", core=self.core_cluster, environment=self.environment_cluster, kept=self.kept)

    @classmethod
    def load(cls, folder: str | Path) -> Subset:
        """Load what `save` wrote."""
        folder = Path(folder)
        with np.load(folder / "clusters.npz") as clusters:
            arrays = clusters["core"], clusters["environment"], clusters["kept"]
        cells, balance = (pd.DataFrame(read_json(folder / f"{name}.json")) for name in ("cells", "balance"))
        return cls(pd.read_csv(folder / "subset.csv"), cells, *arrays, balance, **read_json(folder / "factor.json"))


def curate(
    core: Floats,
    environment: Floats,
    space: tuple[Floats, Floats],
    scores: Floats,
    y: Indices,
    settings: CurateSettings | None = None,
    *,
    features: Floats | None = None,
    mistakes: Mistakes | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> Subset:
    """Choose the subset.

    Parameters
    ----------
    core, environment
        (n, d) features of the pool, as `slim.Attention` holds them.
    space
        Their 2-D embeddings, each (n, 2).
    scores
        (n,) attention scores in [0, 1]; 1 = looks at the core.
    y
        (n,) labels.
    settings
        See `CurateSettings`.
    features
        (n, p) penultimate features of the pool, where the network has a linear head.
    mistakes
        Where the reference model errs on the val split; without them "auto" is "environment".
    class_names
        For messages.
    seed
        Of every k-means and of ties.

    Returns
    -------
    Subset
        Of exactly ``settings.size`` images, counted with copies.

    Raises
    ------
    SettingsError
        The subset would be larger than the pool of well-attended images, or penultimate features are to be balanced
        and the network has none.

    Warns
    -----
    SlimWarning
        Nothing but the prediction goes with where the reference model errs: there may be no shortcut.

    Notes
    -----
    Clusters are found over all classes together, so that an environment that is rare in one class is found through
    the class in which it is common. Cells are then shared out within each class.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y, place = np.repeat([0, 1], 50), np.tile([0, 0, 0, 0, 1], 20)
    >>> environment = rng.normal(size=(100, 6)) * 0.1 + np.eye(6)[place]
    >>> core = rng.normal(size=(100, 6)) * 0.1 + np.eye(6)[y + 2]
    >>> subset = curate(core, environment, (core[:, 2:4], environment[:, :2]), np.ones(100), y,
    ...                 CurateSettings(size=20, core_clusters=1, environment_clusters=2, keep=1.0))
    >>> subset.cells["size"].tolist()
    [5, 5, 5, 5]
    """
    settings = settings or CurateSettings()
    n_classes = int(y.max()) + 1
    names = list(class_names) if class_names is not None else [str(k) for k in range(n_classes)]
    fit_on = np.ones(len(y), bool)
    if settings.keep_within == "class":
        kept = fit_on = _kept(scores, y, settings.keep, least=0)
    factor = _factor(environment, space[1], features, mistakes, fit_on, settings, seed)
    environment_cluster = factor.cluster
    if settings.keep_within == "cell":
        cells = np.unique(y * (int(environment_cluster.max()) + 1) + environment_cluster, return_inverse=True)[1]
        kept = _kept(scores, cells, settings.keep, least=-(-settings.size // (int(cells.max()) + 1)))
    _check_sizes(kept, y, settings.size, names)
    core_points = _points(core, space[0], kept, settings, seed)
    k = settings.core_clusters or choose_k(core_points[kept], settings.choose_by, seed)
    core_cluster = np.asarray(fit_clusters(core_points[kept], k, seed).predict(core_points), np.int64)
    directions = Components(environment, seed)(environment)
    distance = None
    if settings.allocation == "spread":
        balanced = features if factor.source == "features" and features is not None else environment
        distance = (
            _to_centre(core_points, core_cluster, kept),
            _to_centre(_points(balanced, space[1], kept, settings, seed), environment_cluster, kept),
        )
    rows, table = [], []
    for k, class_size in enumerate(_rounded(np.full(n_classes, 1 / n_classes), settings.size)):
        members = np.flatnonzero(kept & (y == k))
        shares = _shares(core_cluster[members], environment_cluster[members], members, distance)
        for ((i, j), share), size in zip(
            shares.items(), _rounded(np.array([*shares.values()]), class_size), strict=True
        ):
            cell = members[(core_cluster[members] == i) & (environment_cluster[members] == j)]
            of = {"y": k, "core_cluster": i, "environment_cluster": j}
            table.append({**of, "available": len(cell), "share": share, "size": int(size)})
            for index, copies in _diverse(directions, cell, int(size), seed):
                rows.append({"index": index, **of, "copies": copies})
    frame = pd.DataFrame(rows)
    balance = _balance(frame, y, environment_cluster)
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


def _balance(frame: pd.DataFrame, y: Indices, cluster: Indices) -> pd.DataFrame:
    """Each class's shares of the environment clusters, in the pool and in the subset."""
    pool = pd.crosstab(y, cluster, normalize="index")
    subset = pd.crosstab(frame["y"], frame["environment_cluster"], frame["copies"], aggfunc="sum").fillna(0)
    shares = pd.DataFrame({"pool_share": pool.stack(), "subset_share": subset.div(subset.sum(axis=1), axis=0).stack()})
    return shares.fillna(0.0).rename_axis(["y", "environment_cluster"]).reset_index()


def _kept(scores: Floats, parts: Indices, keep: float, least: int) -> NDArray[np.bool_]:
    """The images of the highest scores in each part, at least so many; with tied scores, all that reach the cut."""
    kept = np.zeros(len(parts), bool)
    for part in np.unique(parts):
        members = parts == part
        share = max(keep, min(1.0, least / int(members.sum())))
        kept[members] = scores[members] >= np.quantile(scores[members], 1 - share)
    return kept


def _check_sizes(kept: NDArray[np.bool_], y: Indices, size: int, names: Sequence[str]) -> None:
    counts = np.bincount(y[kept], minlength=len(names))
    if counts.min() == 0:
        raise DataError(
            f"Every class needs images to curate from. Got none of class {names[int(counts.argmin())]}. "
            "Check the split that the pool comes from."
        )
    if size > counts.sum():
        raise SettingsError(
            f"The subset must not be larger than the pool of well-attended images. Got size {size} for {counts.sum()} "
            "images. Ask for a smaller subset (--size) or keep more (--keep)."
        )
    if size < len(names):
        raise SettingsError(f"The subset must hold an image of each class. Got size {size} for {len(names)} classes.")


def _points(
    features: Floats, embedding: Floats, kept: NDArray[np.bool_], settings: CurateSettings, seed: int
) -> Floats:
    """What clusters are found among."""
    return embedding if settings.cluster_on == "embedding" else Components(features[kept], seed)(features)


def _factor(
    environment: Floats,
    embedding: Floats,
    features: Floats | None,
    mistakes: Mistakes | None,
    fit_on: NDArray[np.bool_],
    settings: CurateSettings,
    seed: int,
) -> Factor:
    """The clusters to balance over."""
    if settings.cluster_on == "embedding":
        k = settings.environment_clusters or choose_k(embedding[fit_on], settings.choose_by, seed)
        found = fit_clusters(embedding[fit_on], k, seed).predict(embedding)
        return Factor("environment", np.asarray(found, np.int64), None)
    sources: dict[Source, Floats] = {"environment": environment}
    if features is not None and features.shape[1]:
        sources["features"] = features
    elif settings.balance == "features":
        raise SettingsError(
            "Penultimate features can be balanced where the network ends in one linear layer. Got one that does not. "
            "Use --balance environment."
        )
    if settings.balance != "auto":
        sources, mistakes = {settings.balance: sources[settings.balance]}, None
    factor = find_factor(
        sources,
        mistakes,
        fit_on=fit_on,
        clusters=settings.environment_clusters,
        choose_by=settings.choose_by,
        seed=seed,
    )
    if factor.evidence is not None and factor.evidence < SHORTCUT:
        warnings.warn(
            "If the model has taken a shortcut, what its linear head does not read must tell at least a twentieth of "
            f"where it errs on val. Got {100 * max(0.0, factor.evidence):.0f} %: there seems to be no shortcut to "
            "remove, and retraining keeps the reference. To retrain all the same: --balance features.",
            SlimWarning,
            stacklevel=3,
        )
    return factor


def _to_centre(points: Floats, cluster: Indices, kept: NDArray[np.bool_]) -> Floats:
    """Distance of each image to the centre of its cluster's kept images."""
    distance = np.zeros(len(points))
    for c in np.unique(cluster):
        members = cluster == c
        distance[members] = np.linalg.norm(points[members] - points[members & kept].mean(0), axis=1)
    return distance


def _shares(
    core: Indices,
    environment: Indices,
    members: Indices,
    distance: tuple[Floats, Floats] | None,
) -> dict[tuple[int, int], float]:
    """Each occupied cell's share of its class, keyed by (core cluster, environment cluster); they sum to 1.

    Uniform, or by the spread of the distances to the centres.
    """
    occupied = sorted({(int(i), int(j)) for i, j in zip(core, environment, strict=True)})
    if distance is None:
        environments = sorted({j for _, j in occupied})
        within = {j: sum(1 for _, other in occupied if other == j) for j in environments}
        return {(i, j): 1 / len(environments) / within[j] for i, j in occupied}

    def spread(chosen: NDArray[np.bool_], values: Floats) -> float:
        # A single image has no spread; it still deserves a place.
        return float(np.median(values[members[chosen]])) or 1e-9

    of_core = {i: spread(core == i, distance[0]) for i in {i for i, _ in occupied}}
    of_cell = {(i, j): spread((core == i) & (environment == j), distance[1]) for i, j in occupied}
    beside = {i: sum(value for (other, _), value in of_cell.items() if other == i) for i in of_core}
    total = sum(of_core.values())
    return {(i, j): of_core[i] / total * value / beside[i] for (i, j), value in of_cell.items()}


def _rounded(shares: Floats, total: int) -> Indices:
    """Whole numbers in proportion to the shares that sum to the total: largest remainders get the rest.

    Examples
    --------
    >>> _rounded(np.array([0.5, 0.3, 0.2]), 9).tolist()
    [4, 3, 2]
    """
    exact = np.asarray(shares, float) / np.sum(shares) * total
    whole = np.floor(exact).astype(np.int64)
    first = np.argsort(-(exact - whole), kind="stable")[: total - int(whole.sum())]
    whole[first] += 1
    return whole


def _diverse(points: Floats, members: Indices, size: int, seed: int) -> list[tuple[int, int]]:
    """`size` images of a cell, spread over it, as (index, copies): one near each of `size` centres.

    A cell of fewer images than its size gives each one, as often as it takes.
    """
    if size == 0:
        return []
    if size >= len(members):
        copies = _rounded(np.ones(len(members)), size)
        return [(int(index), int(count)) for index, count in zip(members, copies, strict=True)]
    centres = fit_clusters(points[members], size, seed).cluster_centers_
    nearest = np.linalg.norm(points[members][None] - centres[:, None], axis=2)
    taken: list[int] = []
    for centre in range(size):
        order = np.argsort(nearest[centre % len(centres)], kind="stable")
        taken.append(next(int(i) for i in order if int(i) not in taken))
    return [(int(members[i]), 1) for i in sorted(taken)]


def assign(known: Floats, cluster: Indices, features: Floats) -> Indices:
    """Clusters of other images, by a vote of the five nearest in the direction of their features.

    Parameters
    ----------
    known, cluster
        (n, d) features of the pool and (n,) their clusters.
    features
        (m, d) features of the others, for instance of the test split.

    Returns
    -------
    ndarray of shape (m,)
    """
    if (cluster == cluster[0]).all():
        return np.full(len(features), cluster[0])
    vote = KNeighborsClassifier(min(5, len(known)), metric="cosine", algorithm="brute")
    return np.asarray(vote.fit(known, cluster).predict(features), np.int64)
