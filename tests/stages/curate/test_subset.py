"""Curation: the subset's size and balance, its cells, and how clusters are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from slim.clustering import FITTED, Components, choose_k, sampled
from slim.errors import DataError, SettingsError
from slim.stages.curate.allocation import best_attended, rounded_shares
from slim.stages.curate.curate import choose_subset
from slim.stages.curate.subset import Subset, join_clusters
from slim.stages.settings import CurateSettings

# Images of each (class, kind of object, kind of place). Class 0 shows two kinds of objects, and one of its four
# combinations never occurs, so that there are more core than environment clusters and cells without an image.
COUNTS = {(0, 0, 0): 40, (0, 0, 1): 8, (0, 1, 1): 12, (1, 2, 0): 6, (1, 2, 1): 44}
CLUSTERS: dict[str, Any] = {"core_clusters": 3, "environment_clusters": 2}


class Pool:
    """Features whose directions say the kind of object and of place, with a little noise."""

    def __init__(self, counts: dict[tuple[int, int, int], int] = COUNTS, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        rows = rng.permutation(np.repeat(list(counts), list(counts.values()), axis=0))
        self.y, self.object, self.place = rows.T.astype(np.int64)
        self.core = rng.normal(size=(len(rows), 8)) * 0.05 + np.eye(8)[self.object]
        self.environment = rng.normal(size=(len(rows), 8)) * 0.05 + np.eye(8)[self.place + 4]
        self.space = self.core[:, :3] @ rng.normal(size=(3, 2)), self.environment[:, 4:6].copy()
        self.scores = rng.random(len(rows))

    def __len__(self) -> int:
        return len(self.y)

    def curate(self, seed: int = 0, **changed: Any) -> Subset:
        chosen = CurateSettings(**{"size": 20, "keep": 1.0, **CLUSTERS, **changed})
        return choose_subset(self.core, self.environment, self.space, self.scores, self.y, chosen, seed=seed)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of k-means only wait for each other on so few points."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool()


WAYS = [
    {},
    {"allocation": "spread"},
    {"cluster_on": "embedding"},
    {"keep_within": "class"},
    {"keep": 0.5},
    {"keep": 0.5, "keep_within": "class", "allocation": "spread", "cluster_on": "embedding"},
    {"core_clusters": None, "environment_clusters": None},
    {"core_clusters": None, "environment_clusters": None, "choose_by": "silhouette"},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("size", [7, 20])
def test_the_subset_has_exactly_the_size_and_is_balanced_over_classes(
    way: dict[str, Any], size: int, pool: Pool
) -> None:
    subset = pool.curate(size=size, **way)
    assert len(subset) == len(subset.index) == subset.frame["copies"].sum() == subset.cells["size"].sum() == size
    per_class = np.bincount(pool.y[subset.index], minlength=2)
    assert per_class.max() - per_class.min() <= 1
    assert subset.frame["index"].is_unique
    np.testing.assert_array_equal(subset.frame["y"], pool.y[subset.frame["index"]])


@settings(max_examples=12)
@given(st.integers(2, 60), st.integers(0, 5), st.integers(1, 4), st.integers(1, 4))
def test_size_and_balance_hold_for_any_number_of_clusters(size: int, seed: int, core: int, environment: int) -> None:
    pool = Pool(seed=seed)
    subset = pool.curate(seed, size=size, core_clusters=core, environment_clusters=environment)
    assert len(subset) == size
    assert abs(np.subtract(*np.bincount(pool.y[subset.index], minlength=2))) <= 1
    occupied = set(zip(pool.y, subset.core_cluster, subset.environment_cluster, strict=True))
    listed = subset.cells[["y", "core_cluster", "environment_cluster"]]
    assert set(listed.itertuples(index=False, name=None)) == occupied


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_chosen_image_lies_in_its_cell_and_was_kept(way: dict[str, Any], pool: Pool) -> None:
    subset = pool.curate(**way)
    chosen = subset.frame["index"]
    assert subset.kept[chosen].all()
    np.testing.assert_array_equal(subset.frame["core_cluster"], subset.core_cluster[chosen])
    np.testing.assert_array_equal(subset.frame["environment_cluster"], subset.environment_cluster[chosen])
    keys = ["y", "core_cluster", "environment_cluster"]
    taken = subset.frame.groupby(keys)["copies"].sum()
    for cell in subset.cells.itertuples():
        assert taken.get((cell.y, cell.core_cluster, cell.environment_cluster), 0) == cell.size


def test_clusters_find_the_kinds_of_objects_and_places(pool: Pool) -> None:
    subset = pool.curate()
    for cluster, kind in ((subset.core_cluster, pool.object), (subset.environment_cluster, pool.place)):
        pairs = set(zip(cluster, kind, strict=True))
        assert len(pairs) == len({c for c, _ in pairs}) == len({k for _, k in pairs})


def test_cells_are_keyed_with_more_core_than_environment_clusters(pool: Pool) -> None:
    """The released code lays cells out k_env by k_env, so that a third core cluster falls on another's cells."""
    cells = pool.curate().cells
    assert len(cells) == 5
    assert cells["core_cluster"].nunique() == 3
    assert cells["environment_cluster"].nunique() == 2
    assert sorted(cells["available"]) == sorted(COUNTS.values())
    assert len(cells[["y", "core_cluster", "environment_cluster"]].drop_duplicates()) == 5


@pytest.mark.parametrize("allocation", ["uniform", "spread"])
def test_cells_without_an_image_do_not_shift_the_shares_of_others(allocation: str, pool: Pool) -> None:
    """In the released code an empty cell moves every later cell's budget to its neighbour."""
    subset = pool.curate(allocation=allocation, size=40)
    assert (subset.cells["available"] > 0).all()
    np.testing.assert_allclose(subset.cells.groupby("y")["share"].sum(), 1)
    difference = subset.cells["size"] - subset.cells["share"] * 20
    assert (difference.abs() < 1).all()


def test_a_uniform_allocation_gives_a_rare_place_as_much_as_a_common_one(pool: Pool) -> None:
    subset = pool.curate(allocation="uniform", size=40)
    by_place = np.bincount(pool.place[subset.index] + 2 * pool.y[subset.index])
    assert by_place.tolist() == [10, 10, 10, 10]
    assert np.bincount(pool.place[pool.y == 1]).tolist() == [6, 44]


def test_images_repeat_only_where_the_cell_is_smaller_than_its_part_and_copies_are_recorded(pool: Pool) -> None:
    subset = pool.curate(allocation="uniform", size=40)
    small = subset.cells[subset.cells["available"] < subset.cells["size"]]
    assert small["available"].tolist() == [6]
    keys = ["y", "core_cluster", "environment_cluster"]
    rows = subset.frame.merge(subset.cells, on=keys)
    repeated = rows["available"] < rows["size"]
    assert (rows.loc[~repeated, "copies"] == 1).all()
    for _, cell in rows[repeated].groupby(keys):
        assert len(cell) == cell["available"].iloc[0]  # each image of the cell, before any comes twice as often
        assert cell["copies"].max() - cell["copies"].min() <= 1
    counted = np.bincount(subset.index, minlength=len(pool))[subset.frame["index"]]
    np.testing.assert_array_equal(counted, subset.frame["copies"])
    assert pd.Series(pool.curate(size=10).index).is_unique


def test_within_a_cell_images_are_spread_and_not_alike() -> None:
    """One image of each of four kinds of surroundings, though one kind has most of the cell's images."""
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2, 3], [37, 3, 3, 3])
    kinds = np.concatenate([kind, kind])
    y = np.repeat([0, 1], len(kind))
    environment = np.eye(6)[kinds] + 0.01 * rng.normal(size=(len(y), 6))
    chosen = CurateSettings(size=8, keep=1.0, core_clusters=1, environment_clusters=1)
    subset = choose_subset(np.ones((len(y), 3)), environment, (environment[:, :2],) * 2, np.ones(len(y)), y, chosen)
    for k in (0, 1):
        assert sorted(kinds[subset.index[y[subset.index] == k]]) == [0, 1, 2, 3]


@pytest.mark.parametrize("keep_within", ["cell", "class"])
def test_images_of_low_scores_are_left_out(keep_within: str, pool: Pool) -> None:
    subset = pool.curate(keep=0.5, keep_within=keep_within, size=4)
    part = pool.y if keep_within == "class" else pool.y * 2 + subset.environment_cluster
    for k in np.unique(part):
        scores, kept = pool.scores[part == k], subset.kept[part == k]
        assert scores[kept].min() > scores[~kept].max()
        assert 0.4 <= kept.mean() <= 0.6


@pytest.mark.parametrize("k", [2, 3, 4, 5])
@pytest.mark.parametrize("by", ["elbow", "silhouette"])
def test_either_rule_can_choose_each_number_of_clusters(by: Any, k: int) -> None:
    """The released code's elbow over four options can only return the middle two."""
    rng = np.random.default_rng(k)
    corners = np.repeat(np.eye(6)[:k], 12, axis=0)  # all as far from each other, so that no smaller number is natural
    assert choose_k(corners + rng.normal(size=corners.shape) * 0.03, by) == k


def test_scores_that_rounding_alone_sets_apart_are_kept_together() -> None:
    scores = np.array([0.1, 0.5, 0.5 - 1e-7, 0.5 + 1e-7, 0.5, 0.499, 0.9])
    kept = best_attended(scores, np.zeros(7, np.int64), keep=0.5, least=0)
    assert kept.tolist() == [False, True, True, True, True, False, True]


def test_a_higher_silhouette_is_better() -> None:
    """The released code takes the largest value of a measure of which small values are good.

    Two far blobs of two close parts each: the silhouette is highest at two, and falls from there."""
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [0.0, 1.0], [30.0, 0.0], [30.0, 1.0]])
    assert choose_k(np.repeat(centres, 15, axis=0) + rng.normal(size=(60, 2)) * 0.2, "silhouette") == 2


def test_points_that_are_all_alike_form_one_cluster() -> None:
    assert choose_k(np.ones((20, 2)), "elbow") == 1
    assert choose_k(np.ones((20, 2)), "silhouette") == 1


def test_a_subset_larger_than_the_pool_is_refused(pool: Pool) -> None:
    assert len(pool.curate(size=len(pool))) == 110
    with pytest.raises(SettingsError, match=r"Got size 111 for 110 images.*--size"):
        pool.curate(size=111)


def test_a_subset_smaller_than_the_number_of_classes_is_refused() -> None:
    pool = Pool({(k, k, 0): 5 for k in range(4)})
    with pytest.raises(SettingsError, match="Got size 3 for 4 classes"):
        pool.curate(size=3)


def test_a_class_without_images_is_named() -> None:
    pool = Pool({(0, 0, 0): 10, (2, 1, 1): 10})
    chosen = CurateSettings(size=4, keep=1.0, **CLUSTERS)
    with pytest.raises(DataError, match="none of class bird"):
        choose_subset(
            pool.core, pool.environment, pool.space, pool.scores, pool.y, chosen, class_names=["cat", "bird", "dog"]
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"balance": "features", "cluster_on": "embedding"},
        {"size": 1},
        {"keep": 0.0},
        {"keep": 1.1},
        {"core_clusters": 0},
        {"environment_clusters": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"Got {next(iter(wrong.values()))}"):
        CurateSettings(**wrong)


def test_the_same_seed_gives_the_same_subset(pool: Pool) -> None:
    first, again = pool.curate(3), pool.curate(3)
    pd.testing.assert_frame_equal(first.frame, again.frame)
    pd.testing.assert_frame_equal(first.cells, again.cells)


def test_inputs_are_not_changed() -> None:
    pool = Pool()
    for values in (pool.core, pool.environment, *pool.space, pool.scores, pool.y):
        values.setflags(write=False)
    assert len(pool.curate()) == 20


def test_a_saved_subset_loads_as_it_was(pool: Pool, tmp_path: Path) -> None:
    subset = pool.curate(size=40, keep=0.8)
    subset.save(tmp_path / "deep" / "folder")
    loaded = Subset.load(tmp_path / "deep" / "folder")
    pd.testing.assert_frame_equal(loaded.frame, subset.frame)
    pd.testing.assert_frame_equal(loaded.cells, subset.cells)
    for name in ("core_cluster", "environment_cluster", "kept", "index"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(subset, name))
    assert repr(loaded) == repr(subset)
    assert repr(loaded).startswith(f"Subset of 40 images, {len(subset.frame)} of them different")


def test_other_images_get_the_cluster_of_the_nearest_directions(pool: Pool) -> None:
    other = Pool(seed=9)
    cluster = pool.curate().environment_cluster
    joined = join_clusters(pool.environment, cluster, other.environment * 7)
    pairs = sorted(set(zip(joined, other.place, strict=True)))
    assert len(pairs) == 2
    assert all(one[1] != next_one[1] for one, next_one in pairwise(pairs))
    np.testing.assert_array_equal(join_clusters(pool.environment, cluster, pool.environment), cluster)
    assert join_clusters(pool.environment[:3], cluster[:3], other.environment).shape == (110,)


def test_clusters_of_more_images_than_they_are_fitted_to_are_found_as_before() -> None:
    many = Pool({cell: count * 100 for cell, count in COUNTS.items()})
    assert len(many) > FITTED
    subset = many.curate()
    assert len(set(zip(many.object, subset.core_cluster, strict=True))) == 3
    assert len(set(zip(many.place, subset.environment_cluster, strict=True))) == 2
    assert sorted(subset.cells["size"]) == [2, 3, 5, 5, 5]


def test_sample_of_rows_is_sorted_without_repetition_and_whole_if_small() -> None:
    rows = sampled(np.arange(100, 130), seed=0, most=10)
    assert len(rows) == 10
    assert (np.diff(rows) > 0).all()
    assert set(rows) <= set(range(100, 130))
    assert sampled(np.arange(10), seed=0, most=10).tolist() == list(range(10))


def test_directions_can_be_left_out_of_components() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 4)) * [5, 1, 1, 1]
    without = Components(features, seed=0, without=np.eye(4)[:1])
    assert np.allclose(without(features), without(features + 9 * np.eye(4)[0]), atol=1e-5)


def test_of_equal_remainders_the_first_are_rounded_up() -> None:
    assert rounded_shares(np.tile([1.0, 1.5], 20), 45).tolist() == [1, 2] * 5 + [1, 1] * 15
