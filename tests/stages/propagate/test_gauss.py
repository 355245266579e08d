"""Gauss sums against the dense matrix."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from slim.stages.propagate.gauss import gauss_sums, squared_distances


def dense_sums(points, weights, gamma):
    return np.exp(-gamma * squared_distances(points, points)) @ weights


@pytest.mark.parametrize("gamma", [0.3, 1.0, 10.0, 50.0, 1000.0])
def test_sums_equal_dense_sums(gamma):
    rng = np.random.default_rng(0)
    points, weights = rng.normal(size=(1500, 2)), rng.uniform(size=(1500, 2))
    assert gauss_sums(points, weights, gamma) == pytest.approx(dense_sums(points, weights, gamma), rel=1e-11)


def test_sums_with_signed_weights_equal_dense_sums():
    rng = np.random.default_rng(0)
    points, weights = rng.normal(size=(1500, 2)), rng.normal(size=(1500, 1))
    assert gauss_sums(points, weights, 10.0) == pytest.approx(dense_sums(points, weights, 10.0), abs=1e-11)


@settings(max_examples=40, deadline=None)
@given(
    points=arrays(np.float64, st.tuples(st.integers(1, 30), st.just(2)), elements=st.floats(-1e3, 1e3)),
    gamma=st.floats(1e-3, 1e3),
)
def test_sums_equal_dense_sums_wherever_points_lie(points, gamma):
    weights = np.linspace(0.0, 1.0, len(points))[:, None]
    assert gauss_sums(points, weights, gamma) == pytest.approx(dense_sums(points, weights, gamma), abs=1e-9)


@pytest.mark.parametrize("distance", [0.1, 1.0, 3.0, 5.6, 8.0, 11.2, 20.0])
def test_sum_is_right_to_twelve_digits_of_a_kernels_height_wherever_tiles_begin(distance):
    """At gamma 0.5, where the kernel's standard deviation is 1."""
    starts = np.linspace(-6.0, 6.0, 101)
    for start in starts:
        points = np.array([[start, -start], [start + distance * 0.6, -start + distance * 0.8]])
        found = gauss_sums(points, np.array([[0.0], [1.0]]), 0.5)[:, 0]
        assert found == pytest.approx([np.exp(-0.5 * distance**2), 1.0], abs=1e-12)


def test_sums_of_more_points_than_are_handled_at_once_equal_dense_sums(monkeypatch):
    monkeypatch.setattr("slim.stages.propagate.gauss.CHUNK", 64)
    rng = np.random.default_rng(0)
    points, weights = rng.normal(size=(1000, 2)), rng.uniform(size=(1000, 1))
    assert gauss_sums(points, weights, 0.3) == pytest.approx(dense_sums(points, weights, 0.3), rel=1e-11)


def test_sums_with_distant_outliers_need_no_large_grid():
    points = np.random.default_rng(1).normal(scale=0.3, size=(100002, 2))
    points[-2:] = [[1e7, -1e7], [-1e9, 1e9]]
    tracemalloc.start()
    sums = gauss_sums(points, np.ones((len(points), 1)), 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sums[-2:, 0] == pytest.approx([1.0, 1.0], abs=1e-12)
    assert peak < 30e6


def test_sums_do_not_depend_on_order_and_leave_inputs_alone():
    rng = np.random.default_rng(0)
    points, weights, order = rng.normal(size=(1500, 2)), rng.uniform(size=(1500, 1)), rng.permutation(1500)
    kept = points.copy(), weights.copy()
    permuted = gauss_sums(points[order], weights[order], 2.0)
    assert permuted == pytest.approx(gauss_sums(points, weights, 2.0)[order], rel=1e-12)
    assert np.array_equal(points, kept[0])
    assert np.array_equal(weights, kept[1])
