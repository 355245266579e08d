from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from slim.annotation import AnnotateSettings, Queries, select_queries
from slim.annotation.queries import most_informative
from slim.datasets import ImageTable
from slim.errors import AnnotationError, SettingsError


def table_of(y: list[int] | np.ndarray, names: tuple[str, ...] = ("cat", "dog")) -> ImageTable:
    frame = pd.DataFrame({"path": [f"/{i}.jpg" for i in range(len(y))], "y": np.asarray(y, dtype=np.int64)})
    return ImageTable(frame, names)


def selected(
    coordinates: np.ndarray, y: list[int] | np.ndarray, names: tuple[str, ...] = ("cat", "dog"), **kwargs: Any
) -> Queries:
    table = table_of(y, names)
    return select_queries(coordinates, table, np.zeros((len(table), 2, 2)), **kwargs)


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
def test_select_queries_gives_each_class_exactly_its_budget_of_different_images(
    pool: tuple[np.ndarray, np.ndarray, int], candidates: int, seed: int, select: str
) -> None:
    coordinates, y, budget = pool
    how = {"budget": budget, "select": select, "candidates": candidates, "seed": seed}
    first, second = (selected(coordinates, y, **how) for _ in range(2))
    assert first.index.tolist() == second.index.tolist()
    assert len(set(first.index.tolist())) == 2 * budget
    assert first.y.tolist() == [0] * budget + [1] * budget
    assert first.y.tolist() == y[first.index].tolist()


def test_select_queries_carries_the_rows_and_maps_of_the_chosen_images() -> None:
    rng = np.random.default_rng(0)
    table = table_of([0, 1] * 10)
    maps = rng.random((20, 3, 4)).astype(np.float16)
    queries = select_queries(rng.random((20, 2)), table, maps, budget=4)
    assert queries.table.paths == [table.paths[i] for i in queries.index]
    np.testing.assert_array_equal(queries.maps, maps[queries.index].astype(np.float32))
    assert queries[-1].index == queries.index[-1]
    assert [query.position for query in queries] == list(range(8))
    with pytest.raises(IndexError):
        queries[8]


def test_select_queries_draws_among_the_nearest_of_the_class_only() -> None:
    # Class 0: two clumps of five around 0 and 100; class 1 sits right at the centres and must not be drawn.
    clump = np.array([[0, 0], [1, 0], [-1, 0], [0, 3], [0, -3]], dtype=float)
    coordinates = np.concatenate([clump, clump + 100, clump, clump + 100])
    y = [0] * 10 + [1] * 10
    seen = set()
    for seed in range(15):
        queries = selected(coordinates, y, budget=2, select="centres", candidates=3, seed=seed)
        cats = queries.index[queries.y == 0]
        assert sorted(cats // 5) == [0, 1]
        seen.update(cats.tolist())
    # The three nearest of a clump are its middle and the two beside it.
    assert seen == {0, 1, 2, 5, 6, 7}


def test_select_queries_with_one_candidate_takes_the_nearest() -> None:
    clump = np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]], dtype=float)
    coordinates = np.concatenate([clump, clump + 100])
    queries = selected(coordinates, [0] * 10, names=("cat",), budget=2, select="centres", candidates=1)
    assert sorted(queries.index) == [0, 5]


def test_select_queries_takes_the_next_nearest_where_the_candidates_are_taken() -> None:
    # Two distinct points for four queries: each is a centre twice, and its images are taken in turn.
    coordinates = np.array([[0, 0], [0, 0], [5, 5], [5, 5], [0, 0], [5, 5]], dtype=float)
    queries = selected(coordinates, [0] * 6, names=("cat",), budget=4, select="centres", candidates=1)
    assert sorted(coordinates[queries.index, 0]) == [0, 0, 5, 5]


def test_select_queries_spreads_over_dense_and_sparse_regions() -> None:
    rng = np.random.default_rng(1)
    centres = np.array([[0, 0], [50, 0], [0, 50], [50, 50]], dtype=float)
    sizes = [80, 10, 10, 10]
    coordinates = np.concatenate([c + rng.normal(size=(n, 2)) for c, n in zip(centres, sizes, strict=True)])
    queries = selected(coordinates, [0] * 110, names=("cat",), budget=4, select="centres")
    clump = np.repeat(np.arange(4), sizes)
    assert sorted(clump[queries.index]) == [0, 1, 2, 3]


def test_only_centres_change_with_the_seed_and_selecting_leaves_its_inputs_and_global_randomness_alone() -> None:
    rng = np.random.default_rng(2)
    coordinates, y = rng.random((60, 2)), [0, 1] * 30
    before = coordinates.copy()
    state = str(np.random.get_state())
    for select, n in (("centres", 4), ("information", 1)):  # what tells most is no matter of chance
        picks = {tuple(selected(coordinates, y, budget=5, select=select, seed=seed).index) for seed in range(4)}
        assert len(picks) == n
    np.testing.assert_array_equal(coordinates, before)
    assert str(np.random.get_state()) == state


def unknown(points: np.ndarray, observed: np.ndarray) -> float:
    """Mean variance over points of a Bayesian linear regression that has seen some, made without any update formula."""
    inputs = np.concatenate([points, np.ones((len(points), 1))], 1)
    seen = inputs[observed]
    covariance = np.linalg.inv(np.eye(inputs.shape[1]) + seen.T @ seen)
    return float(np.mean([one @ covariance @ one for one in inputs]))


def test_each_image_chosen_by_information_leaves_least_unknown() -> None:
    points = np.random.default_rng(3).normal(size=(30, 4)) / 2
    asked = np.array([7, 12])
    chosen = most_informative(points, np.arange(30), asked, 5)
    for step in range(5):
        before = np.concatenate([asked, chosen[:step]])
        left = {i: unknown(points, np.append(before, i)) for i in range(30) if i not in before}
        assert left[chosen[step]] == pytest.approx(min(left.values()))


def test_information_takes_into_account_what_other_classes_ask() -> None:
    """Two classes of the same points: the second asks about what the first has left out."""
    points = np.tile(np.array([[2.0, 0.0], [0.0, 1.0]]), (2, 1))
    queries = selected(points, [0, 0, 1, 1], budget=1)
    assert queries.index.tolist() == [0, 3]


def test_information_gives_what_there_is_where_a_class_has_no_more() -> None:
    points = np.random.default_rng(0).normal(size=(6, 2))
    assert sorted(most_informative(points, np.array([1, 3, 5]), np.array([3]), 9)) == [1, 5]


def test_select_queries_refuses_a_way_that_does_not_exist() -> None:
    with pytest.raises(SettingsError, match="select must be information or centres. Got 'random'"):
        selected(np.zeros((2, 2)), [0, 1], budget=1, select="random")
    with pytest.raises(SettingsError, match="select must be information or centres"):
        AnnotateSettings(select="random")


def test_select_queries_refuses_a_budget_above_the_class() -> None:
    with pytest.raises(SettingsError, match=r"budget 4 for 'dog', which has 3\. Try --budget 3"):
        selected(np.zeros((8, 2)), [0, 0, 0, 0, 0, 1, 1, 1], budget=4)
    with pytest.raises(SettingsError, match="'dog', which has 0"):
        selected(np.zeros((3, 2)), [0, 0, 0], budget=1)


@pytest.mark.parametrize("name", ["budget", "candidates"])
def test_select_queries_refuses_numbers_below_one(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be at least 1. Got 0"):
        selected(np.zeros((2, 2)), [0, 1], **{"budget": 1, name: 0})


def test_select_queries_refuses_arrays_of_other_images() -> None:
    table = table_of([0, 1])
    with pytest.raises(AnnotationError, match="same pool. Got 3, 2 and 2"):
        select_queries(np.zeros((3, 2)), table, np.zeros((2, 1, 1)), budget=1)
    with pytest.raises(AnnotationError, match="NaN or infinity for 1 images"):
        select_queries(np.array([[0, 0], [np.nan, 0]]), table, np.zeros((2, 1, 1)), budget=1)


def test_queries_refuse_an_image_twice() -> None:
    table = table_of([0, 1])
    with pytest.raises(AnnotationError, match=r"1 different"):
        Queries(np.array([3, 3]), table.y, table, np.zeros((2, 1, 1)), table.class_names)


def test_query_knows_its_image() -> None:
    table = table_of([1, 0, 1])
    maps = np.arange(3.0).reshape(3, 1, 1)
    query = Queries(np.array([9, 4, 2]), table.y, table, maps, table.class_names)[0]
    assert (query.index, query.y, query.class_name, query.path) == (9, 1, "dog", "/0.jpg")
    assert query.row == {"path": "/0.jpg", "y": 1}
    assert query.map.tolist() == [[0.0]]
    assert [other.position for other in query.queries.of_class(1)] == [0, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"budget": 0}, "budget must be at least 1"),
        ({"candidates": -1}, "candidates must be at least 1"),
        ({"noise": 1.5}, "noise must be from 0 to 1"),
        ({"noise": float("nan")}, "noise must be from 0 to 1"),
        ({"threshold": 1.0}, "threshold must be at least 0 and below 1"),
        ({"annotator": "crowd"}, "one of auto, masks, boxes, recorded, browser, terminal. Got 'crowd'"),
        ({"annotator": "recorded"}, "without one. Add --recorded"),
        ({"annotator": "masks", "recorded": "a.csv"}, "needs annotator recorded or auto"),
        ({"annotator": "terminal", "noise": 0.1}, "with annotator terminal"),
        ({"recorded": "a.csv", "noise": 0.1}, "with recorded answers"),
    ],
)
def test_settings_refuse_values_out_of_range_and_pairs_that_do_not_go_together(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        AnnotateSettings(**values)  # type: ignore[arg-type]
