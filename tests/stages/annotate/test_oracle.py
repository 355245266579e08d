"""Oracles on masks and boxes, and noise on their answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slim import MaskOracle, NoisyOracle, Place, Queries, Query
from slim.data import ImageTable
from slim.data.table import RegionKind
from slim.errors import AnnotationError, DataError, SettingsError, SlimWarning
from slim.stages.annotate.oracle import is_oracle

Ask = Callable[..., Queries]
Without = Callable[..., ImageTable]

ON_OBJECT = np.array([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
BESIDE = ON_OBJECT[:, ::-1].copy()


@pytest.mark.parametrize("kind", ["masks", "boxes"])
def test_oracle_answers_core_where_the_attention_is_on_the_object(
    kind: RegionKind, pool: ImageTable, ask_about: Ask
) -> None:
    maps = np.stack([ON_OBJECT, BESIDE, np.zeros((2, 4)), np.full((2, 4), 0.7)])
    judgements = MaskOracle(pool, kind=kind)(ask_about(2, 4, 1, 0, maps=maps))
    assert judgements.frame["index"].tolist() == [2, 4, 1, 0]
    assert judgements.frame["answer"].tolist() == ["core", "spurious", "unsure", "unsure"]
    assert judgements.frame["seconds"].tolist() == [0.0] * 4


def test_oracle_is_unsure_about_an_image_without_a_mask(pool: ImageTable, ask_about: Ask) -> None:
    assert MaskOracle(pool).answer(ask_about(7)[0]) == "unsure"
    assert MaskOracle(pool, kind="boxes").answer(ask_about(7)[0]) == "core"


def test_oracle_threshold_separates_the_same_map(pool: ImageTable, ask_about: Ask) -> None:
    # Strong attention on both sides of the object's edge, somewhat more of it outside.
    query = ask_about(0, maps=np.array([[[0.0, 1.0, 0.9, 0.0]]]))[0]
    answers = [MaskOracle(pool, threshold, clicks=False).answer(query) for threshold in (0.0, 0.2, 0.8)]
    assert answers == ["core", "core", "spurious"]


def test_oracle_needs_more_than_the_threshold(pool: ImageTable, ask_about: Ask) -> None:
    even = ask_about(0, maps=np.array([[[0.0, 1.0, 1.0, 0.0]]]))[0]  # symmetric: exactly half is inside
    assert MaskOracle(pool, 0.5, clicks=False).answer(even) == "spurious"
    assert MaskOracle(pool, 0.49, clicks=False).answer(even) == "core"


def test_oracle_judges_a_scaled_map_alike(pool: ImageTable, ask_about: Ask) -> None:
    # Only the shape of a map counts, since a person sees it scaled to the full range.
    assert MaskOracle(pool).answer(ask_about(0, maps=0.3 * ON_OBJECT[None] + 0.2)[0]) == "core"


@pytest.mark.parametrize(("kind", "column", "word"), [("masks", "mask", "Masks"), ("boxes", "box_x", "Boxes")])
def test_oracle_refuses_a_table_without_regions(
    kind: RegionKind, column: str, word: str, pool: ImageTable, without: Without
) -> None:
    with pytest.raises(AnnotationError, match=f"{word} must exist .*Got a data set without .*--annotator terminal"):
        MaskOracle(without(pool, column), kind=kind)


def test_oracle_refuses_masks_that_are_all_empty(pool: ImageTable) -> None:
    with pytest.raises(AnnotationError, match="Masks must exist"):
        MaskOracle(pool[[7, 7]])


def test_oracle_refuses_queries_of_another_pool(pool: ImageTable, ask_about: Ask) -> None:
    with pytest.raises(AnnotationError, match="must have the pool that the queries were selected from"):
        MaskOracle(pool[::-1])(ask_about(1))
    with pytest.raises(AnnotationError, match="as image 6"):
        MaskOracle(pool[:3])(ask_about(6))


def test_oracle_lets_a_damaged_mask_be_seen(pool: ImageTable, ask_about: Ask) -> None:
    Path(pool.frame["mask"].iloc[0]).write_bytes(b"no image")
    with pytest.raises(DataError, match="readable image"):
        MaskOracle(pool)(ask_about(0))


def test_oracle_clicks_deep_inside_the_object_where_it_answers_spurious(pool: ImageTable, ask_about: Ask) -> None:
    maps = np.stack([BESIDE, BESIDE, BESIDE, ON_OBJECT, np.zeros((2, 4))])
    judgements = MaskOracle(pool)(ask_about(0, 2, 4, 1, 3, maps=maps))
    places = judgements.places(len(pool))
    assert np.isnan(places[[1, 3, 5, 6, 7]]).all()
    x, y, width, height = places[[0, 2, 4]].T
    # The object is the right half: its pixels lie at most a quarter of the side from its border.
    assert (np.abs(x - 0.75) <= 0.3 * 0.25 + 0.01).all()
    assert ((y >= 0.7 * 0.25 - 0.01) & (y <= 1 - 0.7 * 0.25 + 0.01)).all()
    assert not width.any()
    assert not height.any()
    assert len(set(y)) == 3  # each image has its own draw
    boxes = MaskOracle(pool, kind="boxes")(ask_about(0, 2, maps=maps[:2]))
    np.testing.assert_allclose(boxes.places(8)[[0, 2], :2], [[0.75, 0.5]] * 2, atol=0.003)


def clicked(pool: ImageTable, ask_about: Ask, **settings: Any) -> np.ndarray:
    queries = ask_about(*range(7), maps=np.repeat(BESIDE[None], 7, axis=0))
    return MaskOracle(pool, **settings)(queries).places(len(pool))[:7, :2]


def test_clicks_depend_on_the_seed_and_are_off_by_the_noise_within_the_photo(pool: ImageTable, ask_about: Ask) -> None:
    exact, far = (clicked(pool, ask_about, click_noise=noise, kind="boxes") for noise in (0.0, 0.5))
    np.testing.assert_array_equal(clicked(pool, ask_about, seed=1), clicked(pool, ask_about, seed=1))
    assert (clicked(pool, ask_about, seed=1) != clicked(pool, ask_about)).any()
    assert far.min() >= 0
    assert far.max() == 1  # clipped at the edge
    assert 0.1 < np.abs(far - exact).max() <= 0.5
    assert np.abs(clicked(pool, ask_about, click_noise=0.02, kind="boxes") - exact).max() <= 0.02
    assert np.isnan(clicked(pool, ask_about, clicks=False)).all()


def test_names_of_oracles_differ_where_their_answers_may(pool: ImageTable) -> None:
    changes: list[dict[str, Any]] = [{}, {"clicks": False}, {"click_noise": 0.1}, {"seed": 3}, {"threshold": 0.3}]
    assert len({MaskOracle(pool, **change).name for change in changes}) == len(changes)
    assert MaskOracle(pool, clicks=False, seed=3).name == "masks over 0.5"


@pytest.mark.parametrize("clicks", [True, False])
def test_oracle_is_unsure_about_an_empty_mask_and_says_so(pool: ImageTable, ask_about: Ask, clicks: bool) -> None:
    Image.new("L", (12, 12)).save(pool.frame["mask"].iloc[0])
    with pytest.warns(SlimWarning, match="Some masks are empty: their images are unsure"):
        assert MaskOracle(pool, clicks=clicks).answer(ask_about(0)[0]) == "unsure"


@pytest.mark.parametrize("noise", [-0.1, 0.6, float("nan")])
def test_oracle_refuses_click_noise_out_of_range(noise: float, pool: ImageTable) -> None:
    with pytest.raises(SettingsError, match="click_noise must be from 0 to 0.5"):
        MaskOracle(pool, click_noise=noise)


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_oracle_refuses_a_threshold_out_of_range(threshold: float, pool: ImageTable) -> None:
    with pytest.raises(SettingsError, match="threshold must be"):
        MaskOracle(pool, threshold)


def query_at(index: int) -> Query:
    """A query that only has a position in the pool."""
    table = ImageTable.__new__(ImageTable)
    queries = Queries.__new__(Queries)
    object.__setattr__(queries, "index", np.array([index]))
    object.__setattr__(queries, "table", table)
    return Query(queries, 0)


@pytest.fixture
def flipped(certain: Any) -> Callable[..., np.ndarray]:
    """Which of n answers, all the same, are flipped."""

    def make(share: float, seed: int = 0, n: int = 2000, answer: str | None = "core") -> np.ndarray:
        oracle = NoisyOracle(certain(answer), share, seed)
        return np.array([oracle.answer(query_at(index)) != answer for index in range(n)])

    return make


def test_noise_flips_about_its_share_and_again_the_same(flipped: Callable[..., np.ndarray]) -> None:
    first = flipped(0.1)
    assert abs(first.mean() - 0.1) < 0.03
    np.testing.assert_array_equal(first, flipped(0.1))
    assert (first != flipped(0.1, seed=1)).any()


def test_noise_at_the_ends_flips_nothing_or_everything(flipped: Callable[..., np.ndarray], certain: Any) -> None:
    assert not flipped(0.0, n=50).any()
    assert flipped(1.0, n=50).all()
    assert NoisyOracle(certain("spurious"), 1.0).answer(query_at(0)) == "core"


def test_noise_flips_a_subset_of_what_more_noise_flips(flipped: Callable[..., np.ndarray]) -> None:
    assert not (flipped(0.1) & ~flipped(0.3)).any()


def test_noise_clicks_anywhere_when_it_makes_spurious_of_core_and_nowhere_the_other_way(certain: Any) -> None:
    clicking = certain("core")
    clicking.clicks = True
    replies = [NoisyOracle(clicking, 1.0).answer(query_at(index)) for index in range(200)]
    assert {reply[0] for reply in replies} == {"spurious"}  # type: ignore[index]
    clicks = np.array([reply[1].columns for reply in replies])  # type: ignore[index, union-attr]
    assert clicks[:, :2].min() < 0.05
    assert clicks[:, :2].max() > 0.95
    assert not clicks[:, 2:].any()
    assert NoisyOracle(certain(("spurious", Place(0.5, 0.5))), 1.0).answer(query_at(0)) == "core"
    assert NoisyOracle(certain("core"), 1.0).answer(query_at(0)) == "spurious"


@pytest.mark.parametrize("answer", ["unsure", None])
def test_noise_leaves_unsure_and_unanswered_queries(answer: str | None, flipped: Callable[..., np.ndarray]) -> None:
    assert not flipped(1.0, n=20, answer=answer).any()


def test_noise_refuses_a_share_out_of_range(certain: Any) -> None:
    with pytest.raises(SettingsError, match="Got 1.2"):
        NoisyOracle(certain(), 1.2)


def test_names_tell_oracles_from_people(pool: ImageTable) -> None:
    assert all(is_oracle(MaskOracle(pool, kind=kind).name) for kind in ("masks", "boxes"))
    assert is_oracle(NoisyOracle(MaskOracle(pool), 0.1).name)
    assert not any(is_oracle(name) for name in ("ann", "terminal", "recorded masks.csv 0a1b2c3d"))
