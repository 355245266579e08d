"""Propagation against dense scikit-learn, its rules, and its trust."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.semi_supervised import LabelSpreading

from slim.errors import AnnotationError, ArtifactError, DataError, SettingsError, SlimWarning
from slim.stages.judgements import CORE, SPURIOUS, UNASKED, UNSURE, Judgements
from slim.stages.propagate.label_spreading import JudgedPoints
from slim.stages.propagate.propagate import propagate_answers
from slim.stages.propagate.scores import ClassTrust, Scores
from slim.stages.settings import PropagateSettings


def quietly(*args, **kwargs):
    """Propagate where the warning that scores are not above chance is not the matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlimWarning)
        return propagate_answers(*args, **kwargs)


def one_class(coordinates, answers, gamma=5.0):
    """The scores of images of a single class."""
    y = np.zeros(len(coordinates), dtype=int)
    return quietly(coordinates, y, answers, PropagateSettings("spreading", gamma), class_names=["cat"])


def clustered(n, rng):
    centres = rng.uniform(0, 10, (6, 2))
    return centres[rng.integers(6, size=n)] + rng.normal(0, 0.7, (n, 2))


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


def dense_probabilities(coordinates, answers, gamma):
    """Scikit-learn's probability of core of every image, before the scaling; the constant with one kind."""
    points = z_scored(coordinates)
    labels = np.where(answers <= CORE, answers, -1)
    model = LabelSpreading(kernel="rbf", gamma=gamma, alpha=1e-6, max_iter=30).fit(points, labels)
    return model.predict_proba(points) @ model.classes_


def dense_scores(coordinates, answers, gamma):
    probabilities = dense_probabilities(coordinates, answers, gamma)
    return (probabilities - probabilities.min()) / np.ptp(probabilities)


def small_task(n=60, m=7, seed=0):
    rng = np.random.default_rng(seed)
    coordinates = clustered(n, rng)
    answers = judged_at_random(coordinates, m, rng)
    judged = np.flatnonzero(answers <= CORE)
    return coordinates, answers, JudgedPoints(z_scored(coordinates), judged, answers[judged] == CORE)


# ---- the same as dense scikit-learn ----------------------------------------------------------------------------------


def test_scores_of_each_class_equal_dense_label_spreading_of_that_class():
    rng = np.random.default_rng(0)
    coordinates, y = clustered(600, rng), rng.integers(3, size=600)
    answers = np.full(600, UNASKED)
    for label in range(3):
        answers[y == label] = judged_at_random(coordinates[y == label], 20, rng)
    scores = quietly(coordinates, y, answers, PropagateSettings("spreading", gamma=10), class_names="abc")
    for label in range(3):
        expected = dense_scores(coordinates[y == label], answers[y == label], 10)
        assert scores.values[y == label] == pytest.approx(expected, abs=1e-5)


# ---- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["regression", "spreading"])
@pytest.mark.parametrize(("answer", "score", "kind"), [(SPURIOUS, 0.0, "spurious"), (CORE, 1.0, "core")])
def test_answers_of_one_kind_give_one_score_and_warn(answer, score, kind, method):
    coordinates = np.random.default_rng(0).normal(size=(60, 2))
    answers = np.full(60, UNASKED)
    answers[:5], answers[5] = answer, UNSURE
    with pytest.warns(
        SlimWarning, match=f"'cat' has answers of one kind only.*{kind}.*all its attention scores are {score:.0f}"
    ) as caught:
        scores = propagate_answers(
            coordinates, np.zeros(60, int), answers, PropagateSettings(method), class_names=["cat"]
        )
    assert set(scores.values.tolist()) == {score}
    assert scores.trust[0].verdict == "one kind of answer"
    assert scores.trust[0].auc is scores.trust[0].gamma is scores.trust[0].low is None
    assert caught[0].filename == __file__


def test_class_with_one_kind_of_answer_leaves_other_classes_alone():
    coordinates, y, answers = two_classes()
    with pytest.warns(SlimWarning, match="'dog'.*do not rank its images") as caught:
        scores = propagate_answers(coordinates, y, answers, PropagateSettings("spreading"), class_names=["cat", "dog"])
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
    with pytest.warns(SlimWarning, match="'dog'.*rely on the answers about other classes.*can be trusted") as caught:
        scores = propagate_answers(coordinates, y, answers, class_names=["cat", "dog"])
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
        propagate_answers(coordinates, np.zeros(40, int), np.full(40, answer), class_names=["dog"])


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
        propagate_answers(coordinates, np.zeros(60, int), answers, class_names=["cat"])


@pytest.mark.parametrize("method", ["regression", "spreading"])
@pytest.mark.parametrize(("shape", "n_answers"), [((59, 2), 60), ((60, 2), 59), ((60,), 60), ((60, 2, 2), 60)])
def test_arrays_of_different_images_are_an_error(shape, n_answers, method):
    arrays = np.zeros(shape), np.zeros(60, int), np.zeros(n_answers, int)
    with pytest.raises(DataError, match="same images"):
        propagate_answers(*arrays, PropagateSettings(method), class_names=["cat"])


def test_spreading_takes_the_plane_only():
    with pytest.raises(DataError, match=r"Points \(n, 2\).*Got \(60, 3\)"):
        propagate_answers(
            np.zeros((60, 3)), np.zeros(60, int), np.zeros(60, int), PropagateSettings("spreading"), class_names=["cat"]
        )


@pytest.mark.parametrize(("labels", "names"), [([0, 1, 2], "ab"), ([0, 0, 2], "abc"), ([0, -1, 1], "ab")])
def test_labels_that_do_not_fit_the_class_names_are_an_error(labels, names):
    with pytest.raises(DataError, match="Labels must be"):
        propagate_answers(np.zeros((3, 2)), labels, [CORE, SPURIOUS, UNASKED], class_names=names)


@pytest.mark.parametrize("strange", [-1, 4])
def test_answer_code_that_is_none_of_the_four_is_an_error(strange):
    with pytest.raises(AnnotationError, match=str(strange)):
        propagate_answers(np.zeros((2, 2)), [0, 0], [CORE, strange], class_names=["cat"])


@pytest.mark.parametrize("gamma", [0.0, -1.0, np.nan, np.inf])
def test_gamma_out_of_range_is_an_error(gamma):
    with pytest.raises(SettingsError, match="gamma"):
        PropagateSettings(gamma=gamma)


# ---- invariants ------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(4, 80),
    gamma=st.sampled_from([None, 1.0, 50.0]),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 1e4]),
)
def test_scores_lie_in_range_and_follow_the_order_of_images(seed, n, gamma, scale):
    rng = np.random.default_rng(seed)
    coordinates = clustered(n, rng) * [scale, 1.0]
    answers = judged_at_random(coordinates, min(n, 8), rng)
    kept = coordinates.copy(), answers.copy()
    order = rng.permutation(n)
    scores = one_class(coordinates, answers, gamma)
    permuted = one_class(coordinates[order], answers[order], gamma)
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


def test_answers_that_follow_the_space_are_above_chance_without_warning():
    coordinates = np.random.default_rng(0).normal(size=(300, 2))
    answers = np.full(300, UNASKED)
    answers[:30] = coordinates[:30, 1] > 0
    trust = propagate_answers(coordinates, np.zeros(300, int), answers, class_names=["cat"]).trust[0]
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
        scores = propagate_answers(points, y, answers, PropagateSettings(method), class_names=["cat"])
    assert scores.trust[0].verdict == "not above chance"
    assert caught[0].filename == __file__


# ---- answers and artifacts -------------------------------------------------------------------------------------------


def judgements(index, answers):
    """Judgements of cats."""
    frame = {"index": index, "y": 0, "path": "", "answer": answers, "annotator": "ann", "seconds": 0.0}
    return Judgements(pd.DataFrame(frame, columns=list(frame)))


def test_codes_of_judgements_tell_unsure_from_unasked():
    answers = judgements([2, 0, 1], ["unsure", "core", "spurious"]).codes(4)
    assert answers.tolist() == [CORE, SPURIOUS, UNSURE, UNASKED]
    assert answers.dtype == np.int8


def test_codes_without_judgements_are_all_unasked():
    assert judgements([], []).codes(3).tolist() == [UNASKED] * 3


@pytest.mark.parametrize(
    ("index", "answers", "message"),
    [
        ([0], ["maybe"], "'maybe'"),
        ([3], ["core"], "Got position 3"),
        ([-1], ["core"], "Got position -1"),
        ([1, 1], ["core", "core"], "an image twice"),
    ],
)
def test_judgements_of_other_images_or_in_other_words_are_refused(index, answers, message):
    with pytest.raises(AnnotationError, match=message):
        judgements(index, answers).codes(3)


def test_scores_survive_saving_and_loading(tmp_path):
    coordinates, answers, _ = small_task(n=100, m=20)
    y = np.repeat([0, 1], 50)
    answers[y == 1] = np.where(answers[y == 1] == CORE, SPURIOUS, answers[y == 1])
    scores = quietly(coordinates, y, answers, class_names=["cat", "dög"])
    scores.save(tmp_path / "05-scores")
    again = Scores.load(tmp_path / "05-scores")
    assert again.values.dtype == np.float32
    assert again.values.tobytes() == scores.values.tobytes()
    assert again.trust == scores.trust
    assert again.trust[1].auc is None


@pytest.mark.parametrize("missing", ["scores.npy", "record.json"])
def test_loading_a_folder_without_scores_names_the_file(tmp_path, missing):
    coordinates, answers, _ = small_task()
    one_class(coordinates, answers).save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ArtifactError, match=rf"{missing}.*Run the stage that writes it again"):
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
