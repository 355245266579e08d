"""What wrapping a network of one's own refuses, and what it says is at fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.network.conftest import outputs
from torch import Tensor, nn

from slim.errors import ModelError
from slim.network.build import wrap

pytestmark = [
    pytest.mark.usefixtures("small_and_quiet"),
    pytest.mark.filterwarnings("ignore:.*deprecated.*"),  # what is refused
]


def network(classes: int = 2, channels: int = 3, *more: nn.Module) -> nn.Sequential:
    layers = [nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)]
    return nn.Sequential(*layers, *more)


class Applied(nn.Module):
    """A network whose output is changed by a function, not by a module."""

    def __init__(self, change: Any, classes: int = 2) -> None:
        super().__init__()
        self.net, self.change = network(classes), change

    def forward(self, images: Tensor) -> Any:
        return self.change(self.net(images))


@pytest.mark.parametrize(
    "module",
    [
        network(2, 3, nn.Softmax(1)),
        network(3, 3, nn.Sigmoid()),
        network(1, 3, nn.Sigmoid()),
        network(2, 3, nn.Softmax(1), nn.Identity()),
        Applied(lambda logits: logits.softmax(1)),
    ],
    ids=["softmax", "sigmoid", "a single sigmoid", "softmax, then nothing", "function"],
)
def test_probabilities_are_refused(module: nn.Module) -> None:
    with pytest.raises(ModelError, match=r"must return logits\. Got probabilities\."):
        wrap(module, image_size=8)


def test_logarithms_of_probabilities_are_logits() -> None:
    module = network(2)
    plain, logarithms = wrap(module, image_size=8), wrap(nn.Sequential(module, nn.LogSoftmax(1)), image_size=8)
    torch.testing.assert_close(outputs(plain).softmax(1), outputs(logarithms).softmax(1))


@pytest.mark.parametrize("channels", [1, 4])
def test_another_number_of_channels_is_named(channels: int) -> None:
    with pytest.raises(ModelError, match=rf"three channels\. Got a first convolution of {channels}\.") as error:
        wrap(network(2, channels), image_size=8)
    assert "--image-size" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_another_type_is_named(dtype: torch.dtype) -> None:
    with pytest.raises(ModelError, match=rf"float32\. Got 0\.weight in {str(dtype)[6:]}\. Pass module\.float"):
        wrap(network().to(dtype), image_size=8)


def test_a_part_of_another_type_is_named() -> None:
    module = network()
    module[4].half()
    with pytest.raises(ModelError, match=r"Got 4\.weight in float16"):
        wrap(module, image_size=8)


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        ({"mean": [0.5]}, "mean .* Got 0.5"),
        ({"mean": (0.5, 0.5)}, "mean .* Got 0.5, 0.5"),
        ({"mean": (123.7, 116.3, 103.5)}, "mean .* Got 123.7, 116.3, 103.5"),
        ({"mean": (0.5, float("nan"), 0.5)}, "mean .* Got 0.5, nan, 0.5"),
        ({"std": (58.4, 57.1, 57.4)}, "std .* Got 58.4, 57.1, 57.4"),
        ({"std": (0.2, 0.0, 0.2)}, "std .* Got 0.2, 0, 0.2"),
        ({"std": (0.2, -0.2, 0.2)}, "std .* Got 0.2, -0.2, 0.2"),
        ({"image_size": (32, 48)}, r"image_size .* Got \(32, 48\)"),
        ({"image_size": 0}, "image_size .* Got 0"),
        ({"image_size": 8.5}, "image_size .* Got 8.5"),
    ],
)
def test_an_input_that_cannot_be_is_refused(wrong: dict[str, Any], got: str) -> None:
    with pytest.raises(ModelError, match=got):
        wrap(network(), **{"image_size": 8, **wrong})


def test_means_and_deviations_may_be_tensors() -> None:
    classifier = wrap(network(), image_size=8, mean=torch.full((3,), 0.5), std=torch.full((3,), 0.25))
    assert (classifier.mean, classifier.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def inner(module: nn.Sequential, change: Any) -> nn.Sequential:
    """The network with its first layer changed."""
    module[0] = change(module[0])
    return module


@pytest.mark.parametrize(
    "make",
    [
        torch.jit.script,
        lambda module: torch.jit.trace(module, torch.zeros(1, 3, 8, 8)),
        lambda module: inner(module, torch.jit.script),
    ],
    ids=["scripted", "traced", "first layer scripted"],
)
def test_torchscript_is_refused(make: Callable[[nn.Module], nn.Module]) -> None:
    with pytest.raises(ModelError, match=r"plain PyTorch module, .* Got a TorchScript module\."):
        wrap(make(network().eval()), image_size=8)


def test_a_quantised_network_is_refused() -> None:
    module = torch.ao.quantization.quantize_dynamic(network().eval(), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(ModelError, match=r"Got 4\..*, which is quantised or no tensor\."):
        wrap(module, image_size=8)


def test_an_error_without_a_text_is_named() -> None:
    def fail(logits: Tensor) -> Tensor:
        raise AssertionError

    with pytest.raises(ModelError, match="Got: AssertionError"):
        wrap(Applied(fail), image_size=8)
