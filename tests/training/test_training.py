"""Training: what it returns, what it leaves alone, and trainings that went wrong."""

from __future__ import annotations

import logging
import random
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.training.conftest import (
    FAST,
    Net,
    assert_same_training,
    color_table,
    model_of,
    same,
    state_of,
)
from torch import nn

from slim.data import ImageTable
from slim.errors import SettingsError, SlimWarning
from slim.network.classifier import Classifier
from slim.training import TrainSettings, fit, loop, train_classifier
from slim.training.sources import in_batches


def test_train_learns_and_returns_a_model_ready_for_use(table: ImageTable, tmp_path: Path) -> None:
    model = train_classifier(table, table, replace(FAST, epochs=6), folder=tmp_path, initial=model_of())
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["val_accuracy"].max() == 1
    assert model.class_names == ("red", "blue")
    assert not any(child.training for child in model.module.modules())
    assert same(state_of(Classifier.load(tmp_path, Net())), state_of(model))


def test_history_has_one_row_per_epoch(table: ImageTable) -> None:
    result = fit(table, table, FAST, initial=model_of())
    expected = "epoch train_loss train_accuracy val_loss val_accuracy val_class_balanced_accuracy lr seconds"
    assert list(result.history) == expected.split()
    assert result.history["epoch"].tolist() == [1, 2, 3]
    grouped = fit(table, table, replace(FAST, epochs=1, select_by="worst-group"), initial=model_of())
    assert "val_worst_group_accuracy" in grouped.history


def test_train_builds_the_architecture_of_the_settings(table: ImageTable) -> None:
    settings = replace(FAST, arch="resnet10t", weights=None, image_size=32, layer="layer3", epochs=1)
    model = train_classifier(table[:4], table[[0, 2]], settings)
    assert (model.arch, model.image_size, model.layer) == ("resnet10t", 32, "layer3")


@pytest.mark.parametrize("trainable", ["all", "stage"])
def test_train_leaves_the_first_model_as_it_is(table: ImageTable, trainable: str) -> None:
    first = model_of()
    first.module.stage.eval()
    first.module.stem[0].bias.requires_grad_(False)
    before, modes = state_of(first), [child.training for child in first.module.modules()]
    result = train_classifier(table, table, replace(FAST, trainable=trainable), initial=first)
    assert same(before, state_of(first))
    assert modes == [child.training for child in first.module.modules()]
    for model in (first, result):
        flags = {name: values.requires_grad for name, values in model.module.named_parameters()}
        assert [name for name, flag in flags.items() if not flag] == ["stem.0.bias"]
    assert all(values.grad is None for values in first.module.parameters())
    assert torch.equal(result.module.stem[0].bias, first.module.stem[0].bias)


def test_train_leaves_the_global_random_state_alone(table: ImageTable) -> None:
    torch.manual_seed(5)
    states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    train_classifier(table, table, FAST, initial=model_of())
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (str(np.random.get_state()), random.getstate())


def test_train_depends_on_the_seed_and_not_on_the_global_random_state(table: ImageTable) -> None:
    results = []
    for seed, global_seed in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(global_seed)
        results.append(fit(table, table, FAST, seed=seed, initial=model_of()))
    assert_same_training(results[0], results[1])
    assert not same(state_of(results[0].classifier), state_of(results[2].classifier))


def test_train_writes_nothing_to_the_console_in_mixed_precision(
    table: ImageTable, capfd: pytest.CaptureFixture[str]
) -> None:
    logger, handler = logging.getLogger("lightning_fabric"), logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)  # as Fabric does where pytest has not set up logging
    level = logger.level
    try:
        train_classifier(table[:4], table[[0, 2]], replace(FAST, epochs=1, precision="bf16-mixed"), initial=model_of())
    finally:
        logger.removeHandler(handler)
    assert capfd.readouterr() == ("", "")
    assert logger.level == level


def test_a_lone_last_image_joins_the_batch_before(tmp_path: Path, steps: list[tuple[int, int]]) -> None:
    def net() -> nn.Module:  # batch norm of one value an image, which fails on a batch of one
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)
        )

    nine = color_table(tmp_path, 9)
    result = fit(nine, nine, replace(FAST, epochs=1), initial=model_of(net, layer="0"))
    assert len(steps) == 2
    assert np.isfinite(result.history["train_loss"]).all()


@given(n=st.integers(2, 60), batch_size=st.integers(2, 20))
def test_batches_drop_nothing(n: int, batch_size: int) -> None:
    chunks = in_batches(np.arange(n), batch_size)
    assert np.concatenate(chunks).tolist() == list(range(n))
    assert all(2 <= len(chunk) <= batch_size + 1 for chunk in chunks)
    assert all(len(chunk) == batch_size for chunk in chunks[:-1])


@given(n=st.integers(1, 300), warmup=st.floats(0, 0.99), schedule=st.sampled_from(["constant", "cosine"]))
def test_learning_rate_rises_then_never_rises_again(n: int, warmup: float, schedule: Any) -> None:
    settings = TrainSettings(lr=0.3, warmup=warmup, schedule=schedule)
    rates = np.array([loop._learning_rate(settings, step, n) for step in range(n)])
    rising = round(warmup * n)
    assert ((rates > 0) & (rates <= 0.3)).all()
    assert (np.diff(rates[:rising]) > 0).all()
    assert (np.diff(rates[rising:]) <= 0).all()
    assert rising == n or rates[rising] == pytest.approx(0.3)


def test_balanced_class_weights_are_n_over_classes_times_n_of_the_class(table: ImageTable) -> None:
    skewed = table[[0, 1, 2, 4]]  # three red, one blue
    weights = loop._class_weights(skewed, replace(FAST, class_weights="balanced"))
    assert weights.tolist() == pytest.approx([4 / (2 * 3), 4 / (2 * 1)])
    plain = fit(skewed, skewed[:1], FAST, initial=model_of())
    balanced = fit(skewed, skewed[:1], replace(FAST, class_weights="balanced"), initial=model_of())
    assert not same(state_of(plain.classifier), state_of(balanced.classifier))


def biased() -> nn.Module:
    """Answers the first class whatever it sees."""
    net = Net()
    nn.init.zeros_(net.head.weight)
    net.head.bias.data = torch.tensor([5.0, 0.0])
    return net


def test_train_warns_of_a_model_that_always_predicts_the_same_class(table: ImageTable) -> None:
    with pytest.warns(SlimWarning, match=r"predicts red for every validation image.*--lr, here 1e-09"):
        train_classifier(table, table, replace(FAST, lr=1e-9), initial=model_of(biased))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_classifier(table, table[::2], replace(FAST, lr=1e-9), initial=model_of(biased))  # red is all there is


def test_loss_that_is_not_finite_ends_the_training(table: ImageTable, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"must stay finite.*epoch 1.*--lr"):
        train_classifier(table, table, replace(FAST, lr=1e30, warmup=0), folder=tmp_path, initial=model_of())
    assert not {"model.json", "model.safetensors", "history.csv"} & {path.name for path in tmp_path.iterdir()}
