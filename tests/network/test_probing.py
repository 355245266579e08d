"""What is said about an adopted network before it is used."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn

from slim.data import ImageTable
from slim.errors import ModelError, SlimWarning
from slim.network.build import wrap
from slim.network.classifier import Classifier
from slim.network.probing import probe
from slim.network.sharing import independent_copy

pytestmark = pytest.mark.usefixtures("small_and_quiet")


class Head(nn.Module):
    """A convolution, and logits made of its output."""

    def __init__(self, make: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.make = nn.Conv2d(3, 2, 3, 2), make
        nn.init.normal_(self.conv.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.make(self.conv(images).mean((2, 3)))


def model(make: Callable[[torch.Tensor], torch.Tensor]) -> Classifier:
    return wrap(Head(make), image_size=16)


def unsteady(share: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Makes logits that are a share larger or smaller than the last ones, in turn."""
    signs = itertools.cycle((1, -1))
    return lambda means: (means - means.mean(1, keepdim=True)) * (1 + share * next(signs))


def test_a_network_that_rounds_otherwise_in_each_pass_passes(photos: Callable[..., ImageTable]) -> None:
    probe(model(unsteady(0.001)), photos(16))  # as on a GPU, whose sums can have another order each time


def test_a_network_that_looks_at_the_images_passes(photos: Callable[..., ImageTable]) -> None:
    probe(model(lambda means: means - means.mean(1, keepdim=True)), photos(16))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda means: means * 0 + torch.tensor([0.0, 3.0]), "Got zero gradients at conv for 16 images"),
        (lambda means: means.detach(), "Got logits without a gradient at conv"),
        (lambda means: means / (means.abs() < 0), "Got NaN or infinite ones"),
        (lambda means: means - means.mean(0), "Got others for an image alone than in a batch of 8"),
        (unsteady(0.1), "Got others in a second pass"),
    ],
    ids=["ignores", "detached", "infinite", "beside", "random"],
)
def test_a_network_that_cannot_be_explained_is_refused(
    photos: Callable[..., ImageTable], make: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        probe(model(make), photos(16))


def test_a_network_that_keeps_its_activations_can_be_copied_afterwards(photos: Callable[..., ImageTable]) -> None:
    classifier = model(lambda means: means - means.mean(1, keepdim=True))
    conv = classifier.module.get_submodule("conv")
    conv.register_forward_hook(lambda child, _, output: setattr(child, "kept", output))
    probe(classifier, photos(16))
    independent_copy(conv)


def test_a_network_that_knows_one_class_is_told(photos: Callable[..., ImageTable]) -> None:
    with pytest.warns(SlimWarning, match="takes all of 16 images for class '1', which is right for 50%"):
        probe(model(lambda means: means + torch.tensor([0.0, 99.0])), photos(16))
