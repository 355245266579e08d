"""How the subset is allocated to cells, and which images of each cell are chosen."""

from __future__ import annotations

import numpy as np
import pandas as pd

from slim.arrays import Flags, Floats, Ints
from slim.clustering import fit_clusters, sampled

_CHOICE = 50
_TIE = 1e-5  # scores this close are one: rounding alone moves them by a millionth


def best_attended(scores: Floats, parts: Ints, keep: float, least: int) -> Flags:
    """(n,) whether an image is among the best of its part: a share `keep`, at least `least` images, ties included."""
    kept = np.zeros(len(parts), bool)
    for part in np.unique(parts):
        members = parts == part
        share = max(keep, min(1.0, least / int(members.sum())))
        kept[members] = scores[members] >= np.quantile(scores[members], 1 - share) - _TIE
    return kept


def distance_to_centre(points: Floats, cluster: Ints, kept: Flags) -> Floats:
    """(n,) distance of each image to the mean of its cluster's kept images."""
    distance = np.zeros(len(points))
    for c in np.unique(cluster):
        members = cluster == c
        distance[members] = np.linalg.norm(points[members] - points[members & kept].mean(0), axis=1)
    return distance


def cell_shares(
    core: Ints,
    environment: Ints,
    members: Ints,
    distance: tuple[Floats, Floats] | None,
) -> dict[tuple[int, int], float]:
    """Each occupied cell's share of its class, keyed by (core cluster, environment cluster); they sum to 1.

    Uniform, or in proportion to the median distances to the centres.
    """
    occupied = sorted({(int(i), int(j)) for i, j in zip(core, environment, strict=True)})
    if distance is None:
        environments = sorted({j for _, j in occupied})
        within = {j: sum(1 for _, other in occupied if other == j) for j in environments}
        return {(i, j): 1 / len(environments) / within[j] for i, j in occupied}

    def spread(chosen: Flags, values: Floats) -> float:
        # A cell of one image has no spread, and still gets a share.
        return float(np.median(values[members[chosen]])) or 1e-9

    of_core = {i: spread(core == i, distance[0]) for i in {i for i, _ in occupied}}
    of_cell = {(i, j): spread((core == i) & (environment == j), distance[1]) for i, j in occupied}
    beside = {i: sum(value for (other, _), value in of_cell.items() if other == i) for i in of_core}
    total = sum(of_core.values())
    return {(i, j): of_core[i] / total * value / beside[i] for (i, j), value in of_cell.items()}


def rounded_shares(shares: Floats, total: int) -> Ints:
    """Whole numbers in proportion to the shares, summing to the total: the largest remainders are rounded up.

    Examples
    --------
    >>> rounded_shares(np.array([0.5, 0.3, 0.2]), 9).tolist()
    [4, 3, 2]
    """
    exact = np.asarray(shares, float) / np.sum(shares) * total
    whole = np.floor(exact).astype(np.int64)
    first = np.argsort(-(exact - whole), kind="stable")[: total - int(whole.sum())]
    whole[first] += 1
    return whole


def diverse_images(points: Floats, members: Ints, size: int, seed: int) -> list[tuple[int, int]]:
    """`size` diverse images of a cell, as (index, copies): one near each of `size` k-means centres.

    A cell with fewer images than that gives all of them, repeated as often as necessary; of a large one, a random
    `_CHOICE` times as many are looked at.
    """
    if size == 0:
        return []
    if size >= len(members):
        copies = rounded_shares(np.ones(len(members)), size)
        return [(int(index), int(count)) for index, count in zip(members, copies, strict=True)]
    members = sampled(members, seed, _CHOICE * size)
    centres = fit_clusters(points[members], size, seed).cluster_centers_
    near, taken = points[members], list[int]()
    for i in range(size):
        distance = np.linalg.norm(near - centres[i % len(centres)], axis=1)
        distance[taken] = np.inf
        taken.append(int(distance.argmin()))
    return [(int(members[i]), 1) for i in sorted(taken)]


def cluster_balance(frame: pd.DataFrame, y: Ints, cluster: Ints) -> pd.DataFrame:
    """The shares of the environment clusters within each class, in the pool and in the subset."""
    pool = pd.crosstab(y, cluster, normalize="index")
    subset = pd.crosstab(frame["y"], frame["environment_cluster"], frame["copies"], aggfunc="sum").fillna(0)
    shares = pd.DataFrame({"pool_share": pool.stack(), "subset_share": subset.div(subset.sum(axis=1), axis=0).stack()})
    return shares.fillna(0.0).rename_axis(["y", "environment_cluster"]).reset_index()
