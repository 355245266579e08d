"""The AUC's interval against its formula, and how often it holds the truth."""

from __future__ import annotations

import numpy as np
import pytest

from slim.stages.propagate.auc_interval import SHARED_ANSWERS, auc_with_interval, comparisons


def auc_of(scores, core):
    """AUC and interval of independent scores."""
    return auc_with_interval(comparisons(scores[core][:, None] - scores[~core][None, :]), widening=1.0)


def test_auc_counts_ties_half():
    auc, _, _ = auc_of(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    assert auc == (1 + 1 + 0.5 + 1) / 4


@pytest.mark.parametrize("widening", [1.0, SHARED_ANSWERS])
def test_auc_interval_solves_newcombe_method_five(widening):
    core = np.arange(30) < 12
    scores = np.random.default_rng(0).normal(size=30) + core
    auc, low, high = auc_with_interval(comparisons(scores[core][:, None] - scores[~core][None, :]), widening)
    for bound in (low, high):
        excess = (30 / 2 - 1) * ((1 - bound) / (2 - bound) + bound / (1 + bound))
        variance = bound * (1 - bound) * (1 + excess) / (12 * 18)
        assert abs(auc - bound) == pytest.approx(1.959964 * widening * np.sqrt(variance))
    assert low < auc < high


def test_auc_interval_is_wider_by_a_third_of_its_errors_unless_told_otherwise():
    differences = np.random.default_rng(0).normal(size=(12, 18)) + 1
    assert auc_with_interval(comparisons(differences)) == auc_with_interval(comparisons(differences), 4 / 3)


@pytest.mark.parametrize(("n_core", "n_spurious"), [(1, 1), (1, 20), (10, 10), (200, 300)])
def test_auc_interval_has_width_at_perfect_separation(n_core, n_spurious):
    core = np.arange(n_core + n_spurious) < n_core
    auc, low, high = auc_of(core.astype(float), core)
    assert (auc, high) == (1.0, 1.0)
    assert 0.0 < low < 1.0
    turned = auc_of(-core.astype(float), core)
    assert turned == pytest.approx((0.0, 0.0, 1.0 - low))


def test_auc_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    core = np.arange(20) < 8
    truth = 0.8555778  # P(N(1.5, 1) > N(0, 1))
    covered = 0
    for _ in range(400):
        _, low, high = auc_of(rng.normal(size=20) + 1.5 * core, core)
        covered += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.99
