"""Query selection: exact budgets, informative images, k-means centres, and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from slim import AnnotateSettings, Attention, Dataset, Space, SplitAttention, select_queries
from slim.data import ImageTable
from slim.errors import AnnotationError, SettingsError
from slim.stages.annotate.selection import choose, most_informative


def table_of(y: list[int] | np.ndarray, names: tuple[str, ...] = ("cat", "dog")) -> ImageTable:
    frame = pd.DataFrame({"path": [f"/{i}.jpg" for i in range(len(y))], "y": np.asarray(y, dtype=np.int64)})
    return ImageTable(frame, names)


def chosen(
    coordinates: np.ndarray,
    y: list[int] | np.ndarray,
    names: tuple[str, ...] = ("cat", "dog"),
    *,
    seed: int = 0,
    **settings: Any,
) -> np.ndarray:
    """Positions of the queries, class after class; the classes must have taken turns."""
    index = choose(coordinates, table_of(y, names), AnnotateSettings(**settings), seed)
    assert np.asarray(y)[index].tolist() == list(range(len(names))) * (len(index) // len(names))
    return index.reshape(-1, len(names)).T.ravel()


def inputs(plane: np.ndarray, components: np.ndarray, maps: np.ndarray, pool: str = "train") -> Any:
    """What `select_queries` takes, for a pool of cats and dogs in turn."""
    table = table_of(np.arange(len(plane)) % 2)
    other = SplitAttention(*np.zeros((6, 2, 1)))
    split = SplitAttention(maps, *np.zeros((5, len(maps), 1)))
    attention = Attention(**{name: split if name == pool else other for name in ("train", "val", "test")})
    tables = [replace(table if name == pool else table[:2], split=name) for name in ("train", "val", "test")]
    return Dataset(*tables, fingerprint="0" * 16), attention, Space(plane, plane, components, pool)


@st.composite
def pools(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Coordinates with ties, near-ties and outliers, labels in any order, and a budget that fits."""
    y = np.array(draw(st.permutations([0] * draw(st.integers(1, 14)) + [1] * draw(st.integers(1, 14)))))
    few = st.sampled_from([0.0, 1e-9, 1e-300, 0.5, 1.0, -3.0])
    values = draw(st.sampled_from([few, st.floats(-1e6, 1e6)]))
    coordinates = draw(npst.arrays(np.float64, (len(y), 2), elements=values))
    return coordinates, y, draw(st.integers(1, int(np.bincount(y).min())))


@pytest.mark.parametrize("select", ["information", "centres"])
@settings(max_examples=30, deadline=None)
@given(pool=pools(), candidates=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_selection_gives_each_class_exactly_its_budget_of_different_images(
    pool: tuple[np.ndarray, np.ndarray, int], candidates: int, seed: int, select: str
) -> None:
    coordinates, y, budget = pool
    how = {"budget": budget, "select": select, "candidates": candidates, "seed": seed}
    first, second = (chosen(coordinates, y, **how) for _ in range(2))
    assert first.tolist() == second.tolist()
    assert len(set(first.tolist())) == len(first) == 2 * budget
    assert y[first].tolist() == [0] * budget + [1] * budget


@pytest.mark.parametrize("pool", ["train", "val"])
def test_select_queries_carries_the_rows_and_maps_of_the_pool(pool: str) -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((20, 3, 4)).astype(np.float16)
    data, attention, space = inputs(rng.random((20, 2)), rng.random((20, 3)), maps, pool)
    queries = select_queries(data, attention, space, AnnotateSettings(budget=4))
    assert queries.index.tolist() == choose(space.components, data.split(pool), AnnotateSettings(budget=4)).tolist()
    assert queries.table.paths == [data.split(pool).paths[i] for i in queries.index]
    assert queries.y.tolist() == [0, 1] * 4
    assert queries.maps.dtype == np.float32
    np.testing.assert_array_equal(queries.maps, maps[queries.index].astype(np.float32))


def test_select_queries_takes_the_plane_for_centres_and_the_components_for_information() -> None:
    rng = np.random.default_rng(0)
    plane, components = rng.random((40, 2)), rng.random((40, 5))
    data, attention, space = inputs(plane, components, np.zeros((40, 2, 2)))
    for select, points in (("centres", plane), ("information", components)):
        settings = AnnotateSettings(budget=4, select=select)  # type: ignore[arg-type]
        queries = select_queries(data, attention, space, settings, seed=3)
        assert queries.index.tolist() == choose(points, data.train, settings, seed=3).tolist()


def test_selection_draws_among_the_nearest_of_the_class_only() -> None:
    # Class 0: two clumps of five around 0 and 100; class 1 sits right at the centres and must not be drawn.
    clump = np.array([[0, 0], [1, 0], [-1, 0], [0, 3], [0, -3]], dtype=float)
    coordinates = np.concatenate([clump, clump + 100, clump, clump + 100])
    y = [0] * 10 + [1] * 10
    seen = set()
    for seed in range(15):
        cats = chosen(coordinates, y, budget=2, select="centres", candidates=3, seed=seed)[:2]
        assert sorted(cats // 5) == [0, 1]
        seen.update(cats.tolist())
    # The three nearest of a clump are its middle and the two beside it.
    assert seen == {0, 1, 2, 5, 6, 7}


def test_selection_with_one_candidate_takes_the_nearest() -> None:
    clump = np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]], dtype=float)
    coordinates = np.concatenate([clump, clump + 100])
    index = chosen(coordinates, [0] * 10, names=("cat",), budget=2, select="centres", candidates=1)
    assert sorted(index) == [0, 5]


def test_selection_takes_the_next_nearest_where_the_candidates_are_taken() -> None:
    # Two distinct points for four queries: each is a centre twice, and its images are taken in turn.
    coordinates = np.array([[0, 0], [0, 0], [5, 5], [5, 5], [0, 0], [5, 5]], dtype=float)
    index = chosen(coordinates, [0] * 6, names=("cat",), budget=4, select="centres", candidates=1)
    assert sorted(coordinates[index, 0]) == [0, 0, 5, 5]


def test_selection_covers_dense_and_sparse_regions() -> None:
    rng = np.random.default_rng(1)
    centres = np.array([[0, 0], [50, 0], [0, 50], [50, 50]], dtype=float)
    sizes = [80, 10, 10, 10]
    coordinates = np.concatenate([c + rng.normal(size=(n, 2)) for c, n in zip(centres, sizes, strict=True)])
    index = chosen(coordinates, [0] * 110, names=("cat",), budget=4, select="centres")
    clump = np.repeat(np.arange(4), sizes)
    assert sorted(clump[index]) == [0, 1, 2, 3]


def test_only_centres_change_with_the_seed_and_selecting_leaves_its_inputs_and_global_randomness_alone() -> None:
    rng = np.random.default_rng(2)
    coordinates, y = rng.random((60, 2)), [0, 1] * 30
    before = coordinates.copy()
    state = str(np.random.get_state())
    for select, n in (("centres", 4), ("information", 1)):  # information draws nothing
        picks = {tuple(chosen(coordinates, y, budget=5, select=select, seed=seed)) for seed in range(4)}
        assert len(picks) == n
    np.testing.assert_array_equal(coordinates, before)
    assert str(np.random.get_state()) == state


def mean_variance(points: np.ndarray, observed: np.ndarray) -> float:
    """Mean variance over points of a Bayesian linear regression on some of them, computed without an update formula."""
    inputs = np.concatenate([points, np.ones((len(points), 1))], 1)
    seen = inputs[observed]
    covariance = np.linalg.inv(np.eye(inputs.shape[1]) + seen.T @ seen)
    return float(np.mean([one @ covariance @ one for one in inputs]))


def test_each_image_chosen_by_information_reduces_the_variance_most() -> None:
    points = np.random.default_rng(3).normal(size=(30, 4)) / 2
    queried = np.array([7, 12])
    picks = most_informative(points, np.arange(30), queried, 5)
    for step in range(5):
        before = np.concatenate([queried, picks[:step]])
        left = {i: mean_variance(points, np.append(before, i)) for i in range(30) if i not in before}
        assert left[picks[step]] == pytest.approx(min(left.values()))


def test_information_takes_the_queries_of_other_classes_into_account() -> None:
    """Two classes of the same points: the second class gets the point that the first has left out."""
    points = np.tile(np.array([[2.0, 0.0], [0.0, 1.0]]), (2, 1))
    index = chosen(points, [0, 0, 1, 1], budget=1)
    assert index.tolist() == [0, 3]


def test_information_chooses_fewer_where_a_class_has_no_more() -> None:
    points = np.random.default_rng(0).normal(size=(6, 2))
    assert sorted(most_informative(points, np.array([1, 3, 5]), np.array([3]), 9)) == [1, 5]


def test_selection_refuses_a_budget_above_the_class() -> None:
    with pytest.raises(SettingsError, match=r"budget 4 for 'dog', which has 3 in train\. Try --annotate.budget 1\."):
        chosen(np.zeros((8, 2)), [0, 0, 0, 0, 0, 1, 1, 1], budget=4)
    with pytest.raises(SettingsError, match=r"'dog', which has 0 in train\. Add some\."):
        chosen(np.zeros((3, 2)), [0, 0, 0], budget=1)


def test_selection_refuses_a_space_or_maps_of_other_images() -> None:
    one = AnnotateSettings(budget=1)
    with pytest.raises(AnnotationError, match="must be of the pool's 2 images. Got 3 points"):
        choose(np.zeros((3, 2)), table_of([0, 1]), one)
    with pytest.raises(AnnotationError, match="NaN or infinity for 1 images"):
        choose(np.array([[0, 0], [np.nan, 0]]), table_of([0, 1]), one)
    data, attention, space = inputs(np.zeros((4, 2)), np.zeros((4, 2)), np.zeros((3, 1, 1)))
    with pytest.raises(AnnotationError, match="must be of these 4 train images. Got 3 maps"):
        select_queries(data, attention, space, one)
