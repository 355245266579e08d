"""The stage: what `curate` takes from the records, and that it finds a shortcut by the errors on val."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from slim.errors import SettingsError, SlimWarning
from slim.stages.attend import SplitAttention
from slim.stages.curate.curate import choose_subset, curate
from slim.stages.curate.subset import Subset
from slim.stages.settings import CurateSettings

Make = Callable[..., Any]
SMALL = {"size": 8, "core_clusters": 1, "keep": 1.0}


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    with threadpool_limits(1):
        yield


def curated(made: Any, **settings: Any) -> Subset:
    chosen = CurateSettings(**{**SMALL, **settings})
    return curate(made.data, made.reference, made.attention, made.space, made.scores, chosen)


def places(split: SplitAttention, place: np.ndarray, seed: int) -> SplitAttention:
    """The split with a place that shows in the features, and in nothing else."""
    rng = np.random.default_rng(seed)
    features = np.eye(12)[3 * place] + 0.05 * rng.normal(size=(len(place), 12))
    return replace(split, features=features, environment=rng.normal(size=(len(place), 12)))


def with_shortcut(made: Any) -> Any:
    """Records of a model that takes the place for the class: nine tenths of the train images agree with both."""
    train, val = made.data.train, made.data.val
    at = np.where(np.arange(len(train)) % 20 < 18, train.y, 1 - train.y)
    attention = replace(
        made.attention,
        train=places(made.attention.train, at, 0),
        val=replace(places(made.attention.val, val.frame["a"].to_numpy(), 1), probabilities=np.eye(2)[val.frame["a"]]),
    )
    return replace(made, attention=attention)


@pytest.mark.parametrize("pool", ["train", "val"])
def test_curate_chooses_from_the_pool_of_the_attention_space(pool: str, records: Make) -> None:
    made = records(pool)
    subset = curated(made, balance="environment")
    split, table = made.attention.split(pool), made.data.split(pool)
    by_hand = choose_subset(
        split.core,
        split.environment,
        (made.space.plane, made.space.environment),
        made.scores.values,
        table.y,
        CurateSettings(**SMALL, balance="environment"),
    )
    assert subset.pool == pool
    assert len(subset.environment_cluster) == len(table)
    assert subset.frame.equals(by_hand.frame)
    assert (subset.frame["y"].to_numpy() == table.y[subset.frame["index"]]).all()
    assert subset.frame.groupby("y")["copies"].sum().tolist() == [4, 4]


def test_clusters_of_the_embedding_are_refused_on_a_plane_that_is_not_umaps(records: Make) -> None:
    made = records()
    curated(made, cluster_on="embedding")
    made = replace(made, space=replace(made.space, made_by="pca"))
    with pytest.raises(SettingsError, match=r"UMAP's for clusters of the embedding\. Got pca\. Run: slim embed RUN"):
        curated(made, cluster_on="embedding")


def test_curate_balances_what_the_errors_on_val_go_with(records: Make) -> None:
    subset = curated(with_shortcut(records()))
    assert subset.shortcut
    assert subset.balanced == "features"
    assert subset.evidence is not None
    assert subset.evidence > 0.5
    assert subset.balance["subset_share"].tolist() == [0.5] * 4
    assert np.sort(subset.balance["pool_share"]).round(2).tolist() == [0.1, 0.1, 0.9, 0.9]


def test_curate_reads_no_group_label(records: Make) -> None:
    made = with_shortcut(records())
    tables = {
        split: replace(table, frame=table.frame.drop(columns="a"), attribute_names=(), training_shares=None)
        for split in ("train", "val", "test")
        for table in [made.data.split(split)]
    }
    without = curated(replace(made, data=replace(made.data, **tables)))
    assert without.frame.equals(curated(made).frame)
    assert without.evidence == curated(made).evidence


def test_errors_that_no_factor_explains_are_no_evidence_for_a_shortcut(records: Make) -> None:
    made = with_shortcut(records())
    right = replace(made.attention.val, probabilities=np.eye(2)[made.data.val.y])
    subset = curated(replace(made, attention=replace(made.attention, val=right)))
    assert not subset.shortcut
    assert len(subset) == 8


def test_curate_of_a_network_without_a_linear_head_balances_the_environment(records: Make) -> None:
    made = records()
    splits = {
        split: replace(made.attention.split(split), features=np.zeros((len(made.data.split(split)), 0)))
        for split in ("train", "val", "test")
    }
    headless = replace(made, reference=replace(made.reference, head=None), attention=replace(made.attention, **splits))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlimWarning)
        assert curated(headless).balanced == "environment"


def test_curate_keeps_the_images_of_high_attention_score(records: Make) -> None:
    made = records()
    subset = curated(made, balance="environment", keep=0.5, keep_within="class", environment_clusters=1)
    for k in (0, 1):
        members = made.data.train.y == k
        assert made.scores.values[members & subset.kept].min() > made.scores.values[members & ~subset.kept].max()
    assert subset.kept[subset.index].all()


def test_subset_of_val_remembers_its_pool_when_saved(records: Make, tmp_path: Path) -> None:
    subset = curated(records("val"), balance="environment")
    subset.save(tmp_path)
    assert Subset.load(tmp_path).pool == "val"


def test_other_splits_join_the_clusters_of_what_is_balanced(records: Make) -> None:
    made = with_shortcut(records())
    subset = curated(made)
    joined = subset.join(made.attention.train, made.attention.val)
    place = made.data.val.frame["a"].to_numpy()
    assert len(set(zip(joined.tolist(), place.tolist(), strict=True))) == 2
    other = subset.join(made.attention.train, made.attention.val, 1 - subset.environment_cluster)
    assert (other == 1 - joined).all()


def test_cells_without_val_are_pairs_of_core_and_environment_cluster(records: Make) -> None:
    subset = curated(records(), balance="environment", core_clusters=2, environment_clusters=3)
    assert (subset.cell(with_val=True) == subset.environment_cluster).all()
    pairs = subset.cell(with_val=False)
    assert (pairs // 3 == subset.core_cluster).all()
    assert (pairs % 3 == subset.environment_cluster).all()
