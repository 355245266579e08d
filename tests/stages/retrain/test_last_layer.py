"""The last layer: tuned without groups, of any number of classes, and better for a balanced subset."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from slim.errors import DataError, SettingsError
from slim.stages.retrain import last_layer
from slim.stages.retrain.last_layer import STRENGTHS, Head, HeldOut, fit_head, fit_weighted_head
from slim.stages.settings import RetrainSettings

pytestmark = pytest.mark.usefixtures("small_and_quiet")

GIVEN = RetrainSettings(strength=1.0)


def drawn(counts: dict[tuple[int, int], int], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features in which the place is easier to see than the label; labels; places."""
    rng = np.random.default_rng(seed)
    y, place = np.repeat(list(counts), list(counts.values()), axis=0).T
    features = rng.normal(size=(len(y), 6))
    features[:, 0] += 2.0 * (2 * y - 1)
    features[:, 1] += 4.0 * (2 * place - 1)
    return features, y.astype(np.int64), place.astype(np.int64)


BALANCED = {(0, 0): 30, (0, 1): 30, (1, 0): 30, (1, 1): 30}
SPURIOUS = {(0, 0): 58, (0, 1): 2, (1, 0): 2, (1, 1): 58}
TEST = drawn(dict.fromkeys(BALANCED, 400), seed=1)


def worst(head: Head, data: tuple[np.ndarray, np.ndarray, np.ndarray] = TEST) -> float:
    features, y, place = data
    right = head.predict(features) == y
    return min(right[(y == k) & (place == j)].mean() for k in (0, 1) for j in (0, 1))


def held_out(seed: int = 2) -> HeldOut:
    features, y, place = drawn(dict.fromkeys(BALANCED, 25), seed)
    return HeldOut(features, y, place)


@pytest.mark.parametrize("settings", [GIVEN, RetrainSettings(refits=3)], ids=["given", "tuned"])
def test_a_balanced_subset_gives_a_better_worst_cell_than_a_spurious_one_of_the_same_size(
    settings: RetrainSettings,
) -> None:
    heads = [fit_head(*drawn(counts), held_out(), settings, n_classes=2, seed=0) for counts in (BALANCED, SPURIOUS)]
    assert worst(heads[0]) > 0.93
    assert worst(heads[0]) > worst(heads[1]) + 0.05


def held_out_rights(features: np.ndarray, y: np.ndarray, other: HeldOut) -> list[np.ndarray]:
    """For each strength that is tried, which held-out images are right."""
    mean, std = features.mean(0), features.std(0)
    rights = []
    for strength in STRENGTHS["l1"]:
        fit = LogisticRegression(l1_ratio=1.0, C=strength, solver="liblinear", tol=1e-3, max_iter=500, random_state=0)
        rights.append(fit.fit((features - mean) / std, y).predict((other.features - mean) / std) == other.y)
    return rights


def test_tuning_takes_the_strength_of_the_best_worst_held_out_cell_and_needs_no_groups() -> None:
    features, y, place = drawn(SPURIOUS)
    other = held_out()
    head = fit_head(features, y, place, other, RetrainSettings(refits=1), n_classes=2)
    accuracies = [
        min(right[(other.y == k) & (other.cells == j)].mean() for k in (0, 1) for j in (0, 1))
        for right in held_out_rights(features, y, other)
    ]
    assert len(set(accuracies)) > 1
    assert head.held_out_accuracy == pytest.approx(max(accuracies))
    assert head.strength == STRENGTHS["l1"][int(np.argmax(accuracies))]


def test_a_cell_that_occurs_in_two_classes_counts_as_two_in_tuning() -> None:
    features, y, place = drawn(SPURIOUS)
    other = replace(held_out(), cells=np.zeros(100, np.int64))
    other.features[other.y == 1, 0] -= 1  # class 1 is the harder one
    head = fit_head(features, y, place, other, RetrainSettings(refits=1), n_classes=2)
    rights = held_out_rights(features, y, other)
    expected = max(min(right[other.y == k].mean() for k in (0, 1)) for right in rights)
    assert head.held_out_accuracy == pytest.approx(expected)
    assert expected < max(right.mean() for right in rights)


def test_equal_accuracies_give_the_stronger_penalty() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 20)
    features = rng.normal(size=(40, 3)) + 30 * y[:, None]
    other = HeldOut(features, y, y * 0)
    head = fit_head(features, y, y, other, RetrainSettings(refits=1), n_classes=2)
    assert head.held_out_accuracy == 1
    right = [bool(right.all()) for right in held_out_rights(features, y, other)]
    assert sum(right) > 1
    smallest = STRENGTHS["l1"][right.index(True)]
    assert head.strength == smallest


def test_a_cell_of_one_hopeless_image_does_not_leave_the_tuning_to_chance() -> None:
    """Its accuracy is 0 at every strength; the strongest penalty, a head that says one class, once won the tie."""
    features, y, cells = drawn(BALANCED)
    other = held_out()
    hopeless = HeldOut(
        np.concatenate([other.features, -other.features[:1]]),
        np.append(other.y, other.y[0]),
        np.append(other.cells, other.cells.max() + 1),
    )
    with_it = fit_head(features, y, cells, hopeless, n_classes=2, seed=0)
    without = fit_head(features, y, cells, other, n_classes=2, seed=0)
    assert with_it.strength > last_layer.STRENGTHS["l1"][0]
    assert float((with_it.predict(other.features) == other.y).mean()) >= 0.9 * float(
        (without.predict(other.features) == other.y).mean()
    )


@pytest.mark.parametrize("settings", [GIVEN, RetrainSettings(refits=2)], ids=["given", "tuned"])
def test_three_classes_are_told_apart(settings: RetrainSettings) -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 30)
    features = rng.normal(size=(90, 4)) + 6 * np.eye(4)[y]
    head = fit_head(features, y, np.tile([0, 1], 45), HeldOut(features, y, y * 0), settings, n_classes=3)
    assert head.weight.shape == (3, 4)
    assert head.bias.shape == (3,)
    assert (head.predict(features) == y).mean() > 0.97


def test_a_class_without_images_is_named() -> None:
    features, y, place = drawn(BALANCED)
    with pytest.raises(DataError, match="none of class 2"):
        fit_head(features, y, place, settings=GIVEN, n_classes=3)
    with pytest.raises(DataError, match="none of class 0"):
        fit_head(features[y == 1], y[y == 1], place[y == 1], settings=GIVEN, n_classes=2)


def test_tuning_without_held_out_images_is_refused() -> None:
    features, y, place = drawn(BALANCED)
    with pytest.raises(SettingsError, match="Tuning needs held-out images"):
        fit_head(features, y, place, n_classes=2)


def test_a_given_strength_is_used_and_nothing_is_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    def tune(*_: Any) -> None:
        raise AssertionError("tuned")

    monkeypatch.setattr(last_layer, "_tune", tune)
    features, y, place = drawn(BALANCED)
    weak, strong = (
        fit_head(features, y, place, held_out(), RetrainSettings(strength=s, refits=1), n_classes=2)
        for s in (0.01, 10.0)
    )
    assert (weak.strength, weak.held_out_accuracy) == (0.01, None)
    assert np.abs(weak.weight).sum() < np.abs(strong.weight).sum()
    assert (weak.weight == 0).sum() > (strong.weight == 0).sum()  # l1 drops features


def test_standardisation_is_folded_into_the_head() -> None:
    """With draws that return the subset itself, the head equals scikit-learn's pipeline on raw features."""
    features, y, place = drawn(BALANCED)
    features = features * np.array([1, 50, 0.01, 3, 1, 1]) + np.array([0, 900, 0, -7, 1, 1])
    features[:, 5] = 4.0  # constant: nothing to divide by
    rng = np.random.default_rng(0)
    draw = last_layer._resampled(place, y, rng)
    head = fit_head(features, y, place, settings=RetrainSettings(strength=0.3, refits=1), n_classes=2, seed=0)
    mean, std = features.mean(0), features.std(0)
    std[5] = 1.0
    scaled = (features - mean) / std
    fit = LogisticRegression(l1_ratio=1.0, C=0.3, solver="liblinear", tol=1e-3, max_iter=500, random_state=0)
    fit.fit(scaled[draw], y[draw])
    logits = features @ head.weight.T + head.bias
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], fit.decision_function(scaled), atol=0.15)  # of up to 9
    np.testing.assert_array_equal(head.predict(features), fit.predict(scaled))


def test_features_of_another_scale_give_the_same_predictions() -> None:
    features, y, place = drawn(BALANCED)
    scale, shift = 2.0 ** np.arange(6), 8.0 * np.arange(6)
    one = fit_head(features, y, place, settings=GIVEN, n_classes=2)
    other = fit_head(features * scale + shift, y, place, settings=GIVEN, n_classes=2)
    np.testing.assert_array_equal(one.predict(TEST[0]), other.predict(TEST[0] * scale + shift))


def test_the_head_is_the_average_of_its_refits(monkeypatch: pytest.MonkeyPatch) -> None:
    features, y, place = drawn(BALANCED)
    fitted = []
    real = last_layer._fits

    def fit(*arguments: Any) -> Any:
        fitted.extend(found := real(*arguments))
        return found

    monkeypatch.setattr(last_layer, "_fits", fit)
    head = fit_head(features, y, place, settings=RetrainSettings(strength=1.0, refits=4), n_classes=2)
    assert len(fitted) == 4
    assert not np.array_equal(fitted[0][0], fitted[1][0])
    np.testing.assert_allclose(head.weight * features.std(0), np.mean([weight for weight, _ in fitted], axis=0))


def test_refits_keep_the_number_of_images_of_each_cell_and_class() -> None:
    y = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    cells = np.array([0, 0, 1, 1, 1, 0, 2, 1])
    draw = last_layer._resampled(cells, y, np.random.default_rng(0))
    pairs = sorted(zip(y.tolist(), cells.tolist(), strict=True))
    assert sorted(zip(y[draw].tolist(), cells[draw].tolist(), strict=True)) == pairs


def test_an_image_that_comes_twice_counts_twice() -> None:
    features, y, place = drawn(SPURIOUS)
    rare = np.flatnonzero(y != place)
    chosen = np.concatenate([np.arange(len(y)), np.repeat(rare, 28)])  # copies up to a balanced subset
    with_copies = fit_head(features[chosen], y[chosen], place[chosen], settings=GIVEN, n_classes=2)
    without = fit_head(features, y, place, settings=GIVEN, n_classes=2)
    assert worst(with_copies) > worst(without) + 0.05


def test_the_same_seed_gives_the_same_head_and_inputs_are_not_changed() -> None:
    features, y, place = drawn(BALANCED)
    other = held_out()
    for values in (features, y, place, other.features, other.y, other.cells):
        values.setflags(write=False)
    first, again, different = (fit_head(features, y, place, other, n_classes=2, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.weight, again.weight)
    np.testing.assert_array_equal(first.bias, again.bias)
    assert not np.array_equal(first.weight, different.weight)


@pytest.mark.parametrize(
    "wrong", [{"strength": 0.0}, {"strength": -1.0}, {"refits": 0}, {"epochs": 0}, {"lr": 0.0}], ids=str
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"Got {next(iter(wrong.values()))}"):
        RetrainSettings(**wrong)


# --- val fitted to beside the subset


def with_val(counts: dict[tuple[int, int], int], seed: int = 3) -> HeldOut:
    features, y, place = drawn(counts, seed)
    return HeldOut(features, y, place)


def test_val_joins_the_fit() -> None:
    subset = drawn(SPURIOUS)
    alone = fit_head(*subset, held_out(), GIVEN, n_classes=2)
    joined = fit_head(*subset, settings=GIVEN, val=with_val(dict.fromkeys(BALANCED, 100)), n_classes=2)
    assert worst(joined) > worst(alone) + 0.03


def test_with_val_the_penalty_spreads_over_features_and_alone_it_picks_some() -> None:
    settings = RetrainSettings(strength=0.01)
    alone = fit_head(*drawn(BALANCED), settings=settings, n_classes=2)
    joined = fit_head(*drawn(BALANCED), settings=settings, val=with_val(BALANCED), n_classes=2)
    assert (alone.weight == 0).any()
    assert (joined.weight != 0).all()


def test_several_classes_are_told_apart_with_val_too() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 30)
    features = rng.normal(size=(90, 4)) + 4 * np.eye(4)[y]
    val = HeldOut(features[::2], y[::2], np.zeros(45, np.int64))
    head = fit_head(features[1::2], y[1::2], np.zeros(45, np.int64), val=val, n_classes=3)
    assert head.weight.shape == (3, 4)
    assert (head.predict(features) == y).mean() > 0.95


def test_cells_count_the_same_so_that_a_spurious_val_does_not_outvote_the_subset() -> None:
    many = {cell: 10 * count for cell, count in SPURIOUS.items()}
    features, y, place = drawn(BALANCED)
    val = with_val(many)
    weighted = fit_head(features, y, place, settings=GIVEN, val=val, n_classes=2)
    one = HeldOut(val.features, val.y, np.zeros_like(val.y))  # a single cell: nothing is evened out
    plain = fit_head(features, y, np.zeros_like(y), settings=GIVEN, val=one, n_classes=2)
    assert worst(weighted) > worst(plain) + 0.02


def test_each_class_and_cell_weighs_the_same_and_the_mean_weight_is_one() -> None:
    _, y, place = drawn(SPURIOUS)
    weights = last_layer._equal_cells(y, place)
    assert weights.mean() == pytest.approx(1)
    assert {weights[(y == k) & (place == j)].sum().round(6) for k in (0, 1) for j in (0, 1)} == {len(y) / 4}


def test_the_strength_is_tuned_on_halves_of_val_that_were_not_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    features, y, place = drawn(BALANCED)
    val = with_val(SPURIOUS)
    seen: list[tuple[set[int], set[int]]] = []

    def tune(scaled: Any, _y: Any, _cells: Any, _w: Any, folds: Any, _n: int, penalty: str) -> tuple[float, float]:
        assert penalty == "l2"
        seen.extend((set(fitted.tolist()), set(judged.tolist())) for fitted, judged in folds)
        assert len(scaled) == len(y) + len(val.y)
        return 1.0, 0.5

    monkeypatch.setattr(last_layer, "_tune", tune)
    head = fit_head(features, y, place, val=val, n_classes=2)
    assert (head.strength, head.held_out_accuracy) == (1.0, 0.5)
    everyone, of_val = set(range(len(y) + len(val.y))), set(range(len(y), len(y) + len(val.y)))
    assert [fitted | judged for fitted, judged in seen] == [everyone, everyone]
    assert all(not fitted & judged for fitted, judged in seen)
    assert seen[0][1] | seen[1][1] == of_val
    assert not seen[0][1] & seen[1][1]


def tuned(monkeypatch: pytest.MonkeyPatch, rights: dict[float, list[bool]], cells: list[int]) -> tuple[float, float]:
    """What `_tune` chooses where each strength gets these held-out images of class 0 right."""
    n = len(cells)

    def fit(_scaled: Any, _y: Any, _weights: Any, strengths: Any, *_: Any) -> Any:
        says_zero = [np.where(rights[strength], 1.0, -1.0) for strength in strengths]  # an image has its own feature
        return [(np.stack([weight, -weight]), np.zeros(2)) for weight in says_zero]

    monkeypatch.setattr(last_layer, "_fits", fit)
    monkeypatch.setitem(STRENGTHS, "l2", tuple(rights))
    zeros, everyone = np.zeros(n, np.int64), np.arange(n)
    return last_layer._tune(np.eye(n), zeros, np.array(cells), np.ones(n), [(everyone, everyone)], 2, "l2")


def right(*counts: tuple[int, int]) -> list[bool]:
    """So many right of so many, cell by cell."""
    return [i < hits for hits, n in counts for i in range(n)]


def test_mean_accuracy_of_cells_decides_between_equal_worst_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the number of images that are right, which is a large cell's alone."""
    cells = [0] * 4 + [1] * 8 + [2] * 2
    rights = {1.0: right((2, 4), (8, 8), (0, 2)), 2.0: right((4, 4), (5, 8), (0, 2))}
    assert tuned(monkeypatch, rights, cells) == (2.0, 0.0)
    assert tuned(monkeypatch, dict(reversed(rights.items())), cells) == (2.0, 0.0)


def test_worst_cell_counts_before_the_mean_and_is_reported_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [0] * 4 + [1] * 8
    rights = {1.0: right((4, 4), (4, 8)), 2.0: right((3, 4), (5, 8))}
    assert tuned(monkeypatch, rights, cells) == (2.0, 5 / 8)


def test_small_cell_weighs_less_than_a_large_one_in_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    """One image wrong of one is drawn to 1 / 3, six wrong of eight to 3 / 10."""
    cells = [0] + [1] * 8
    rights = {1.0: right((1, 1), (2, 8)), 2.0: right((0, 1), (8, 8))}
    assert tuned(monkeypatch, rights, cells) == (2.0, 0.0)


def test_small_cell_is_drawn_towards_a_half_by_two_more_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """None right of one counts as 1 / 3, less than three of eight, which count as 4 / 10."""
    cells = [0] + [1] * 8
    rights = {1.0: right((0, 1), (8, 8)), 2.0: right((1, 1), (3, 8))}
    assert tuned(monkeypatch, rights, cells) == (2.0, 3 / 8)


def test_weights_count_as_copies_of_an_image_do_and_the_strength_is_kept() -> None:
    features, y, place = drawn(SPURIOUS)
    copies = np.where(y == place, 1, 4)
    weighted = fit_weighted_head(features.copy(), y, np.ones(len(y)), 0.01, n_classes=2)
    assert (weighted.strength, weighted.held_out_accuracy) == (0.01, None)
    mean, std = features.mean(0), features.std(0)
    for scale in (1.0, 7.0):  # of the weights, which does not matter
        head = fit_weighted_head(features.copy(), y, scale * copies, 0.01, n_classes=2)
        peer = LogisticRegression(C=0.01 / copies.mean(), tol=1e-9, max_iter=1000)
        peer.fit(np.repeat((features - mean) / std, copies, axis=0), np.repeat(y, copies))
        np.testing.assert_allclose(head.weight[1] - head.weight[0], peer.coef_[0] / std, atol=5e-3)
        np.testing.assert_allclose(
            head.bias[1] - head.bias[0], peer.intercept_[0] - (peer.coef_[0] / std) @ mean, atol=5e-3
        )
