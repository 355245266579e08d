"""Retraining on recomposed images: the last layer, the whole network, and a set where the object alone decides."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from slim.data import Dataset, ImageTable, Recomposition, image_batches, recomposed_batches
from slim.errors import SettingsError
from slim.matting import SIDE
from slim.metrics import accuracy_by_group
from slim.network.classifier import Classifier
from slim.network.gradcam import GradCam
from slim.stages.attend import attend_split
from slim.stages.curate.curate import curate
from slim.stages.curate.subset import Subset
from slim.stages.retrain import recomposed as module
from slim.stages.retrain.last_layer import fit_weighted_head
from slim.stages.retrain.recomposed import (
    STRENGTH,
    VAL_SHARE,
    UnchangedVal,
    fit_recomposed,
    recomposed_features,
    recomposed_head,
)
from slim.stages.retrain.retrain import retrain, with_head
from slim.stages.retrain.retrained import Retrained
from slim.stages.settings import AttendSettings, CurateSettings, RetrainSettings
from slim.training import TrainSettings

pytestmark = pytest.mark.usefixtures("small_and_quiet")

Make = Callable[..., Any]
QUICK = TrainSettings(
    epochs=2, lr=0.05, batch_size=8, image_size=16, augmentation="none", device="cpu", precision="32-true"
)
RECOMPOSE = RetrainSettings(images="recomposed", draws=2)


def subset_of(made: Any) -> Subset:
    settings = CurateSettings(size=8, keep=0.5, balance="environment", core_clusters=1)
    return curate(made.data, made.reference, made.attention, made.space, made.scores, settings)


def retrained_from(made: Any, settings: RetrainSettings, subset: Subset | None = None, **keywords: Any) -> Retrained:
    subset = subset or subset_of(made)
    keywords = {"training": QUICK, **keywords}
    return retrain(made.data, made.reference, made.attention, made.objects, subset, settings, **keywords)


def weight_of(model: Classifier) -> np.ndarray:
    return model.linear.weight.detach().numpy()


def test_last_layer_is_fitted_to_recomposed_images_and_not_tuned(records: Make, tmp_path: Path) -> None:
    made = records()
    retrained, again = retrained_from(made, RECOMPOSE), retrained_from(made, RECOMPOSE)
    assert (retrained.mode, retrained.strength, retrained.held_out_accuracy) == ("last-layer", STRENGTH, None)
    assert (retrained.images, retrained.reliance) == ("recomposed", None)
    np.testing.assert_array_equal(weight_of(retrained.model), weight_of(again.model))
    for other in ({"draws": 3}, {"use_val": False}, {"tune_on": "groups"}, {"strength": 0.1}):
        assert not np.array_equal(
            weight_of(retrained_from(made, replace(RECOMPOSE, **other)).model), weight_of(again.model)
        )
    assert torch.equal(retrained.model.module[0].weight, made.reference.module[0].weight)
    # The baseline is the random subset, as ever.
    curated = retrained_from(made, RetrainSettings(images="subset"))
    np.testing.assert_array_equal(weight_of(retrained.random), weight_of(curated.random))
    retrained.save(tmp_path)
    loaded = Retrained.load(tmp_path, made.reference.module)
    assert (loaded.strength, loaded.held_out_accuracy) == (STRENGTH, None)


def test_every_class_counts_the_same(records: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = records()
    rare = np.concatenate([np.flatnonzero(made.data.train.y == 0), np.flatnonzero(made.data.train.y == 1)[:4]])
    made = replace(
        made,
        data=replace(made.data, train=made.data.train[rare]),
        objects=replace(made.objects, train=made.objects.train[rare]),
    )
    given: list[Any] = []

    def fit(features: Any, y: Any, weights: Any, strength: float, **keywords: Any) -> Any:
        given.append((features, y, weights))
        return fit_weighted_head(features, y, weights, strength, **keywords)

    monkeypatch.setattr(module, "fit_weighted_head", fit)
    recompositions = {name: Recomposition(made.objects.split(name)) for name in ("train", "val")}
    recomposed_head(made.data, made.reference, recompositions, RECOMPOSE, QUICK, seed=0)
    ((features, y, weights),) = given
    assert (len(features), features.dtype) == (2 * (24 + 16), np.float32)
    assert np.bincount(y, weights) == pytest.approx([0.5, 0.5])


def test_pool_of_val_images_is_not_fitted_twice(records: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = records("val")
    tables: list[str] = []
    real = recomposed_features

    def features(reference: Any, table: ImageTable, *given: Any, **keywords: Any) -> None:
        tables.append(table.split)
        real(reference, table, *given, **keywords)

    monkeypatch.setattr(module, "recomposed_features", features)
    retrained_from(made, RECOMPOSE)
    assert tables == ["val"]


def test_head_is_fitted_without_a_copy_of_the_features() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 20_000)
    features = rng.normal(size=(len(y), 200)).astype(np.float32)
    tracemalloc.start()
    fit_recomposed(features, [y], RetrainSettings(draws=1), 2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.7 * features.nbytes


def test_features_are_those_of_whole_images_where_the_map_is_everything(records: Make) -> None:
    made = records()
    whole = Recomposition(np.full((16, SIDE, SIDE), 255, np.uint8))
    rows = np.zeros((32, made.reference.linear.in_features), np.float32)
    (images, _, _), *_ = image_batches(made.data.val, made.reference.image_size, len(made.data.val))
    with GradCam(made.reference, precision="32-true") as cam:
        recomposed_features(cam, made.data.val, whole, 2, 0, into=rows)
        expected = cam(images).features.detach().numpy()
    np.testing.assert_allclose(rows, np.tile(expected, (2, 1)), rtol=1e-4, atol=1e-5)


def test_features_are_those_of_each_draw_and_each_process_computes_its_share(
    records: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = records()
    table, recomposition = made.data.val, Recomposition(made.objects.val)
    rows, mine = np.zeros((2, 32, made.reference.linear.in_features), np.float32)
    with GradCam(made.reference, precision="32-true") as cam:
        recomposed_features(cam, table, recomposition, 2, 3, into=rows)
        for draw in range(2):
            (images, _, _), *_ = recomposed_batches(table, recomposition, 16, 16, seed=3, epoch=draw)
            expected = cam(images).features.detach().numpy()
            np.testing.assert_allclose(rows[16 * draw : 16 * (draw + 1)], expected, rtol=1e-4, atol=1e-5)
        monkeypatch.setattr(module.processes, "share", lambda n: slice(5, 9))
        recomposed_features(cam, table, recomposition, 2, 3, into=mine)
    mine = mine.reshape(2, 16, -1)
    np.testing.assert_allclose(mine[:, 5:9], rows.reshape(2, 16, -1)[:, 5:9], rtol=1e-4, atol=1e-5)
    assert not mine[:, :5].any()
    assert not mine[:, 9:].any()


def test_head_takes_the_room_of_all_features(records: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = records(), []
    monkeypatch.setattr(module, "check_room", lambda what, memory, fewer: asked.append((what, memory)))
    recompositions = {name: Recomposition(made.objects.split(name)) for name in ("train", "val")}
    recomposed_head(made.data, made.reference, recompositions, RECOMPOSE, QUICK, seed=0)
    width = made.reference.linear.in_features
    val = UnchangedVal.of(made.attention.val, made.data.val.y)
    recomposed_head(made.data, made.reference, recompositions, RECOMPOSE, QUICK, val=val, seed=0)
    n_bytes = [2 * (40 + 16) * width * 4, (2 * (40 + 16) + 16) * width * 4]
    assert asked == [("features of recomposed images", n) for n in n_bytes]


def test_head_is_that_of_all_draws_of_all_splits() -> None:
    rng = np.random.default_rng(0)
    features, y = rng.normal(size=(100, 5)).astype(np.float32), [rng.integers(0, 2, n) for n in (30, 20)]
    for strength in (None, 0.1):
        head = fit_recomposed(features.copy(), y, replace(RECOMPOSE, strength=strength), 2)
        labels = np.concatenate([y[0], y[0], y[1], y[1]])
        weights = 1 / np.where(labels == 0, (labels == 0).sum(), (labels == 1).sum())
        expected = fit_weighted_head(features.copy(), labels, weights, strength or STRENGTH, n_classes=2)
        np.testing.assert_array_equal(head.weight, expected.weight)
        assert head.strength == (strength or STRENGTH)


@pytest.mark.parametrize(
    ("start", "arch", "is_reference"),
    [("weights", None, False), ("reference", None, True), ("weights", "resnet10t", True)],
)
def test_full_training_starts_where_the_settings_say_or_at_a_reference_of_another_architecture(
    start: Any, arch: str | None, is_reference: bool, records: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, calls = records(), []
    monkeypatch.setattr(module, "train_classifier", lambda *given, **keywords: calls.append((*given, keywords)))
    training = replace(QUICK, arch=arch or made.reference.arch, checkpoint="erm.pt")
    settings = replace(RECOMPOSE, mode="full", start=start)
    recomposition = Recomposition(made.objects.val)
    given = (made.data, made.reference, recomposition, settings, training)
    module.train_recomposed(*given, pool="val", seed=1, folder=None)
    ((table, val, wanted, keywords),) = calls
    assert (table.paths, val) == (made.data.val.paths, made.data.val)
    assert wanted == replace(training, select_by="last", checkpoint=None)
    assert (keywords["initial"] is made.reference) == is_reference
    assert keywords["recomposition"] is recomposition
    assert (keywords["seed"], keywords["folder"]) == (1, None)


@pytest.mark.parametrize(("trainable", "copies"), [("all", 1), ("head", 2)])
def test_full_training_is_on_recomposed_images_and_keeps_the_last_epoch(
    records: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainable: str, copies: int
) -> None:
    made = records()
    calls: list[tuple[Any, ...]] = []
    real = module.train_classifier

    def train_classifier(table: Any, val: Any, settings: TrainSettings, **keywords: Any) -> Classifier:
        calls.append((table, val, settings, keywords))
        return real(table, val, settings, **keywords)

    monkeypatch.setattr(module, "train_classifier", train_classifier)
    settings = replace(RECOMPOSE, mode="full", start="reference", lr=0.01)
    training = replace(QUICK, trainable=trainable)
    retrained = retrained_from(made, settings, training=training, seed=4, folder=tmp_path)
    ((table, val, used, keywords),) = calls
    assert table.paths == made.data.train.paths * copies
    assert val is made.data.val
    assert used == replace(training, lr=0.01, select_by="last")
    assert len(keywords["recomposition"]) == len(table)
    np.testing.assert_array_equal(keywords["recomposition"].maps[:40], made.objects.train)
    assert keywords["initial"] is made.reference
    assert (keywords["seed"], keywords["folder"]) == (4, tmp_path / "model")
    assert (tmp_path / "model" / "history.csv").exists()
    assert (retrained.mode, retrained.strength) == ("full", None)
    assert not np.array_equal(weight_of(retrained.model), weight_of(made.reference))


def test_draws_must_be_positive() -> None:
    with pytest.raises(SettingsError, match="draws must be at least 1. Got 0"):
        RetrainSettings(draws=0)


def _biased(folder: Path, n: int, split: str, share: float) -> tuple[ImageTable, Any]:
    """Photos of a red or blue square before a dark or bright scene, which goes with its colour in this share."""
    folder = folder / split
    folder.mkdir()
    rng = np.random.default_rng(len(split) * n)
    y = np.arange(n) % 2
    a = np.where(np.arange(n) // 2 % 20 < 20 * share, y, 1 - y)
    maps, paths = np.zeros((n, SIDE, SIDE), np.uint8), []
    for i in range(n):
        top, left = rng.integers(2, 7, 2)
        pixels = rng.integers(0, 50, (16, 16, 3)) + (20, 180)[a[i]]
        pixels[top : top + 7, left : left + 7] = rng.integers(40, 90, (7, 7, 3)) + [(90, 0, 0), (0, 0, 90)][y[i]]
        maps[i, 4 * top : 4 * top + 28, 4 * left : 4 * left + 28] = 255
        paths.append(str(folder / f"{i}.png"))
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    frame = pd.DataFrame({"path": paths, "y": y, "a": a})
    return ImageTable(frame, ("red", "blue"), ("dark", "bright"), split, np.full(4, 0.25)), maps


def test_recomposed_head_is_better_where_the_object_alone_decides(small_classifier: Make, tmp_path: Path) -> None:
    """Even though val is as biased as train."""
    (train, maps), (val, val_maps) = _biased(tmp_path, 120, "train", 0.95), _biased(tmp_path, 80, "val", 0.95)
    test, _ = _biased(tmp_path, 80, "test", 0.5)
    data = Dataset(train, val, test, fingerprint="0123456789abcdef")
    body = replace(small_classifier(), class_names=train.class_names)
    attended = {
        name: attend_split(body, data.split(name), AttendSettings(precision="32-true")) for name in ("train", "test")
    }
    erm = fit_weighted_head(np.asarray(attended["train"].features), train.y, np.ones(120), STRENGTH, n_classes=2)
    reference = with_head(body, erm)
    recompositions = {"train": Recomposition(maps), "val": Recomposition(val_maps)}
    recomposed = recomposed_head(data, reference, recompositions, RECOMPOSE, QUICK, seed=0)
    worst = {}
    for name, head in (("reference", erm), ("recomposed", recomposed)):
        right = head.predict(np.asarray(attended["test"].features)) == test.y
        groups = test.groups
        assert groups is not None
        worst[name] = accuracy_by_group(right, groups, test.group_names).worst_group_accuracy
    assert worst["reference"] < 0.2
    assert worst["recomposed"] > worst["reference"] + 0.4


def _val_of(wrong_by_reference: int, wrong_by_object: int, n: int = 40) -> UnchangedVal:
    """Val whose last images the reference model errs on, and whose first ones show a feature of the other class."""
    y = np.tile([0, 1], n // 2)
    features = 4.0 * y[:, None] - 2
    features[:wrong_by_object] *= -1
    return UnchangedVal(features, y, np.arange(n) < n - wrong_by_reference)


@pytest.mark.parametrize(
    ("wrong_by_reference", "wrong_by_object", "free"),
    [(0, 0, False), (4, 0, False), (5, 0, True), (5, 1, False), (8, 1, True), (6, 6, False), (1, 8, False)],
)
def test_val_is_free_of_the_shortcut_where_recomposed_images_make_significantly_more_right(
    wrong_by_reference: int, wrong_by_object: int, free: bool
) -> None:
    y = np.array([0, 1])
    head = fit_weighted_head(np.array([[-2.0], [2.0]]), y, np.ones(2), 1.0, n_classes=2)
    assert _val_of(wrong_by_reference, wrong_by_object).is_free_of_shortcut(head) is free


def test_head_is_fitted_to_val_as_it_is_unless_the_shortcut_pays_there() -> None:
    rng = np.random.default_rng(0)
    y = [rng.integers(0, 2, 30), np.tile([0, 1], 20)]
    rows = np.concatenate([np.tile(own, 2) for own in y])
    recomposed = (4.0 * rows - 2 + rng.normal(0, 0.1, len(rows)))[:, None]
    for wrong, fitted in ((5, True), (4, False)):
        val = _val_of(wrong, 0)
        head = fit_recomposed(np.concatenate([recomposed, 0 * val.features]), y, RECOMPOSE, 2, val)
        shares = [(1 - VAL_SHARE) / 2 / np.bincount(rows)[rows], VAL_SHARE / 2 / np.bincount(val.y)[val.y]]
        everything = np.concatenate([recomposed, val.features]), np.concatenate([rows, val.y]), np.concatenate(shares)
        features, labels, weights = everything if fitted else (recomposed.copy(), rows, shares[0])
        expected = fit_weighted_head(features, labels, weights, STRENGTH, n_classes=2)
        np.testing.assert_allclose(head.weight, expected.weight)
        assert head.uses_val is fitted


def test_retraining_uses_val_as_it_is_where_the_shortcut_does_not_pay(
    records: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = records()
    monkeypatch.setattr(UnchangedVal, "is_free_of_shortcut", lambda val, head: True)
    used, recomposed = retrained_from(made, RECOMPOSE), retrained_from(made, replace(RECOMPOSE, use_val=False))
    used.save(tmp_path)
    assert Retrained.load(tmp_path, made.reference.module).uses_val
    assert "on recomposed images and unchanged val" in repr(used)
    assert not recomposed.uses_val
    assert "val" not in repr(recomposed)
