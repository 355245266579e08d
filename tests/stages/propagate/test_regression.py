"""One regression for all classes: scikit-learn's, and without any pair of answers as if fitted afresh."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from slim.stages.propagate.auc_interval import auc_with_interval
from slim.stages.propagate.regression import STRENGTH, Regression


def answered(n: int, d: int = 6, seed: int = 0, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of mean square length 1, answers that go with the first coordinate, and two classes."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, d)) / np.sqrt(d)
    core = points[:, 0] + noise * rng.normal(size=n) / np.sqrt(d) > 0.3
    core[:4] = True, False, True, False
    return points, core, np.arange(n) // 2 % 2


def peer(points: np.ndarray, core: np.ndarray) -> LogisticRegression:
    return LogisticRegression(C=STRENGTH, class_weight="balanced", tol=1e-9, max_iter=2000).fit(points, core)


@pytest.mark.parametrize(("n", "d"), [(8, 2), (40, 20), (300, 20)])
def test_probabilities_are_those_of_a_balanced_logistic_regression(n: int, d: int) -> None:
    points, core, _ = answered(n, d)
    others = np.random.default_rng(1).normal(size=(50, d))
    expected = peer(points, core).predict_proba(others)[:, 1]
    np.testing.assert_allclose(Regression.fit(points, core).probabilities(others), expected, atol=1e-4)


def test_each_pair_of_a_class_is_compared_by_a_regression_that_never_saw_it() -> None:
    points, core, classes = answered(24)
    found = Regression.fit(points, core).left_out_comparisons(classes == 0)
    right, wrong = np.flatnonzero(core & (classes == 0)), np.flatnonzero(~core & (classes == 0))
    assert found.shape == (len(right), len(wrong))
    for row, one in enumerate(right):
        for column, other in enumerate(wrong):
            kept = np.setdiff1d(np.arange(24), [one, other])
            odds = peer(points[kept], core[kept]).decision_function(points[[one, other]])
            assert found[row, column] == (odds[0] > odds[1])


def test_of_too_many_pairs_each_image_loses_its_own_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    points, core, classes = answered(30)
    regression = Regression.fit(points, core)
    monkeypatch.setattr("slim.stages.propagate.regression.MAX_PAIRS", 5)
    found = regression.left_out_comparisons(classes == 1)
    members = np.flatnonzero(classes == 1)
    odds = {}
    for one in members:
        kept = np.setdiff1d(np.arange(30), [one])
        odds[one] = peer(points[kept], core[kept]).decision_function(points[[one]])[0]
    expected = [[odds[a] > odds[b] for b in members if not core[b]] for a in members if core[a]]
    np.testing.assert_array_equal(found, expected)


def test_where_no_answer_of_a_kind_is_left_the_comparison_says_nothing() -> None:
    points = np.array([[1.0, 0.0], [-1.0, 0.2], [-0.9, -0.3]])
    core = np.array([True, False, False])
    found = Regression.fit(points, core).left_out_comparisons(np.ones(3, bool))
    np.testing.assert_array_equal(found, [[0.5, 0.5]])


@pytest.mark.parametrize(("n", "d"), [(20, 20), (40, 20), (40, 2)])
def test_reported_auc_is_fair_where_answers_and_points_are_unrelated(n: int, d: int) -> None:
    rng = np.random.default_rng(0)
    found, inside = [], 0
    for _ in range(120):
        core = rng.permutation(n) < rng.integers(n // 4, 3 * n // 4)
        comparisons = Regression.fit(rng.normal(size=(n, d)) / np.sqrt(d), core).left_out_comparisons(np.ones(n, bool))
        auc, low, high = auc_with_interval(comparisons)
        found.append(auc)
        inside += low <= 0.5 <= high
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)
    assert inside >= 108  # 90 %
