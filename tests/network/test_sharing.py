"""Copies that share parameters: of compiled, of traced and of ordinary networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.network.conftest import outputs
from torch import nn

from slim.network.build import wrap
from slim.network.classifier import Classifier
from slim.network.gradcam import GradCam
from slim.network.sharing import uncompiled

pytestmark = pytest.mark.usefixtures("small_and_quiet")


def maps(classifier: Classifier) -> torch.Tensor:
    with GradCam(classifier) as cam:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=generator)
        return cam(images).maps(torch.tensor([0, 1, 0]))


def compiled_part(module: nn.Module) -> nn.Module:
    """The network within another, as a compiled part."""
    return nn.Sequential(nn.Identity(), torch.compile(module, backend="eager"))


def compiled_in_place(module: nn.Module) -> nn.Module:
    module.compile(backend="eager")
    return module


@pytest.mark.parametrize(
    "compiled",
    [
        lambda module: torch.compile(module, backend="eager"),
        compiled_part,
        compiled_in_place,
        lambda module: nn.Sequential(compiled_in_place(module)),
        torch.fx.symbolic_trace,
    ],
    ids=["whole", "part", "in place", "part in place", "fx"],
)
def test_a_compiled_or_traced_network_is_looked_at_like_a_plain_one(
    small_classifier: Callable[..., Classifier], compiled: Callable[[nn.Module], nn.Module]
) -> None:
    plain = small_classifier()
    expected, logits = maps(plain), outputs(plain)
    classifier = wrap(compiled(plain.module), image_size=16)
    torch.testing.assert_close(maps(classifier), expected)
    assert classifier.linear.weight is plain.linear.weight
    doubled = classifier.with_head(2 * classifier.linear.weight, 2 * classifier.linear.bias)
    torch.testing.assert_close(outputs(doubled), 2 * logits)
    torch.testing.assert_close(outputs(classifier), logits)


def test_the_callers_network_stays_compiled() -> None:
    module = nn.Sequential(torch.compile(nn.Linear(2, 2), backend="eager"))
    assert uncompiled(module) is not module
    assert isinstance(module[0], torch._dynamo.OptimizedModule)
    module = compiled_in_place(nn.Sequential(nn.Linear(2, 2)))
    assert uncompiled(module)._compiled_call_impl is None
    assert module._compiled_call_impl is not None
