"""Label spreading: scikit-learn's dense one, in linear memory, at any distance."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.semi_supervised import LabelSpreading

from slim.stages.propagate.label_spreading import ALPHA, JudgedPoints, core_probabilities, core_share


def uniform(n, rng):
    return rng.uniform(0, 10, (n, 2))


def clustered(n, rng):
    centres = rng.uniform(0, 10, (6, 2))
    return centres[rng.integers(6, size=n)] + rng.normal(0, 0.7, (n, 2))


def umap_like(n, rng):
    """25 thin bent strings far apart."""
    centres, directions, island = rng.uniform(-12, 12, (25, 2)), rng.normal(size=(25, 2)), rng.integers(25, size=n)
    along = rng.uniform(-1, 1, (n, 1))
    bent = np.concatenate([along**2, -along], axis=1)
    return centres[island] + along * directions[island] + 0.5 * bent + rng.normal(0, 0.08, (n, 2))


def z_scored(points):
    return (points - points.mean(axis=0)) / points.std(axis=0)


def judged_at_random(points, m, rng):
    """m judgements that go with the first coordinate, more or less, both kinds among them."""
    judged = rng.choice(len(points), m, replace=False)
    first = points[judged, 0]
    core = first + 0.5 * points[:, 0].std() * rng.normal(size=m) > np.median(first)
    core[:2] = True, False
    return JudgedPoints(points, judged, core)


def dense_probabilities(task, gamma):
    labels = np.full(len(task.points), -1)
    labels[task.judged] = task.core
    model = LabelSpreading(kernel="rbf", gamma=gamma, alpha=ALPHA, max_iter=30).fit(task.points, labels)
    return model.predict_proba(task.points)[:, 1]


@pytest.mark.parametrize("make", [uniform, clustered, umap_like])
@pytest.mark.parametrize(
    ("n", "m", "gamma"), [(300, 8, 1), (300, 8, 10), (300, 8, 50), (1500, 40, 10), (2000, 20, 10), (400, 200, 5)]
)
def test_probabilities_equal_dense_label_spreading(n, m, gamma, make):
    rng = np.random.default_rng(0)
    task = judged_at_random(z_scored(make(n, rng)), m, rng)
    assert core_probabilities(task, gamma) == pytest.approx(dense_probabilities(task, gamma), abs=1e-5)


def test_probabilities_with_few_outliers_equal_dense_label_spreading():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(500, 2))
    points[:4] = [[9, 0], [-9, 0.5], [0, 9.5], [11, 0.2]]
    task = judged_at_random(z_scored(points), 30, rng)
    assert core_probabilities(task, 5.0) == pytest.approx(dense_probabilities(task, 5.0), abs=1e-5)


@pytest.mark.parametrize("alpha", [ALPHA, 0.1, 0.9])
def test_judgements_spread_by_one_step_and_are_smoothed(alpha, monkeypatch):
    monkeypatch.setattr("slim.stages.propagate.label_spreading.ALPHA", alpha)
    rng = np.random.default_rng(0)
    task = judged_at_random(rng.normal(size=(60, 2)), 8, rng)
    kernel = np.exp(-2.0 * ((task.points[:, None] - task.points) ** 2).sum(-1))
    graph = kernel - np.eye(60)
    graph /= np.sqrt(np.outer(graph.sum(0), graph.sum(0)))
    labels = np.zeros((60, 2))
    labels[task.judged, task.core.astype(int)] = 1.0
    step = alpha * graph @ labels + (1 - alpha) * labels
    expected = kernel @ (step[:, 1] / step.sum(1)) / kernel.sum(1)
    assert core_probabilities(task, 2.0) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("distance", [3.0, 60.0, 1e4])
def test_points_far_from_every_judged_one_go_with_the_nearest(distance):
    rng = np.random.default_rng(0)
    near = rng.normal(size=(400, 2))
    far = rng.normal(0, 0.2, (2, 50, 2)) + np.array([[[4 + distance, 0.0]], [[-4 - distance, 0.0]]])
    task = JudgedPoints(np.concatenate([near, *far]), np.arange(40), near[:40, 0] > 0)
    found = core_probabilities(task, 50.0)
    assert found[400:450].min() > 0.99
    assert found[450:].max() < 0.01


def test_judged_point_far_from_all_others_keeps_its_judgement():
    points = np.concatenate([np.random.default_rng(0).normal(size=(60, 2)), [[1e3, 0.0]]])
    found = core_probabilities(JudgedPoints(points, np.array([60, 0, 1]), np.array([True, False, False])), 50.0)
    assert found[60] == 1.0


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 60),
    gamma=st.sampled_from([1e-3, 1.0, 50.0, 1e4]),
    scale=st.sampled_from([[0.0, 0.0], [0.0, 1.0], [1e-9, 1e3], [1.0, 1.0]]),
)
def test_probabilities_lie_in_range_on_any_plane(seed, n, gamma, scale):
    rng = np.random.default_rng(seed)
    points = rng.standard_cauchy((n, 2))[rng.integers(n, size=n)] * scale
    found = core_probabilities(judged_at_random(points, int(rng.integers(2, n + 1)), rng), gamma)
    assert found.min() >= 0.0
    assert found.max() <= 1.0


def test_probabilities_need_no_matrix_of_all_pairs():
    rng = np.random.default_rng(0)
    task = judged_at_random(z_scored(umap_like(10000, rng)), 20, rng)
    tracemalloc.start()
    core_probabilities(task, 10.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_share_of_core_is_one_half_where_nothing_pulls_however_weak_the_pulls_elsewhere():
    pulls = np.array([[-np.inf, -np.inf], [-1e6, -np.inf], [-1e6, -1e6], [-np.inf, 1e6]])
    assert core_share(pulls, np.array([True, False])).tolist() == [0.5, 1.0, 0.5, 0.0]
