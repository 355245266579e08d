"""Folding of batch normalisation: the same outputs with fewer modules, or the network as it is."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import pytest
import torch
from torch import Tensor, nn

from slim.network.build import build, wrap
from slim.network.classifier import Classifier
from slim.network.folding import folded
from slim.network.tracing import evaluating


def with_statistics(classifier: Classifier) -> Classifier:
    """Means and variances as after training; those of a new network change nothing."""
    torch.manual_seed(0)
    for module in classifier.module.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return classifier


def norms(classifier: Classifier) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in classifier.module.modules())


def outputs(classifier: Classifier, layer: str, inputs: Tensor) -> tuple[Tensor, Tensor]:
    kept: list[Tensor] = []
    hook = classifier.module.get_submodule(layer).register_forward_hook(lambda _, __, out: kept.append(out.clone()))
    with evaluating(classifier.module), torch.no_grad():
        logits = classifier.module(inputs)
    hook.remove()
    return logits, kept[0]


@pytest.mark.parametrize("arch", ["resnet10t", "tf_efficientnet_lite0", "mobilenetv3_small_050"])
def test_folded_network_has_the_same_outputs_and_no_batch_normalisation(arch: str) -> None:
    classifier = with_statistics(build(arch, ("a", "b"), weights=None, image_size=64))
    small = folded(classifier, (classifier.layer,))
    inputs = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert norms(classifier) > 0
    assert norms(small) == 0
    for mine, theirs in zip(*(outputs(one, classifier.layer, inputs) for one in (classifier, small)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4 * float(mine.abs().max()))


def test_watched_convolution_keeps_its_output() -> None:
    classifier = with_statistics(build("resnet10t", ("a", "b"), weights=None, image_size=64))
    watched = "layer4.0.conv2"
    small = folded(classifier, (watched,))
    inputs = torch.randn(2, 3, 64, 64)
    assert norms(small) == 1
    torch.testing.assert_close(outputs(classifier, watched, inputs)[1], outputs(small, watched, inputs)[1])


class Twice(nn.Module):
    """The output of the convolution goes to the normalisation, and around it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        logits: Tensor = self.head((self.norm(x) + x).relu().mean((2, 3)))
        return logits


class Tied(nn.Module):
    """One convolution before two normalisations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norms, self.head = nn.Conv2d(3, 3, 3), nn.ModuleList(), nn.Linear(3, 2)
        self.norms.extend([nn.BatchNorm2d(3), nn.BatchNorm2d(3)])

    def forward(self, x: Tensor) -> Tensor:
        for norm in self.norms:
            x = norm(self.conv(x)).relu()
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Uncopied(nn.Module):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head, self.lock = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2), Lock()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.conv(x)).relu().mean((2, 3)))
        return logits


@pytest.mark.parametrize("kind", [Twice, Tied, Uncopied])
def test_network_that_cannot_be_folded_is_left_as_it_is(kind: Callable[[], nn.Module]) -> None:
    torch.manual_seed(1)
    classifier = with_statistics(wrap(kind(), layer="conv", image_size=16))
    assert folded(classifier, ()) is classifier


def test_network_without_batch_normalisation_is_not_copied() -> None:
    classifier = build("vit_tiny_patch16_224", ("a", "b"), weights=None, image_size=64)
    assert folded(classifier, ()) is classifier
