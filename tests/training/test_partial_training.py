"""Training only the last part of a network, from cached activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from tests.training.conftest import (
    FAST,
    SIZE,
    Net,
    model_of,
    same,
    state_of,
)
from torch import Tensor, nn

from slim.data import ImageTable
from slim.errors import ModelError, SettingsError
from slim.network import activations
from slim.network.classifier import Classifier
from slim.network.partial import find_cut, last_stage
from slim.training import fit, train_classifier


def shallow(arch: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(arch, num_classes=2, **options)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, str]] = {
    "resnet": (shallow("resnet10t", channels=(8, 8, 16, 16)), 64, "layer4"),
    "efficientnet": (shallow("tf_efficientnet_lite0"), 64, "blocks.6"),
    "vit": (shallow("vit_tiny_patch16_224", img_size=48, embed_dim=48, depth=3, drop_path_rate=0.2), 48, "blocks.2"),
    "convnext": (shallow("convnext_atto", depths=(1, 1, 1, 2), dims=(8, 8, 16, 16), ls_init_value=0.1), 64, "stages.3"),
    "swin": (
        shallow(
            "swin_tiny_patch4_window7_224", img_size=112, embed_dim=24, depths=(1, 1, 1, 2), num_heads=(1, 1, 2, 2)
        ),
        112,
        "layers.3",
    ),
    "wrapped timm": (
        lambda: Around(timm.create_model("resnet10t", num_classes=2, channels=(8, 8, 16, 16))),
        64,
        "inner.layer4",
    ),
    "own": (Net, SIZE, "stage"),
}


class Around(nn.Module):
    """Somebody's module around a network."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images * 2)


def layers_from(module: nn.Module, name: str) -> set[str]:
    """Names of the parameters and buffers from a submodule on, in the order of definition."""
    names = list(module.state_dict())
    return set(names[next(i for i, key in enumerate(names) if key.startswith(f"{name}.")) :])


@pytest.mark.parametrize("network", NETWORKS)
def test_training_the_last_stage_changes_it_and_nothing_before(table: ImageTable, tmp_path: Path, network: str) -> None:
    make, size, stage = NETWORKS[network]
    first = model_of(make, size)
    before = state_of(first)
    assert last_stage(first) == stage
    settings = replace(FAST, epochs=1, batch_size=2, trainable="last-stage", schedule="constant")
    model = train_classifier(table[:4], table[[0, 2]], settings, folder=tmp_path, initial=first)
    after, behind = state_of(model), layers_from(first.module, stage)
    assert 0 < len(behind) < len(before)
    unchanged = {name for name in before if torch.equal(before[name], after[name])}
    constant = {name for name in behind if name.endswith(("relative_position_index", "attn_mask"))}
    assert unchanged == before.keys() - behind | constant
    assert same(state_of(Classifier.load(tmp_path, make())), after)


def test_training_the_head_trains_only_the_head(table: ImageTable) -> None:
    first = model_of()
    model = train_classifier(table, table, replace(FAST, trainable="head", epochs=10), initial=first)
    before, after = state_of(first), state_of(model)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"head.weight", "head.bias"}


class Plain(nn.Module):
    """No batch norm before the cut, so that training it whole with a frozen part is the same thing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stage(self.stem(images)).mean((2, 3)))


def test_training_behind_a_cut_equals_training_with_a_frozen_part(table: ImageTable) -> None:
    settings = replace(FAST, augmentation="none")
    frozen_by_hand = model_of(Plain)
    frozen_by_hand.module.stem.requires_grad_(False)
    slow = fit(table, table, settings, initial=frozen_by_hand)
    fast = fit(table, table, replace(settings, trainable="stage"), initial=model_of(Plain))
    a, b = state_of(slow.classifier), state_of(fast.classifier)
    assert all(torch.allclose(a[name], b[name], atol=1e-5) for name in a)
    assert not torch.equal(a["stage.0.weight"], state_of(frozen_by_hand)["stage.0.weight"])
    np.testing.assert_allclose(slow.history["val_loss"], fast.history["val_loss"], rtol=1e-4)


def test_frozen_part_runs_once_per_image(table: ImageTable, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = Classifier.normalize

    def normalize(self: Classifier, images: Tensor) -> Tensor:
        seen.append(len(images))
        return real(self, images)

    monkeypatch.setattr(Classifier, "normalize", normalize)
    train_classifier(table, table[:6], replace(FAST, trainable="stage"), initial=model_of())
    assert sum(seen) == len(table) + 6


@pytest.mark.parametrize("network", NETWORKS)
def test_replay_equals_the_whole_network_for_any_batch(network: str) -> None:
    make, size, stage = NETWORKS[network]
    model = model_of(make, size)
    cut = find_cut(model.module.eval(), stage, size)
    images = torch.randn(5, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(cut.replay(cut.activations(images)), model.module(images), atol=1e-5, rtol=1e-4)
    assert all("forward" not in vars(child) for child in model.module.modules())
    assert all(not child._forward_pre_hooks and not child._forward_hooks for child in model.module.modules())


class Skipping(Net):
    """The output of the stem also bypasses the stage."""

    def forward(self, images: Tensor) -> Tensor:
        early = self.stem(images)
        return self.head((self.stage(early) + early).mean((2, 3)))


class Twice(Net):
    """The stage runs two times."""

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stage(self.stage(self.stem(images))).mean((2, 3)))


@pytest.mark.parametrize(
    ("net", "name", "what"),
    [
        (Skipping, "stage", "bypasses"),
        (Twice, "stage", "2 calls"),
        (Net, "stages", "Got 'stages'.*stem, stage, head"),
    ],
)
def test_cut_is_refused_where_the_network_cannot_be_cut(
    table: ImageTable, net: type[nn.Module], name: str, what: str
) -> None:
    with pytest.raises(ModelError, match=what):
        train_classifier(table, table, replace(FAST, trainable=name), initial=model_of(net))


def test_stage_that_requires_no_gradient_is_refused(table: ImageTable) -> None:
    model = model_of()
    model.module.requires_grad_(False)
    for trainable in ("all", "stage"):
        with pytest.raises(SettingsError, match="parameters to train"):
            train_classifier(table, table, replace(FAST, trainable=trainable), initial=model)


def test_activations_are_kept_in_half_precision_or_refused_when_memory_is_short(
    table: ImageTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = 8 * (SIZE // 2) ** 2 * len(table) * 2  # train and validation images
    settings = replace(FAST, trainable="stage")
    full = fit(table, table, settings, initial=model_of())
    monkeypatch.setattr(activations, "free_memory", lambda: values * 4)
    half = fit(table, table, settings, initial=model_of())
    assert not same(state_of(full.classifier), state_of(half.classifier))
    np.testing.assert_allclose(full.history["val_loss"], half.history["val_loss"], atol=0.01)
    monkeypatch.setattr(activations, "free_memory", lambda: values * 4 - 1)
    with pytest.raises(SettingsError, match=r"free memory, (\d+\.\d [kM]B)\. Got \1 in half"):
        train_classifier(table, table, settings, initial=model_of())
