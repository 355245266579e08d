"""The factor to balance: found by the mistakes it explains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from slim.errors import SettingsError
from slim.stages.curate.curate import choose_subset
from slim.stages.curate.factors import Mistakes, Source, find_factor
from slim.stages.curate.subset import Subset
from slim.stages.settings import CurateSettings

Floats = NDArray[np.floating[Any]]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


class Photos:
    """Photos of two classes with a breed (in the features) and a place (in the environment), each of several looks."""

    def __init__(self, n: int, seed: int, breeds: int = 2, places: int = 2) -> None:
        rng = np.random.default_rng(seed)
        self.y, self.breed = rng.integers(2, size=n), rng.integers(breeds, size=n)
        self.place = rng.integers(places, size=n)
        self.features = self._seen(self.breed, rng)
        self.environment = self._seen(self.place, rng)
        self.luck = rng.random(n)

    @staticmethod
    def _seen(kind: NDArray[np.int64], rng: np.random.Generator) -> Floats:
        look = rng.integers(2, size=len(kind))
        kinds, looks = np.eye(4)[kind], 0.4 * np.eye(8)[2 * kind + look]
        return np.hstack([kinds, looks]) + 0.05 * rng.normal(size=(len(kind), 12))

    @property
    def sources(self) -> dict[Source, Floats]:
        return {"environment": self.environment, "features": self.features}

    def mistakes(self, wrong: NDArray[np.bool_], head: Floats | None = None) -> Mistakes:
        return Mistakes(self.sources, self.y, wrong, head)


READS_BREED = np.array([[1.0, -1.0], [-1.0, 1.0]]) @ np.eye(12)[:2]


def find(pool: Photos, mistakes: Mistakes | None, **options: Any) -> Any:
    return find_factor(pool.sources, mistakes, fit_on=np.ones(len(pool.y), bool), **options)


def same_parts(clusters: NDArray[np.int64], true: NDArray[np.int64]) -> bool:
    return len(set(zip(clusters.tolist(), true.tolist(), strict=True))) == len(set(true.tolist())) == len(set(clusters))


@pytest.mark.parametrize("shortcut", ["place", "breed"])
@pytest.mark.parametrize("kinds", [2, 3, 4])
def test_what_the_mistakes_go_with_is_found_with_its_number_of_kinds(shortcut: str, kinds: int) -> None:
    pool, val = Photos(600, 0, kinds, kinds), Photos(300, 1, kinds, kinds)
    misled = (getattr(val, shortcut) % 2 != val.y) & (val.luck < 0.4 + 0.15 * getattr(val, shortcut))
    factor = find(pool, val.mistakes(misled))
    assert factor.source == ("environment" if shortcut == "place" else "features")
    assert 0.3 < factor.explains < 0.5
    assert same_parts(factor.cluster, getattr(pool, shortcut)) or kinds > 2  # kinds of one rate need not be told apart


def test_mistakes_by_luck_are_explained_by_nothing() -> None:
    pool, val = Photos(600, 0), Photos(300, 1)
    assert find(pool, val.mistakes(val.luck < 0.1)).explains < 0
    assert find(pool, val.mistakes(np.zeros(300, bool))).explains == 0


def test_mistakes_that_go_with_the_class_alone_are_no_factor() -> None:
    pool, val = Photos(600, 0), Photos(300, 1)
    assert find(pool, val.mistakes((val.y == 1) & (val.luck < 0.5))).explains < 0


def test_without_mistakes_the_first_source_is_taken() -> None:
    pool = Photos(600, 0, places=3)
    factor = find(pool, None)
    assert (factor.source, factor.explains) == ("environment", None)
    assert same_parts(factor.cluster, pool.place)


def test_a_number_of_clusters_that_is_asked_for_is_kept() -> None:
    pool, val = Photos(600, 0), Photos(300, 1)
    assert find(pool, val.mistakes(val.breed != val.y), clusters=4).cluster.max() == 3


def test_mistakes_follow_from_predicted_probabilities() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2]])
    mistakes = Mistakes.from_predictions(np.ones((2, 3)), np.ones((2, 4)), probabilities, np.array([0, 1]))
    assert mistakes.wrong.tolist() == [False, True]
    assert mistakes.features["features"].shape == (2, 4)


def curated(pool: Photos, mistakes: Mistakes | None, features: Floats | None, **changed: Any) -> Subset:
    chosen = CurateSettings(**{"size": 40, "core_clusters": 1, "keep": 1.0, **changed})
    space = (pool.features[:, :2], pool.environment[:, :2])
    scores = np.ones(len(pool.y))
    return choose_subset(
        pool.features, pool.environment, space, scores, pool.y, chosen, features=features, mistakes=mistakes
    )


def test_the_subset_is_balanced_over_the_factor_that_was_found(tmp_path: Path) -> None:
    pool, val = Photos(600, 0), Photos(300, 1)
    pool.y = np.where(pool.luck < 0.95, pool.breed, 1 - pool.breed)  # most of each class are of one breed
    subset = curated(pool, val.mistakes(val.breed != val.y, READS_BREED), pool.features)
    counts = np.bincount(2 * pool.y[subset.index] + pool.breed[subset.index])
    assert subset.balanced == "features"
    assert subset.shortcut
    assert counts.tolist() == [10, 10, 10, 10]
    assert subset.balance["subset_share"].tolist() == [0.5] * 4
    share = subset.balance["pool_share"].to_numpy()
    assert np.sort(share[:2])[0] < 0.1 < 0.9 < np.sort(share[:2])[1]
    assert share[:2].sum() == share[2:].sum() == pytest.approx(1)
    subset.save(tmp_path)
    again = Subset.load(tmp_path)
    assert (again.balanced, again.explains, again.evidence) == ("features", subset.explains, subset.evidence)
    pd.testing.assert_frame_equal(again.balance, subset.balance)


def test_mistakes_that_a_factor_explains_entirely_are_all_of_it() -> None:
    pool, val = Photos(600, 0), Photos(300, 1)
    assert find(pool, val.mistakes(val.place != val.y)).explains > 0.9


def test_an_attribute_that_shows_in_more_than_the_head_reads_is_evidence() -> None:
    pool, val = Photos(600, 0), Photos(300, 1)
    factor = find(pool, val.mistakes(val.breed != val.y, READS_BREED))
    assert factor.evidence > 0.5


def test_what_only_the_prediction_goes_with_is_no_evidence() -> None:
    pool, val = Photos(600, 0), Photos(300, 1)
    for of in (pool, val):  # a model that sees how much of class 1 there is, and errs where that is between
        seen = of.y + 0.5 * np.random.default_rng(len(of.y)).normal(size=len(of.y))
        of.features = np.column_stack([np.full(len(of.y), 10), 2 * seen, of.features])
    factor = find(pool, val.mistakes((seen > 0.5) != val.y, np.outer([-1, 1], np.eye(14)[1])))
    assert factor.explains > 0.2
    assert factor.evidence < 0.05


def test_without_a_linear_head_the_environment_gives_the_evidence() -> None:
    pool, val = Photos(600, 0), Photos(300, 1)
    assert find(pool, val.mistakes(val.place != val.y)).evidence > 0.9
    assert find(pool, val.mistakes(val.breed != val.y)).evidence < 0.05


def test_nothing_to_explain_is_no_evidence() -> None:
    pool, val = Photos(600, 0), Photos(300, 1)
    assert not curated(pool, val.mistakes(np.zeros(300, bool)), pool.features).shortcut


def test_a_source_that_is_asked_for_is_taken_without_looking_at_mistakes() -> None:
    pool, val = Photos(600, 0), Photos(300, 1)
    subset = curated(pool, val.mistakes(val.breed != val.y), pool.features, balance="environment")
    assert (subset.balanced, subset.explains) == ("environment", None)


@pytest.mark.parametrize("features", [None, np.zeros((600, 0))])
def test_a_network_without_a_linear_head_has_no_features_to_balance(features: Floats | None) -> None:
    pool, val = Photos(600, 0), Photos(300, 1)
    with pytest.raises(SettingsError, match="Use --balance environment"):
        curated(pool, None, features, balance="features")
    subset = curated(pool, val.mistakes(val.place != val.y), features)
    assert subset.balanced == "environment"
