"""Evaluation mode for a while, and the layers that are looked at."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from slim.network.build import wrap
from slim.network.tracing import evaluating


def test_evaluating_restores_mixed_modes_also_after_an_exception() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout().eval(), nn.Dropout()))
    modes = [child.training for child in module.modules()]
    assert modes == [True, True, True, False, True]

    def fail() -> None:
        with evaluating(module):
            assert not any(child.training for child in module.modules())
            raise KeyError("inside")

    with pytest.raises(KeyError):
        fail()
    assert [child.training for child in module.modules()] == modes


def small_vit(classes: int, depth: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224", num_classes=classes, img_size=32, depth=depth, embed_dim=24, num_heads=2
    )


@pytest.mark.parametrize(
    ("module", "layer"),
    [
        (nn.Sequential(small_vit(0), nn.Linear(24, 2)), "0.blocks.1.norm1"),
        (nn.Sequential(nn.Identity(), small_vit(2)), "1.blocks.1.norm1"),
        (nn.Sequential(nn.Sequential(small_vit(0, depth=1)), nn.Linear(24, 2)), "0.0.blocks.0.norm1"),
    ],
    ids=["linear probe", "after another module", "of one block, twice nested"],
)
def test_the_last_block_of_a_transformer_is_found_within_another_module(module: nn.Module, layer: str) -> None:
    assert wrap(module, image_size=32).layer == layer


@pytest.mark.parametrize(("size", "layer"), [(224, "stages"), (64, "stages.1")])
def test_tokens_without_blocks_of_norms_are_looked_at_where_they_are_last_a_grid(size: int, layer: str) -> None:
    """LeViT: its stem is a grid of convolutions, and its last stage has a single token for a small image."""
    with torch.device("meta"):
        assert wrap(timm.create_model("levit_128s", num_classes=2, img_size=size), image_size=size).layer == layer


class Positioned(nn.Module):
    """A network with a bias that depends on positions alone, which a layer computes from a table after the features."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.conv = nn.Conv2d(8, 8, 3, stride=2)
        self.positions = nn.Linear(2, 8)
        self.register_buffer("table", torch.ones(shape))
        self.fc = nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images)
        bias = self.positions(self.table).flatten(0, -2).mean(0)
        return self.fc(self.conv(stem + bias[:, None, None]).mean((2, 3)))


@pytest.mark.parametrize("shape", [(1, 30, 30, 2), (30, 30, 2), (1, 30, 2)], ids=["grid", "no images", "tokens"])
def test_what_is_the_same_for_every_image_is_not_looked_at(shape: tuple[int, ...]) -> None:
    classifier = wrap(Positioned(shape), image_size=32)
    assert (classifier.layer, classifier.finer) == ("conv", "stem")


def test_the_position_bias_of_swin_v2_is_not_looked_at() -> None:
    with torch.device("meta"):
        module = timm.create_model("swinv2_tiny_window8_256", num_classes=2, img_size=128, depths=(1, 1, 1, 1))
        assert wrap(module, image_size=128).finer == "layers.2"


class Cosine(nn.Linear):
    """A head that is derived from a linear layer and computes something else."""

    def forward(self, features: Tensor) -> Tensor:
        unit = nn.functional.normalize
        return 10 * nn.functional.linear(unit(features, dim=1), unit(self.weight, dim=1))


def ending_in(head: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def test_a_layer_derived_from_a_linear_one_is_a_linear_head_only_if_it_computes_the_same() -> None:
    assert wrap(ending_in(Cosine(4, 2)), image_size=8).head is None
    assert wrap(ending_in(nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))), image_size=8).head == "3"
    assert wrap(ending_in(timm.layers.linear.Linear(4, 2)), image_size=8).head == "3"
