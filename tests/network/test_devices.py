"""Automatic device and precision, and what the caller has switched on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from slim.network.build import build, wrap
from slim.network.classifier import Classifier
from slim.network.devices import device_of, resolve_precision, undisturbed
from slim.network.gradcam import GradCam, Method


def test_automatic_precision_is_only_bfloat16_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert resolve_precision("auto", cpu) == "32-true"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert resolve_precision("auto", cpu) == "bf16-mixed"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert resolve_precision("auto", torch.device("cuda")) == "16-mixed"
    assert resolve_precision("16-mixed", cpu) == "16-mixed"


@contextmanager
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CONTEXTS = [
    torch.no_grad,
    torch.inference_mode,
    lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    double,
    lambda: torch.device("meta"),  # as a GPU by torch.set_default_device
]
NAMES = ["no_grad", "inference_mode", "autocast", "float64", "device"]
Context = Callable[[], AbstractContextManager[None]]


def maps(classifier: Classifier, method: Method) -> Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16), dtype=np.uint8)
    with GradCam(classifier, method, "32-true") as cam:
        return cam(torch.from_numpy(pixels)).maps(torch.tensor([0, 1, 0], device="cpu"))


@pytest.mark.usefixtures("small_and_quiet")
@pytest.mark.parametrize("context", CONTEXTS, ids=NAMES)
@pytest.mark.parametrize("method", ["closed-form", "autograd"])
def test_maps_do_not_depend_on_what_the_caller_has_switched_on(
    small_classifier: Callable[..., Classifier], context: Context, method: Method
) -> None:
    plain = small_classifier()
    expected = maps(plain, method)
    with context():
        within = maps(wrap(plain.module, image_size=16), method)
    assert within.dtype == torch.float32
    torch.testing.assert_close(within.clone(), expected, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("small_and_quiet")
@pytest.mark.parametrize("context", CONTEXTS, ids=NAMES)
def test_networks_made_within_are_ordinary_ones(context: Context) -> None:
    with context():
        built = build("resnet10t", ["cat", "dog"], weights=None, image_size=32)
    assert not any(
        values.is_inference() or values.is_meta or values.dtype != torch.float32 for values in built.module.parameters()
    )


def test_a_network_made_in_inference_mode_can_be_differentiated() -> None:
    with torch.inference_mode():
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        assert maps(wrap(module, image_size=16), "autograd").shape == (3, 14, 14)


def test_what_the_caller_has_switched_on_is_on_again_afterwards() -> None:
    with double(), torch.inference_mode(), torch.autocast("cpu"):
        with undisturbed():
            assert torch.get_default_dtype() == torch.float32
        assert torch.get_default_dtype() == torch.float64
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")


def test_undisturbed_gradients_stay_switched_off() -> None:
    with torch.no_grad(), undisturbed():
        assert not torch.is_grad_enabled()


def test_the_device_of_a_network_without_parameters_is_that_of_its_buffers() -> None:
    module = nn.BatchNorm2d(3, affine=False, device="meta")
    assert device_of(module).type == "meta"
    assert device_of(nn.ReLU()).type == "cpu"


@pytest.mark.usefixtures("small_and_quiet")
def test_a_network_without_parameters_is_looked_at() -> None:
    classifier = wrap(nn.Sequential(nn.AvgPool2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), image_size=16)
    assert maps(classifier, "auto").shape == (3, 8, 8)
