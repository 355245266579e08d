"""Propagation against dense scikit-learn, its rules, and its trust."""

from __future__ import annotations

import json
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.semi_supervised import LabelSpreading

from slim.errors import AnnotationError, ArtifactError, DataError, SettingsError, SlimWarning
from slim.propagation import (
    CORE,
    SPURIOUS,
    UNASKED,
    UNSURE,
    ClassTrust,
    PropagateSettings,
    Scores,
    answers_array,
    propagate,
)
from slim.spreading import JudgedPoints
from slim.trust import (
    GAMMAS,
    _comparisons,
    _thinned,
    _without_own_answer,
    _without_pairs,
    auc_with_interval,
    left_out_comparisons,
)


def quietly(*args, **kwargs):
    """Propagate where the warning that scores are not above chance is not the matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlimWarning)
        return propagate(*args, **kwargs)


def one_class(coordinates, answers, gamma=5.0, alpha=1e-6):
    """The scores of images of a single class."""
    y = np.zeros(len(coordinates), dtype=int)
    return quietly(coordinates, y, answers, PropagateSettings("spreading", gamma, alpha), class_names=["cat"])


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


def judged_at_random(coordinates, m, rng, noise=0.5):
    """m answers that go with the first coordinate, more or less, both kinds among them."""
    n = len(coordinates)
    judged = rng.choice(n, m, replace=False)
    first = coordinates[:, 0]
    core = first[judged] + noise * first.std() * rng.normal(size=m) > np.median(first[judged])
    core[:2] = True, False
    answers = np.full(n, UNASKED, dtype=np.int8)
    answers[judged] = np.where(core, CORE, SPURIOUS)
    return answers


def z_scored(coordinates):
    return (coordinates - coordinates.mean(axis=0)) / coordinates.std(axis=0)


def dense_probabilities(coordinates, answers, gamma, alpha):
    """Scikit-learn's probability of core of every image, before the scaling; the constant with one kind."""
    points = z_scored(coordinates)
    labels = np.where(answers <= CORE, answers, -1)
    model = LabelSpreading(kernel="rbf", gamma=gamma, alpha=alpha, max_iter=30).fit(points, labels)
    return model.predict_proba(points) @ model.classes_


def dense_scores(coordinates, answers, gamma, alpha):
    probabilities = dense_probabilities(coordinates, answers, gamma, alpha)
    return (probabilities - probabilities.min()) / np.ptp(probabilities)


def small_task(n=60, m=7, seed=0):
    rng = np.random.default_rng(seed)
    coordinates = clustered(n, rng)
    answers = judged_at_random(coordinates, m, rng)
    judged = np.flatnonzero(answers <= CORE)
    return coordinates, answers, JudgedPoints(z_scored(coordinates), judged, answers[judged] == CORE)


# ---- the same as dense scikit-learn ----------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1e-6, 0.2])
@pytest.mark.parametrize("make", [uniform, clustered, umap_like])
@pytest.mark.parametrize(("n", "m", "gamma"), [(300, 8, 1), (300, 8, 10), (300, 8, 50), (1500, 40, 10)])
def test_scores_equal_dense_label_spreading(n, m, gamma, make, alpha):
    rng = np.random.default_rng(0)
    coordinates = make(n, rng)
    answers = judged_at_random(coordinates, m, rng)
    scores = one_class(coordinates, answers, gamma, alpha)
    assert scores.values == pytest.approx(dense_scores(coordinates, answers, gamma, alpha), abs=1e-3)


@pytest.mark.parametrize("alpha", [1e-6, 0.2])
def test_scores_of_many_images_equal_dense_label_spreading(alpha):
    rng = np.random.default_rng(3)
    coordinates = umap_like(2000, rng)
    answers = judged_at_random(coordinates, 20, rng)
    scores = one_class(coordinates, answers, 10.0, alpha)
    assert scores.values == pytest.approx(dense_scores(coordinates, answers, 10.0, alpha), abs=1e-5)


def test_scores_of_each_class_equal_dense_label_spreading_of_that_class():
    rng = np.random.default_rng(0)
    coordinates, y = clustered(600, rng), rng.integers(3, size=600)
    answers = np.full(600, UNASKED)
    for label in range(3):
        answers[y == label] = judged_at_random(coordinates[y == label], 20, rng)
    scores = quietly(coordinates, y, answers, PropagateSettings("spreading", gamma=10), class_names="abc")
    for label in range(3):
        expected = dense_scores(coordinates[y == label], answers[y == label], 10, 1e-6)
        assert scores.values[y == label] == pytest.approx(expected, abs=1e-5)


def test_scores_with_few_outliers_equal_dense_label_spreading():
    rng = np.random.default_rng(0)
    coordinates = rng.normal(size=(500, 2))
    coordinates[:4] = [[9, 0], [-9, 0.5], [0, 9.5], [11, 0.2]]
    answers = judged_at_random(coordinates[4:], 30, rng)
    answers = np.concatenate([np.full(4, UNASKED), answers])
    for alpha in (1e-6, 0.2):
        expected = dense_scores(coordinates, answers, 5.0, alpha)
        assert one_class(coordinates, answers, 5.0, alpha).values == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("alpha", [1e-6, 0.2])
def test_image_far_from_every_judged_one_goes_with_the_nearest(alpha):
    coordinates = np.concatenate([np.random.default_rng(0).normal(size=(400, 2)), [[60.0, 0.0], [-60.0, 0.0]]])
    answers = np.full(402, UNASKED)
    answers[:40] = coordinates[:40, 0] > 0
    scores = one_class(coordinates, answers, gamma=50.0, alpha=alpha)
    assert scores.values[-2:].tolist() == pytest.approx([1.0, 0.0], abs=1e-3)


def test_island_that_no_answer_reaches_goes_with_the_nearest_island():
    rng = np.random.default_rng(0)
    sizes = [0.0, 10.0, 13.0]
    coordinates = np.concatenate([rng.normal(0, 0.2, (300, 2)) + np.array([shift, 0.0]) for shift in sizes])
    answers = np.full(900, UNASKED)
    answers[:10], answers[300:310] = SPURIOUS, CORE
    scores = one_class(coordinates, answers, gamma=50.0, alpha=0.2)
    assert scores.values[600:].min() > 0.99
    assert scores.values[:300].max() < 0.01


def test_propagating_needs_no_matrix_of_all_pairs():
    rng = np.random.default_rng(0)
    coordinates = umap_like(10000, rng)
    answers = judged_at_random(coordinates, 20, rng, noise=0.1)
    tracemalloc.start()
    scores = one_class(coordinates, answers, gamma=10.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(scores) == 10000
    assert peak < 20e6


# ---- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["regression", "spreading"])
@pytest.mark.parametrize(("answer", "score", "kind"), [(SPURIOUS, 0.0, "spurious"), (CORE, 1.0, "core")])
def test_answers_of_one_kind_give_one_score_and_warn(answer, score, kind, method):
    coordinates = np.random.default_rng(0).normal(size=(60, 2))
    answers = np.full(60, UNASKED)
    answers[:5], answers[5] = answer, UNSURE
    with pytest.warns(SlimWarning, match=f"'cat'.*{kind} only") as caught:
        scores = propagate(coordinates, np.zeros(60, int), answers, PropagateSettings(method), class_names=["cat"])
    assert set(scores.values.tolist()) == {score}
    assert scores.trust[0].verdict == "one kind of answer"
    assert scores.trust[0].auc is scores.trust[0].gamma is scores.trust[0].low is None
    assert caught[0].filename == __file__


def test_class_with_one_kind_of_answer_leaves_other_classes_alone():
    coordinates, y, answers = two_classes()
    with pytest.warns(SlimWarning, match="'dog'.*to rank its images") as caught:
        scores = propagate(coordinates, y, answers, PropagateSettings("spreading"), class_names=["cat", "dog"])
    assert len(caught) == 1
    assert scores.values[y == 0].max() == 1.0
    assert scores.values[y == 1].max() == 0.0
    assert [one.verdict for one in scores.trust] == ["above chance", "one kind of answer"]


def two_classes():
    """Of the first all kinds of answers, of the second spurious ones only."""
    rng = np.random.default_rng(0)
    coordinates, y = rng.normal(size=(400, 2)), np.arange(400) % 2
    answers = np.full(400, UNASKED)
    answers[:60] = np.where(y[:60] == 0, coordinates[:60, 0] > 0, SPURIOUS)
    return coordinates, y, answers


def test_answers_about_one_class_rank_the_others_by_regression():
    coordinates, y, answers = two_classes()
    with pytest.warns(SlimWarning, match="'dog'.*can be trusted.*rest on the answers about other classes") as caught:
        scores = propagate(coordinates, y, answers, class_names=["cat", "dog"])
    assert len(caught) == 1
    for label in (0, 1):
        assert np.corrcoef(scores.values[y == label], coordinates[y == label, 0])[0, 1] > 0.85
        assert (scores.values[y == label].min(), scores.values[y == label].max()) == (0, 1)
    assert [one.verdict for one in scores.trust] == ["above chance", "one kind of answer"]
    assert scores.trust[1].auc is None


def test_regression_takes_points_of_any_number_of_dimensions():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 20)) / np.sqrt(20)
    answers = np.full(300, UNASKED)
    answers[:60] = points[:60, 3] > 0
    scores = quietly(points, np.zeros(300, int), answers, class_names=["cat"])
    true = roc_auc_score(points[60:, 3] > 0, scores.values[60:])
    assert true > 0.85
    assert scores.trust[0].low <= true <= scores.trust[0].high


@pytest.mark.parametrize("answer", [UNASKED, UNSURE])
def test_class_without_usable_answer_is_an_error_that_names_class_and_command(answer):
    coordinates = np.random.default_rng(0).normal(size=(40, 2))
    with pytest.raises(AnnotationError, match=r"'dog'.*slim annotate RUN"):
        propagate(coordinates, np.zeros(40, int), np.full(40, answer), class_names=["dog"])


def test_unsure_answers_are_counted_apart_but_do_not_move_scores():
    coordinates, answers, _ = small_task(n=200, m=20)
    unsure = answers.copy()
    unsure[np.flatnonzero(answers == UNASKED)[:9]] = UNSURE
    plain, with_unsure = one_class(coordinates, answers), one_class(coordinates, unsure)
    assert np.array_equal(plain.values, with_unsure.values)
    assert (plain.trust[0].n_unsure, plain.trust[0].n_unasked) == (0, 180)
    assert (with_unsure.trust[0].n_unsure, with_unsure.trust[0].n_unasked) == (9, 171)


def test_images_that_nothing_tells_apart_all_score_one_half():
    answers = np.array([CORE, SPURIOUS, CORE, SPURIOUS, UNASKED])
    assert one_class(np.full((5, 2), 0.1), answers).values.tolist() == [0.5] * 5


def test_constant_coordinate_is_ignored():
    coordinates, answers, _ = small_task(n=200, m=20)
    on_line = coordinates * [1.0, 0.0] + [0.0, 0.1]
    expected = coordinates * [1.0, 0.0] + [0.0, 7.0]
    assert one_class(on_line, answers).values == pytest.approx(one_class(expected, answers).values, abs=1e-6)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_coordinates_that_are_not_finite_are_an_error(broken):
    coordinates, answers, _ = small_task()
    coordinates[3, 1] = broken
    with pytest.raises(DataError, match="1 of 60"):
        propagate(coordinates, np.zeros(60, int), answers, class_names=["cat"])


@pytest.mark.parametrize("method", ["regression", "spreading"])
@pytest.mark.parametrize(("shape", "n_answers"), [((59, 2), 60), ((60, 2), 59), ((60,), 60), ((60, 2, 2), 60)])
def test_arrays_of_different_images_are_an_error(shape, n_answers, method):
    arrays = np.zeros(shape), np.zeros(60, int), np.zeros(n_answers, int)
    with pytest.raises(DataError, match="same images"):
        propagate(*arrays, PropagateSettings(method), class_names=["cat"])


def test_spreading_takes_the_plane_only():
    with pytest.raises(DataError, match=r"Points \(n, 2\).*Got \(60, 3\)"):
        propagate(
            np.zeros((60, 3)), np.zeros(60, int), np.zeros(60, int), PropagateSettings("spreading"), class_names=["cat"]
        )


@pytest.mark.parametrize(("labels", "names"), [([0, 1, 2], "ab"), ([0, 0, 2], "abc"), ([0, -1, 1], "ab")])
def test_labels_that_do_not_fit_the_class_names_are_an_error(labels, names):
    with pytest.raises(DataError, match="Labels must be"):
        propagate(np.zeros((3, 2)), labels, [CORE, SPURIOUS, UNASKED], class_names=names)


@pytest.mark.parametrize("strange", [-1, 4])
def test_answer_code_that_is_none_of_the_four_is_an_error(strange):
    with pytest.raises(AnnotationError, match=str(strange)):
        propagate(np.zeros((2, 2)), [0, 0], [CORE, strange], class_names=["cat"])


@pytest.mark.parametrize("gamma", [0.0, -1.0, np.nan, np.inf])
def test_gamma_out_of_range_is_an_error(gamma):
    with pytest.raises(SettingsError, match="gamma"):
        PropagateSettings(gamma=gamma)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, np.nan])
def test_alpha_out_of_range_is_an_error(alpha):
    with pytest.raises(SettingsError, match="alpha"):
        PropagateSettings(alpha=alpha)


# ---- invariants ------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(4, 80),
    gamma=st.sampled_from([None, 1.0, 50.0]),
    alpha=st.sampled_from([1e-6, 0.2]),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 1e4]),
)
def test_scores_lie_in_range_and_follow_the_order_of_images(seed, n, gamma, alpha, scale):
    rng = np.random.default_rng(seed)
    coordinates = clustered(n, rng) * [scale, 1.0]
    answers = judged_at_random(coordinates, min(n, 8), rng)
    kept = coordinates.copy(), answers.copy()
    order = rng.permutation(n)
    scores = one_class(coordinates, answers, gamma, alpha)
    permuted = one_class(coordinates[order], answers[order], gamma, alpha)
    assert scores.values.min() >= 0.0
    assert scores.values.max() <= 1.0
    assert permuted.values == pytest.approx(scores.values[order], abs=1e-5)
    assert permuted.trust[0].auc == pytest.approx(scores.trust[0].auc)
    assert np.array_equal(coordinates, kept[0])
    assert np.array_equal(answers, kept[1])


def test_propagating_twice_gives_the_same_bytes():
    coordinates, answers, _ = small_task(n=1500, m=20)
    first, second = one_class(coordinates, answers, None), one_class(coordinates, answers, None)
    assert first.values.tobytes() == second.values.tobytes()
    assert first.trust == second.trust


def test_swapping_core_and_spurious_turns_scores_around():
    coordinates, answers, _ = small_task(n=300, m=20)
    swapped = np.where(answers <= CORE, 1 - answers, answers)
    assert one_class(coordinates, swapped).values == pytest.approx(1 - one_class(coordinates, answers).values, abs=1e-5)


def test_scores_do_not_change_with_the_unit_of_the_space():
    coordinates, answers, _ = small_task(n=300, m=20)
    assert one_class(coordinates * [100, 0.01] + 5, answers).values == pytest.approx(
        one_class(coordinates, answers).values, abs=1e-5
    )


# ---- trust -----------------------------------------------------------------------------------------------------------


def dense_without(coordinates, answers, image, others, gamma, alpha=1e-6):
    """Scikit-learn's probability of core at an image when it and others have no answer."""
    kept = answers.copy()
    kept[[image, *others]] = UNASKED
    return dense_probabilities(coordinates, kept, gamma, alpha)[image]


@pytest.mark.parametrize("gamma", GAMMAS)
def test_left_out_probabilities_equal_dense_label_spreading_without_that_answer(gamma):
    coordinates, answers, task = small_task(n=150, m=12)
    expected = [dense_without(coordinates, answers, image, [], gamma) for image in task.judged]
    assert _without_own_answer(task, gamma, 1e-6) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("gamma", [1.0, 20.0])
def test_probabilities_without_pairs_equal_dense_label_spreading_without_both_answers(gamma):
    coordinates, answers, task = small_task(n=100, m=6)
    expected = [
        [dense_without(coordinates, answers, one, [other], gamma) for other in task.judged] for one in task.judged
    ]
    assert _without_pairs(task, gamma, 1e-6) == pytest.approx(np.array(expected), abs=1e-9)


def dense_pick(coordinates, answers, judged, unknown):
    """The gamma with the smallest log loss over judged images, each without its answer and each of the unknown ones."""
    losses = []
    for gamma in GAMMAS:
        chances = [
            p if answers[image] == CORE else 1 - p
            for image in judged
            for others in unknown
            for p in [dense_without(coordinates, answers, image, others, gamma)]
        ]
        losses.append(-np.log(np.clip(chances, 0.01, 0.99)).sum())
    return GAMMAS[int(np.argmax(np.array(losses) <= min(losses) + 1e-9))]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("gamma", [None, 5.0])
def test_each_pair_is_compared_without_its_answers(seed, gamma):
    coordinates, answers, task = small_task(n=50, m=6, seed=seed)
    used, comparisons = left_out_comparisons(task, gamma, 1e-6)
    assert used == (gamma or dense_pick(coordinates, answers, task.judged, [[]]))
    core, spurious = task.judged[task.core], task.judged[~task.core]
    assert comparisons.shape == (len(core), len(spurious))
    for i, one in enumerate(core):
        for j, other in enumerate(spurious):
            rest = [image for image in task.judged if image not in (one, other)]
            picked = gamma or dense_pick(coordinates, answers, rest, [[one], [other]])
            mine = dense_without(coordinates, answers, one, [other], picked)
            its = dense_without(coordinates, answers, other, [one], picked)
            assert comparisons[i, j] == (mine > its + 1e-9) + 0.5 * (abs(mine - its) <= 1e-9)


@pytest.mark.parametrize("n_judged", [12, 24])
def test_reported_auc_is_fair_where_answers_and_space_are_unrelated(n_judged):
    """Leaving out one image at a time gave 0.3 here."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(60):
        answers = np.full(80, UNASKED)
        answers[:n_judged] = rng.permutation(n_judged) < n_judged // 3
        trust = quietly(rng.normal(size=(80, 2)), np.zeros(80, int), answers, class_names=["cat"]).trust[0]
        found.append(trust.auc)
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


def test_gamma_is_the_smaller_one_when_all_do_as_well():
    coordinates = np.repeat([[0.0, 0.0], [1.0, 0.0]], 50, axis=0) * 1e3
    answers = np.full(100, UNASKED)
    answers[[0, 1, 2, 50, 51, 52]] = [CORE] * 3 + [SPURIOUS] * 3
    gammas = [one_class(coordinates, answers, gamma).trust[0].auc for gamma in GAMMAS[1:]]
    assert gammas == [1.0] * 5
    assert one_class(coordinates, answers, None).trust[0].gamma == 2.0  # at 1 a left-out image is less than 99 % sure


def test_picked_gamma_follows_the_scale_on_which_answers_change():
    rng = np.random.default_rng(0)
    coordinates = uniform(1000, rng)
    answers = np.full(1000, UNASKED)
    answers[:200] = np.sin(coordinates[:200] * 2.0).prod(axis=1) > 0
    assert one_class(coordinates, answers, None).trust[0].gamma >= 20
    answers[:200] = coordinates[:200, 0] + rng.normal(0, 4, 200) > 5
    assert one_class(coordinates, answers, None).trust[0].gamma <= 5


def test_merged_points_give_nearly_the_same_probabilities_without_pairs(monkeypatch):
    _, _, task = small_task(n=4000, m=20)
    exact = _without_pairs(task, 5.0, 1e-6)
    monkeypatch.setattr("slim.trust.THIN_ABOVE", 1000)
    points, counts = _thinned(np.delete(task.points, task.judged, axis=0), 5.0)
    assert len(points) < 3000
    assert counts.sum() == pytest.approx(3980)
    assert np.abs(_without_pairs(task, 5.0, 1e-6) - exact).max() < 0.02


def test_many_judged_images_are_left_out_too():
    rng = np.random.default_rng(0)
    coordinates = clustered(500, rng)
    trust = one_class(coordinates, judged_at_random(coordinates, 150, rng), None).trust[0]
    assert trust.verdict == "above chance"
    assert trust.auc > 0.7


def test_answers_that_follow_the_space_are_above_chance_without_warning():
    coordinates = np.random.default_rng(0).normal(size=(300, 2))
    answers = np.full(300, UNASKED)
    answers[:30] = coordinates[:30, 1] > 0
    trust = propagate(coordinates, np.zeros(300, int), answers, class_names=["cat"]).trust[0]
    assert trust.verdict == "above chance"
    assert 0.5 < trust.low < trust.auc <= trust.high <= 1.0


@pytest.mark.parametrize("method", ["regression", "spreading"])
def test_answers_unrelated_to_the_space_are_not_above_chance_and_warn(method):
    rng = np.random.default_rng(0)
    answers = np.full(300, UNASKED)
    answers[:40] = rng.permutation(40) < 20
    with pytest.warns(
        SlimWarning, match=r"'cat'.*0\.5 is chance.*slim annotate RUN --budget.*slim run RUN --train.layer"
    ) as caught:
        points, y = rng.normal(size=(300, 2)), np.zeros(300, int)
        scores = propagate(points, y, answers, PropagateSettings(method), class_names=["cat"])
    assert scores.trust[0].verdict == "not above chance"
    assert caught[0].filename == __file__


def test_answers_unrelated_to_the_space_are_rarely_called_above_chance():
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(40):
        answers = np.full(60, UNASKED)
        answers[:20] = rng.permutation(20) < 10
        called += one_class(rng.normal(size=(60, 2)), answers, None).trust[0].verdict == "above chance"
    assert called <= 3


@pytest.mark.parametrize("gamma", [None, 5.0])
@pytest.mark.parametrize("m", [2, 3, 10])
@pytest.mark.parametrize("rare", [CORE, SPURIOUS])
def test_single_answer_of_a_kind_leaves_answers_that_tell_nothing(rare, m, gamma):
    coordinates = np.random.default_rng(0).normal(size=(100, 2))
    answers = np.full(100, UNASKED)
    answers[:m], answers[0] = 1 - rare, rare
    trust = one_class(coordinates, answers, gamma).trust[0]
    assert trust.verdict == "not above chance"
    assert trust.auc == 0.5


# ---- AUC and its interval --------------------------------------------------------------------------------------------


def auc_of(scores, core):
    """AUC and interval of scores that no pair shares."""
    return auc_with_interval(_comparisons(scores[core][:, None], scores[~core][None, :]), widening=1.0)


def test_auc_counts_ties_half():
    auc, _, _ = auc_of(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    assert auc == (1 + 1 + 0.5 + 1) / 4


def test_auc_interval_solves_newcombe_method_five():
    core = np.arange(30) < 12
    scores = np.random.default_rng(0).normal(size=30) + core
    auc, low, high = auc_of(scores, core)
    for bound in (low, high):
        excess = (30 / 2 - 1) * ((1 - bound) / (2 - bound) + bound / (1 + bound))
        variance = bound * (1 - bound) * (1 + excess) / (12 * 18)
        assert abs(auc - bound) == pytest.approx(1.959964 * np.sqrt(variance))
    assert low < auc < high


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


# ---- answers and artifacts -------------------------------------------------------------------------------------------


def test_answers_array_tells_unsure_from_unasked():
    answers = answers_array(4, np.array([2, 0, 1]), np.array(["unsure", "core", "spurious"]))
    assert answers.tolist() == [CORE, SPURIOUS, UNSURE, UNASKED]
    assert answers.dtype == np.int8


def test_answers_array_without_judgements_is_all_unasked():
    assert answers_array(3, [], []).tolist() == [UNASKED] * 3


@pytest.mark.parametrize(
    ("index", "answers", "message"),
    [
        ([0], ["maybe"], "'maybe'"),
        ([3], ["core"], "Got 3"),
        ([-1], ["core"], "Got -1"),
        ([1, 1], ["core", "core"], "image 1 twice"),
        ([0, 1], ["core"], "1 answers"),
        ([0.5], ["core"], "whole numbers"),
    ],
)
def test_answers_array_refuses_what_it_cannot_read(index, answers, message):
    with pytest.raises(AnnotationError, match=message):
        answers_array(3, index, answers)


def test_scores_survive_saving_and_loading(tmp_path):
    coordinates, answers, _ = small_task(n=100, m=20)
    y = np.repeat([0, 1], 50)
    answers[y == 1] = np.where(answers[y == 1] == CORE, SPURIOUS, answers[y == 1])
    scores = quietly(coordinates, y, answers, class_names=["cat", "dög"])
    scores.save(tmp_path / "5-propagation")
    again = Scores.load(tmp_path / "5-propagation")
    assert again.values.dtype == np.float32
    assert again.values.tobytes() == scores.values.tobytes()
    assert again.trust == scores.trust
    assert json.loads((tmp_path / "5-propagation" / "trust.json").read_text())["classes"][1]["auc"] is None


@pytest.mark.parametrize("missing", ["scores.npy", "trust.json"])
def test_loading_a_folder_without_scores_names_the_command(tmp_path, missing):
    coordinates, answers, _ = small_task()
    one_class(coordinates, answers).save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ArtifactError, match=rf"{missing}.*slim propagate RUN"):
        Scores.load(tmp_path)


def test_scores_print_as_a_table():
    known = ClassTrust("landbird", 12, 7, 1, 180, 10.0, 0.8437, 0.61, 0.95, "above chance")
    constant = ClassTrust("waterbird", 0, 3, 0, 9, None, None, None, None, "one kind of answer")
    assert repr(Scores(np.zeros(212, dtype=np.float32), (known, constant))).splitlines() == [
        "Scores of 212 images",
        "class      core  spurious  unsure  unasked  gamma  AUC (95% interval)   verdict",
        "landbird   12    7         1       180      10     0.84 (0.61 to 0.95)  above chance",
        "waterbird  0     3         0       9        -      -                    one kind of answer",
    ]
