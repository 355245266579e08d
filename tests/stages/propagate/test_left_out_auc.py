"""Comparisons of judged images without their judgements, against label spreading that never had them."""

from __future__ import annotations

import numpy as np
import pytest

from slim.stages.propagate.auc_interval import auc_with_interval
from slim.stages.propagate.label_spreading import JudgedPoints, core_probabilities
from slim.stages.propagate.left_out_auc import (
    GAMMAS,
    MAX_PAIRS_OUT,
    _merged,
    _smallest,
    _without_own_answer,
    _without_pairs,
    left_out_comparisons,
)

MODULE = "slim.stages.propagate.left_out_auc"


@pytest.fixture
def small_chunks(monkeypatch):
    """Several chunks of few points, the last one not full."""
    monkeypatch.setattr("slim.stages.propagate.label_spreading.CHUNK_ENTRIES", 1000)


def small_task(n=60, m=7, seed=0):
    """A clustered plane with m judgements that go with the first coordinate, more or less."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1.5, 1.5, (6, 2))[rng.integers(6, size=n)] + rng.normal(0, 0.25, (n, 2))
    judged = rng.choice(n, m, replace=False)
    core = points[judged, 0] + 0.5 * rng.normal(size=m) > np.median(points[judged, 0])
    core[:2] = True, False
    return JudgedPoints(points, judged, core)


def line_of_judged(n):
    """The judged points lie on a line, first the spurious ones, then the core ones."""
    return JudgedPoints(np.stack([np.arange(n) / 10, np.zeros(n)], axis=1), np.arange(n), np.arange(n) >= n // 2)


def without(task, gamma, image, *others):
    """Probability of core at a judged image, with its own judgement and those of others removed."""
    kept = np.setdiff1d(np.arange(len(task.judged)), [image, *others])
    probabilities = core_probabilities(JudgedPoints(task.points, task.judged[kept], task.core[kept]), gamma)
    return probabilities[task.judged[image]]


def pick(task, images, unknown=()):
    """The gamma with the smallest log loss over images, each without its own judgement and one of the unknown ones."""
    losses = []
    for gamma in GAMMAS:
        chances = [
            p if task.core[image] else 1 - p
            for image in images
            for others in ([[one] for one in unknown] or [[]])
            for p in [without(task, gamma, image, *others)]
        ]
        losses.append(-np.log(np.clip(chances, 0.01, 0.99)).sum())
    return GAMMAS[int(np.argmax(np.array(losses) <= min(losses) + 1e-9))]


def auc(task, gamma=None):
    return float(left_out_comparisons(task, gamma)[1].mean())


@pytest.mark.parametrize("gamma", GAMMAS)
def test_probabilities_without_own_judgement_equal_label_spreading_without_it(gamma, small_chunks):
    task = small_task(n=300, m=12)
    expected = [without(task, gamma, image) for image in range(12)]
    assert _without_own_answer(task, gamma) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("gamma", [1.0, 20.0])
def test_probabilities_without_pairs_equal_label_spreading_without_both_judgements(gamma, small_chunks):
    task = small_task(n=300, m=12)
    expected = [[without(task, gamma, one, other) for other in range(12)] for one in range(12)]
    assert _without_pairs(task, gamma) == pytest.approx(np.array(expected), abs=1e-9)


@pytest.mark.parametrize("gamma", [1.0, 50.0])
def test_left_out_probabilities_are_exact_where_one_judged_image_outweighs_all_others(gamma):
    points = np.array([[0.0, 0.0], [0.01, 0.0], [5.0, 0.0], [5.01, 0.0], [12.0, 0.0], [12.0, 7.0]])
    task = JudgedPoints(points, np.array([0, 2, 4, 5]), np.array([True, False, True, False]))
    own = [without(task, gamma, image) for image in range(4)]
    pairs = [[without(task, gamma, one, other) for other in range(4)] for one in range(4)]
    assert _without_own_answer(task, gamma) == pytest.approx(own, abs=1e-12)
    assert _without_pairs(task, gamma) == pytest.approx(np.array(pairs), abs=1e-12)


@pytest.mark.parametrize("seed", [3, 8])  # where it matters which losses pick gamma
@pytest.mark.parametrize("gamma", [None, 5.0])
def test_each_pair_is_compared_without_its_judgements(seed, gamma):
    task = small_task(n=50, m=6, seed=seed)
    used, found = left_out_comparisons(task, gamma)
    assert used == (gamma or pick(task, range(6)))
    core, spurious = np.flatnonzero(task.core), np.flatnonzero(~task.core)
    assert found.shape == (len(core), len(spurious))
    for i, one in enumerate(core):
        for j, other in enumerate(spurious):
            picked = gamma or pick(task, np.setdiff1d(range(6), [one, other]), [one, other])
            difference = without(task, picked, one, other) - without(task, picked, other, one)
            assert found[i, j] == (1 + np.sign(difference.round(9))) / 2


@pytest.mark.parametrize("gamma", [None, 5.0])
def test_above_the_limit_each_judged_image_loses_only_its_own_judgement(gamma, monkeypatch):
    monkeypatch.setattr(f"{MODULE}.MAX_PAIRS_OUT", 7)
    task = small_task(n=50, m=8, seed=1)
    own = np.array([without(task, gamma or pick(task, np.setdiff1d(range(8), [image])), image) for image in range(8)])
    expected = own[task.core][:, None] > own[~task.core]
    assert left_out_comparisons(task, gamma)[1].tolist() == expected.astype(float).tolist()


@pytest.mark.parametrize(("m", "pairs_are_left_out"), [(MAX_PAIRS_OUT, True), (MAX_PAIRS_OUT + 1, False)])
def test_pairs_are_left_out_of_up_to_sixty_judged_images(m, pairs_are_left_out, monkeypatch):
    called = []
    monkeypatch.setattr(f"{MODULE}._without_pairs", lambda *_: called.append(1) or np.full((m, m), 0.5))
    left_out_comparisons(line_of_judged(m), 5.0)
    assert bool(called) == pairs_are_left_out


def test_gamma_is_the_smaller_one_when_all_do_as_well():
    points = np.repeat([[-1.13, 0.0], [1.13, 0.0]], 50, axis=0)
    task = JudgedPoints(points, np.array([0, 1, 2, 50, 51, 52]), np.array([True] * 3 + [False] * 3))
    assert [auc(task, gamma) for gamma in GAMMAS[1:]] == [1.0] * 5
    assert (
        left_out_comparisons(task, None)[0] == 2.0
    )  # at 1 a left-out image is less than 99 % sure, but more than 98 %


def test_losses_that_differ_by_round_off_tie():
    assert _smallest(np.array([0.1 + 0.2, 0.3, 0.2999])) == 2
    assert _smallest(np.array([0.1 + 0.2, 0.3, 0.4])) == 0


def test_picked_gamma_follows_the_scale_on_which_judgements_change():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1.7, 1.7, (1000, 2))
    wavy = np.sin(points[:200] * 5.0).prod(axis=1) > 0
    assert left_out_comparisons(JudgedPoints(points, np.arange(200), wavy), None)[0] >= 20
    smooth = points[:200, 0] + rng.normal(0, 1.4, 200) > 0
    assert left_out_comparisons(JudgedPoints(points, np.arange(200), smooth), None)[0] <= 5


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("gamma", [0.5, 8.0])
def test_many_points_are_merged_by_quarters_of_the_kernels_width(gamma, axis):
    quarter = 1 / np.sqrt(2 * gamma) / 4
    points = np.zeros((6000, 2))
    points[:, axis] = (np.arange(6000) + 0.5) / 6000 * 40 * quarter
    merged, counts = _merged(points, gamma)
    assert len(merged) == 40
    assert np.diff(merged[:, axis]) == pytest.approx(quarter, rel=0.01)
    assert counts.sum() == 6000
    assert counts @ merged / 6000 == pytest.approx(points.mean(axis=0))


def test_points_are_merged_only_above_the_limit(monkeypatch):
    monkeypatch.setattr(f"{MODULE}.MAX_POINTS", 3)
    assert _merged(np.zeros((3, 2)), 1.0)[1].tolist() == [1.0, 1.0, 1.0]
    assert _merged(np.zeros((4, 2)), 1.0)[1].tolist() == [4.0]


def test_merged_points_give_nearly_the_same_probabilities_without_pairs(monkeypatch):
    task = small_task(n=4000, m=20)
    exact = _without_pairs(task, 5.0)
    monkeypatch.setattr(f"{MODULE}.MAX_POINTS", 1000)
    assert np.abs(_without_pairs(task, 5.0) - exact).max() < 0.02


@pytest.mark.parametrize("gamma", [None, 5.0])
@pytest.mark.parametrize("m", [2, 3, 10])
@pytest.mark.parametrize("rare", [True, False])
def test_single_judgement_of_a_kind_leaves_judgements_that_tell_nothing(rare, m, gamma):
    points = np.random.default_rng(0).normal(size=(100, 2))
    core = np.full(m, not rare)
    core[0] = rare
    assert auc(JudgedPoints(points, np.arange(m), core), gamma) == 0.5


@pytest.mark.parametrize("n_judged", [12, 24])
def test_auc_is_fair_where_judgements_and_space_are_unrelated(n_judged):
    """Leaving out one image at a time gave 0.3 here."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(60):
        points, core = rng.normal(size=(80, 2)), rng.permutation(n_judged) < n_judged // 3
        found.append(auc(JudgedPoints(points, np.arange(n_judged), core)))
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


def test_judgements_unrelated_to_the_space_are_rarely_above_chance():
    rng = np.random.default_rng(0)
    above = 0
    for _ in range(40):
        points, core = rng.normal(size=(60, 2)), rng.permutation(20) < 10
        _, low, _ = auc_with_interval(left_out_comparisons(JudgedPoints(points, np.arange(20), core), None)[1])
        above += low > 0.5
    assert above <= 3


@pytest.mark.parametrize("m", [30, 150])
def test_judgements_that_follow_the_space_are_above_chance(m):
    points = np.random.default_rng(0).normal(size=(500, 2))
    task = JudgedPoints(points, np.arange(m), points[:m, 1] > 0)
    found, low, high = auc_with_interval(left_out_comparisons(task, None)[1])
    assert 0.5 < low < found <= high <= 1.0
