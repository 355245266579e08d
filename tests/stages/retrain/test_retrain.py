"""The stage: both models by their modes, the reference that is kept, and what full training starts from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slim.errors import ModelError, SettingsError, SlimWarning
from slim.stages.curate.curate import curate
from slim.stages.curate.subset import Subset
from slim.stages.retrain import retrain as stage
from slim.stages.retrain.last_layer import HeldOut, fit_head
from slim.stages.retrain.random_subset import random_subset
from slim.stages.retrain.retrain import retrain
from slim.stages.retrain.retrained import Retrained
from slim.stages.settings import CurateSettings, RetrainSettings
from slim.training import TrainSettings

Make = Callable[..., Any]
QUICK = TrainSettings(epochs=7, lr=0.2, batch_size=4, image_size=16, augmentation="none", device="cpu")


def curated(made: Any, **settings: Any) -> Subset:
    """A subset of eight images; nothing is said about a shortcut."""
    chosen = CurateSettings(**{"size": 8, "keep": 0.5, "balance": "environment", "core_clusters": 1, **settings})
    return curate(made.data, made.reference, made.attention, made.space, made.scores, chosen)


def retrained_from(made: Any, subset: Subset, settings: RetrainSettings | None = None, **keywords: Any) -> Retrained:
    settings = replace(settings or RetrainSettings(), images="subset")
    return retrain(made.data, made.reference, made.attention, made.objects, subset, settings, **keywords)


def head_of(model: Any) -> tuple[np.ndarray, np.ndarray]:
    return model.linear.weight.detach().numpy(), model.linear.bias.detach().numpy()


def backbone(model: Any) -> dict[str, torch.Tensor]:
    """Parameters before the head, copied."""
    return {
        name: value.detach().clone()
        for name, value in model.module.named_parameters()
        if not name.startswith(f"{model.head}.")
    }


def test_last_layer_is_fitted_to_the_subset_and_val(records: Make) -> None:
    made = records()
    subset = curated(made, environment_clusters=2)
    retrained = retrained_from(made, subset, seed=3)
    train, val = made.attention.train, made.attention.val
    cells = subset.environment_cluster
    by_hand = fit_head(
        train.features[subset.index],
        made.data.train.y[subset.index],
        cells[subset.index],
        val=HeldOut(val.features, made.data.val.y, subset.join(train, val)),
        n_classes=2,
        seed=3,
    )
    for fitted, expected in zip(head_of(retrained.model), (by_hand.weight, by_hand.bias), strict=True):
        np.testing.assert_allclose(fitted, expected, rtol=1e-5, atol=1e-6)
    assert (retrained.mode, retrained.strength) == ("last-layer", by_hand.strength)
    assert retrained.held_out_accuracy == by_hand.held_out_accuracy


def test_last_layer_without_val_is_tuned_on_kept_images_that_are_not_in_the_subset(
    records: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = records()
    subset = curated(made)
    tuned_on: list[HeldOut] = []

    def fit(*arguments: Any, **keywords: Any) -> Any:
        tuned_on.append(arguments[3])
        assert keywords["val"] is None
        return fit_head(*arguments, **keywords)

    monkeypatch.setattr(stage, "fit_head", fit)
    retrained = retrained_from(made, subset, RetrainSettings(use_val=False, refits=2), seed=3)
    features, y = made.attention.train.features, made.data.train.y
    cells = subset.cell(with_val=False)
    others = np.setdiff1d(np.flatnonzero(subset.kept), subset.index)
    assert 0 < len(others) < len(y) - len(subset)
    of_model, of_random = tuned_on
    np.testing.assert_array_equal(of_model.features, features[others])
    np.testing.assert_array_equal(of_model.y, y[others])
    np.testing.assert_array_equal(of_model.cells, cells[others])
    not_drawn = np.setdiff1d(np.arange(len(y)), retrained.random_index)
    np.testing.assert_array_equal(of_random.features, features[not_drawn])
    by_hand = fit_head(
        features[subset.index],
        y[subset.index],
        cells[subset.index],
        of_model,
        RetrainSettings(refits=2),
        n_classes=2,
        seed=3,
    )
    np.testing.assert_allclose(head_of(retrained.model)[0], by_hand.weight, rtol=1e-5, atol=1e-6)
    assert retrained.strength == by_hand.strength


def test_last_layer_may_be_tuned_on_the_groups_of_val(records: Make, photos: Make) -> None:
    made = records()
    settings = RetrainSettings(tune_on="groups", refits=2)
    subset = curated(made)
    retrained = retrained_from(made, subset, settings)
    held_out = HeldOut(made.attention.val.features, made.data.val.y, made.data.val.groups)
    cells = subset.cell(with_val=False)
    by_hand = fit_head(
        made.attention.train.features[subset.index],
        made.data.train.y[subset.index],
        cells[subset.index],
        held_out,
        settings,
        n_classes=2,
    )
    assert (retrained.strength, retrained.held_out_accuracy) == (by_hand.strength, by_hand.held_out_accuracy)
    without = records(attribute=False)
    with pytest.raises(SettingsError, match="Got data without one"):
        retrained_from(without, curated(without), settings)


def test_subset_of_the_whole_pool_tunes_the_last_layer_on_itself(records: Make) -> None:
    made = records("val")
    subset = curated(made, size=16, keep=1.0, environment_clusters=1)
    assert len(np.unique(subset.index)) == 16
    assert retrained_from(made, subset, RetrainSettings(refits=1)).strength is not None


def test_baseline_is_a_random_subset_of_the_same_size_without_cells(records: Make) -> None:
    made = records()
    retrained = retrained_from(made, curated(made), seed=5)
    drawn = random_subset(made.data.train.y, 8, 5)
    assert retrained.random_index.tolist() == drawn.tolist()
    val = made.attention.val
    by_hand = fit_head(
        made.attention.train.features[drawn],
        made.data.train.y[drawn],
        np.zeros(8, np.int64),
        val=HeldOut(val.features, made.data.val.y, np.zeros(len(val), np.int64)),
        n_classes=2,
        seed=5,
    )
    np.testing.assert_allclose(head_of(retrained.random)[0], by_hand.weight, rtol=1e-5, atol=1e-6)


def test_pool_of_val_images_is_retrained_on_and_not_fitted_twice(records: Make) -> None:
    made = records("val")
    subset = curated(made)
    retrained = retrained_from(made, subset, RetrainSettings(strength=0.5, refits=1), seed=2)
    by_hand = fit_head(
        made.attention.val.features[subset.index],
        made.data.val.y[subset.index],
        subset.cell(with_val=False)[subset.index],
        settings=RetrainSettings(strength=0.5, refits=1),
        n_classes=2,
        seed=2,
    )
    np.testing.assert_allclose(head_of(retrained.model)[0], by_hand.weight, rtol=1e-5, atol=1e-6)
    assert retrained.random_index.max() < len(made.data.val)


def test_last_layer_leaves_the_reference_and_its_other_layers_alone(records: Make) -> None:
    made = records()
    before = {name: value.clone() for name, value in made.reference.module.state_dict().items()}
    retrained = retrained_from(made, curated(made))
    after = made.reference.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for model in (retrained.model, retrained.random):
        assert all(torch.equal(before[name], value) for name, value in backbone(model).items())
        assert not np.array_equal(head_of(model)[0], head_of(made.reference)[0])


@pytest.mark.parametrize("mode", ["last-layer", "full"])
def test_without_a_shortcut_the_reference_is_kept_and_the_baseline_is_retrained(
    mode: Any, records: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = records()
    trained: list[Any] = []
    monkeypatch.setattr(stage, "train_classifier", lambda table, *_, **__: trained.append(table) or made.reference)
    subset = replace(curated(made), evidence=0.0)
    with pytest.warns(SlimWarning, match=r"no shortcut to remove.* explain 0% of .*--curate.balance features"):
        retrained = retrained_from(made, subset, RetrainSettings(mode=mode), training=QUICK)
    assert retrained.model is made.reference
    assert retrained.images == "none"
    assert (retrained.strength, retrained.held_out_accuracy) == (None, None)
    if mode == "full":
        assert [table.paths for table in trained] == [made.data.train[retrained.random_index].paths]
    else:
        assert not np.array_equal(head_of(retrained.random)[0], head_of(made.reference)[0])


def test_network_without_a_linear_head_cannot_be_retrained_in_its_last_layer(records: Make) -> None:
    made = records()
    headless = replace(made.reference, head=None)
    with pytest.raises(ModelError, match="--mode full"):
        retrained_from(replace(made, reference=headless), curated(made))


@pytest.mark.parametrize(
    ("arch", "start", "from_reference"),
    [("resnet10t", "weights", False), ("resnet10t", "reference", True), (None, "weights", True)],
    ids=["known", "asked for", "own module"],
)
def test_full_training_starts_from_the_same_weights_or_from_the_reference(
    arch: str | None,
    start: Any,
    from_reference: bool,
    records: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A network of an architecture that SLIM cannot build can start from the reference alone."""
    made = records()
    made = replace(made, reference=replace(made.reference, arch=arch))
    calls: list[tuple[Any, ...]] = []

    def train_classifier(table: Any, val: Any, settings: TrainSettings, **keywords: Any) -> Any:
        calls.append((table, val, settings, keywords))
        return made.reference

    monkeypatch.setattr(stage, "train_classifier", train_classifier)
    subset = curated(made)
    training = replace(QUICK, arch="resnet10t", checkpoint="trained elsewhere")
    settings = RetrainSettings(mode="full", start=start, epochs=4, lr=0.5)
    retrained = retrained_from(made, subset, settings, training=training, seed=6, folder=tmp_path)
    assert [table.paths for table, *_ in calls] == [
        made.data.train[subset.index].paths,
        made.data.train[retrained.random_index].paths,
    ]
    for (_, val, used, keywords), name in zip(calls, ("model", "random"), strict=True):
        assert val is made.data.val
        assert used == replace(training, epochs=4, lr=0.5, checkpoint=None)
        assert keywords["initial"] is (made.reference if from_reference else None)
        assert (keywords["seed"], keywords["folder"]) == (6, tmp_path / name)
    assert (retrained.mode, retrained.strength) == ("full", None)


def test_full_training_takes_the_learning_rate_of_the_reference_by_default(
    records: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = records()
    rates: list[float] = []

    def train_classifier(_: Any, __: Any, settings: TrainSettings, **___: Any) -> Any:
        rates.append(settings.lr)
        return made.reference

    monkeypatch.setattr(stage, "train_classifier", train_classifier)
    retrained_from(made, curated(made), RetrainSettings(mode="full"), training=QUICK)
    assert rates == [0.2, 0.2]


@pytest.mark.filterwarnings("ignore:The model predicts")  # an epoch on noise may come to that
def test_full_training_of_an_own_module_moves_all_layers_of_a_copy(records: Make) -> None:
    made = records()
    before = {name: value.clone() for name, value in made.reference.module.state_dict().items()}
    retrained = retrained_from(made, curated(made), RetrainSettings(mode="full", epochs=1), training=QUICK)
    assert all(torch.equal(before[name], value) for name, value in made.reference.module.state_dict().items())
    for model in (retrained.model, retrained.random):
        assert (model.layer, model.arch) == (made.reference.layer, None)
        assert not torch.equal(backbone(model)["0.weight"], before["0.weight"])


@pytest.mark.filterwarnings("ignore:The model predicts")
@pytest.mark.parametrize("mode", ["last-layer", "full"])
def test_retrained_models_survive_saving_and_loading(mode: Any, records: Make, tmp_path: Path) -> None:
    made = records()
    settings = RetrainSettings(mode=mode, epochs=1)
    retrained = retrained_from(made, curated(made), settings, training=QUICK)
    retrained.save(tmp_path)
    loaded = Retrained.load(tmp_path, made.reference.module)
    assert (loaded.mode, loaded.strength) == (retrained.mode, retrained.strength)
    assert loaded.random_index.tolist() == retrained.random_index.tolist()
    models = loaded.models(made.reference)
    assert list(models) == ["reference", "random_subset", "retrained"]
    for name, model in (("random_subset", retrained.random), ("retrained", retrained.model)):
        np.testing.assert_array_equal(head_of(models[name])[0], head_of(model)[0])
        shares = models[name].module[0] is made.reference.module[0]
        assert shares == (mode == "last-layer")
