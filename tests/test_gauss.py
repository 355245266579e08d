"""Gauss sums against the dense matrix."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from slim.gauss import DIRECT_PAIRS, gauss_sums, squared_distances


def dense_sums(points, weights, gamma, own=True):
    kernel = np.exp(-gamma * squared_distances(points, points))
    if not own:
        np.fill_diagonal(kernel, 0.0)
    return kernel @ weights


def islands(n, distance):
    """Two round islands, their centres so many kernel widths (at gamma 0.5, where one is 1) apart."""
    points = np.random.default_rng(1).normal(scale=0.3, size=(n, 2))
    points[n // 2 :, 0] += distance
    return points


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("gamma", [0.3, 1.0, 10.0, 50.0])
def test_gridded_sums_equal_dense_sums(gamma, own):
    rng = np.random.default_rng(0)
    points, weights = rng.uniform(-1.5, 1.5, (1500, 2)), rng.uniform(size=(1500, 2))
    assert len(points) ** 2 > DIRECT_PAIRS
    expected = dense_sums(points, weights, gamma, own)
    assert gauss_sums(points, weights, gamma, own=own) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("gamma", [1.0, 1000.0])
def test_sums_with_signed_weights_equal_dense_sums(gamma):
    rng = np.random.default_rng(0)
    points, weights = rng.normal(size=(1500, 2)), rng.normal(size=(1500, 1))
    bound = 3e-8 * dense_sums(points, np.abs(weights), gamma)
    assert (np.abs(gauss_sums(points, weights, gamma) - dense_sums(points, weights, gamma)) <= bound).all()


@settings(max_examples=40, deadline=None)
@given(
    points=arrays(np.float64, st.tuples(st.integers(1, 30), st.just(2)), elements=st.floats(-1e3, 1e3)),
    gamma=st.floats(1e-3, 1e3),
    own=st.booleans(),
)
def test_sums_equal_dense_sums_wherever_points_lie(points, gamma, own):
    weights = np.linspace(0.0, 1.0, len(points))[:, None]
    assert gauss_sums(points, weights, gamma, own=own) == pytest.approx(
        dense_sums(points, weights, gamma, own), abs=1e-18, rel=1e-12
    )


@pytest.mark.parametrize(("distance", "error"), [(6.0, 5e-4), (9.0, 5e-3)])
def test_sums_between_islands_keep_relative_accuracy(distance, error):
    points = islands(1600, distance)
    weights = np.zeros((1600, 1))
    weights[:800] = 1.0
    far = gauss_sums(points, weights, 0.5)[800:]
    assert far.max() < 1e-2
    assert far == pytest.approx(dense_sums(points, weights, 0.5)[800:], rel=error)


def test_sums_of_lonely_point_leave_its_own_weight_out_exactly():
    points = np.concatenate([islands(1500, 0.0), [[7.0, 0.0]]])
    expected = dense_sums(points, np.ones((1501, 1)), 0.5, own=False)[-1, 0]
    assert expected < 1e-4
    assert gauss_sums(points, np.ones((1501, 1)), 0.5, own=False)[-1, 0] == pytest.approx(expected, rel=1e-3)


def test_sums_with_distant_outliers_need_no_large_grid():
    points = np.concatenate([islands(20000, 3.0), [[1e7, -1e7], [-1e9, 1e9]]])
    tracemalloc.start()
    sums = gauss_sums(points, np.ones((len(points), 1)), 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sums[-2:, 0].tolist() == [1.0, 1.0]
    assert peak < 30e6


def test_sums_do_not_depend_on_order_and_leave_inputs_alone():
    rng = np.random.default_rng(0)
    points, weights, order = rng.normal(size=(1500, 2)), rng.uniform(size=(1500, 1)), rng.permutation(1500)
    kept = points.copy(), weights.copy()
    permuted = gauss_sums(points[order], weights[order], 2.0)
    assert permuted == pytest.approx(gauss_sums(points, weights, 2.0)[order], rel=1e-12)
    assert np.array_equal(points, kept[0])
    assert np.array_equal(weights, kept[1])
