"""Places: which layers see them, what they are compressed to, and what is left alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.network.conftest import NAMES
from torch import Tensor

from slim.errors import ModelError
from slim.network import places
from slim.network.build import build, wrap
from slim.network.classifier import Classifier
from slim.network.places import COMPONENTS, GRID, PlaceBasis, PlaceRecorder, place_network
from slim.network.tracing import find_place_layers

pytestmark = pytest.mark.usefixtures("small_and_quiet")


def network(arch: str = "resnet10t", size: int = 64) -> Classifier:
    return build(arch, NAMES, weights=None, image_size=size)


def images(n: int, size: int = 64, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("arch", "layers"),
    [
        ("resnet10t", ("layer2", "layer3", "layer4")),
        ("tf_efficientnet_lite0", ("blocks.2", "blocks.4", "bn2")),
        ("vit_tiny_patch16_224", ("blocks.5.norm1", "blocks.8.norm1", "blocks.11.norm1")),
    ],
)
def test_layers_are_of_three_depths(arch: str, layers: tuple[str, ...]) -> None:
    size = 224 if arch.startswith("vit") else 64
    classifier = network(arch, size)
    found = find_place_layers(classifier.module, classifier.layer, size)
    assert found[-1] == classifier.layer
    assert found == layers


def test_layer_without_any_like_it_is_alone() -> None:
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    )
    assert find_place_layers(module, "0", 16) == ("0",)


@pytest.mark.parametrize(("arch", "size", "width"), [("resnet10t", 64, 896), ("vit_tiny_patch16_224", 224, 3 * 192)])
def test_each_place_is_described_by_every_layer_alike(arch: str, size: int, width: int) -> None:
    with PlaceRecorder(network(arch, size), size) as recorder:
        grid = recorder(images(2, size))
        assert grid.shape == (2, width, GRID, GRID)
        parts = grid.split([width // 3] * 3 if arch.startswith("vit") else [128, 256, 512], 1)
    for part in parts:  # of length 1 before they were resized
        lengths = part.norm(dim=1)
        assert lengths.max() < 1.001
        assert lengths.mean() > 0.3


def test_each_component_has_a_standard_deviation_of_one() -> None:
    generator = torch.Generator().manual_seed(0)
    scale = torch.logspace(0, -2, 60)[:, None, None]
    grids = [torch.randn(8, 60, GRID, GRID, generator=generator) * scale + 3 for _ in range(4)]
    basis = PlaceBasis.fit(grids)
    described = torch.cat([basis(grid) for grid in grids])
    assert described.shape == (32, GRID, GRID, COMPONENTS)
    values = described.reshape(-1, COMPONENTS)
    assert values.mean(0).abs().max() < 0.06
    assert (values.std(0) - 1).abs().max() < 3 / 32
    again = PlaceBasis.fit(grids)
    assert torch.equal(again.components, basis.components)


def test_components_that_fewer_features_cannot_have_are_zero() -> None:
    grid = torch.randn(4, 5, GRID, GRID, generator=torch.Generator().manual_seed(0))
    described = PlaceBasis.fit([grid])(grid)
    assert described.shape == (4, GRID, GRID, COMPONENTS)
    assert (described[..., :5] != 0).any((0, 1, 2)).all()
    assert (described[..., 5:] == 0).all()


@pytest.mark.parametrize("d", [5, 300])
@pytest.mark.parametrize("spread", [0.0, 1e-20, 1.0])
def test_equal_images_have_a_basis(d: int, spread: float) -> None:
    one = 3 + spread * torch.randn(1, d, GRID, GRID, generator=torch.Generator().manual_seed(0))
    basis = PlaceBasis.fit([one.expand(8, -1, -1, -1)] * 2)
    assert basis.components.isfinite().all()
    assert torch.equal(*basis(one.expand(2, -1, -1, -1)))


def test_network_is_left_as_it_was() -> None:
    classifier = network()
    classifier.module.train()
    before = {name: value.clone() for name, value in classifier.module.state_dict().items()}
    with pytest.raises(KeyError), PlaceRecorder(classifier, 64) as recorder:
        recorder(images(2))
        assert not recorder.network.module.training
        raise KeyError("inside")
    assert not any(child._forward_hooks for child in classifier.module.modules())
    assert classifier.module.training
    assert all(torch.equal(before[name], value) for name, value in classifier.module.state_dict().items())


def test_values_that_are_not_finite_become_zero() -> None:
    classifier = network()

    def spoil(_: object, __: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[0, :, 0, 0] = float("nan")
        return output

    handle = classifier.module.get_submodule(classifier.layer).register_forward_hook(spoil)
    with PlaceRecorder(classifier, 64) as recorder:
        assert recorder(images(2)).isfinite().all()
    handle.remove()


def test_what_describes_places_is_the_pretrained_network_or_else_the_reference(
    small_classifier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = small_classifier()
    assert place_network(reference, "resnet10t", None) == (reference, 16)
    asked: list[Any] = []

    def pretrained(arch: str, names: Any, *, weights: str) -> Classifier:
        asked.append((arch, weights))
        return network(arch, 96)

    monkeypatch.setattr(places, "build", pretrained)
    described_by, side = place_network(reference, "resnet10t", "imagenet")
    assert (asked, described_by.arch, side) == ([("resnet10t", "imagenet")], "resnet10t", 224)

    def unavailable(*_: object, **__: object) -> Classifier:
        raise ModelError("The weights must be on this machine. Got none. Download them.")

    monkeypatch.setattr(places, "build", unavailable)
    assert place_network(reference, "resnet10t", "imagenet") == (reference, 16)


def test_nothing_is_downloaded_for_places_unless_wanted(
    small_classifier: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    reference, asked = small_classifier(), []
    monkeypatch.setattr(places, "build", lambda arch, *_, weights: asked.append((arch, weights)) or network(arch, 96))
    for arch in ("resnet10t", "torchvision:resnet18"):
        assert place_network(reference, arch, "imagenet", download=False) == (reference, 16)
    assert asked == []
    file = str(tmp_path / "weights.pt")
    place_network(reference, "resnet10t", file, download=False)
    assert asked == [("resnet10t", file)]


def test_network_of_one_size_is_shown_images_of_that_size(
    monkeypatch: pytest.MonkeyPatch, small_classifier: Any
) -> None:
    fixed = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 30 * 30, 2)
    )
    monkeypatch.setattr(places, "build", lambda *_, **__: wrap(fixed, image_size=32, layer="1"))
    assert place_network(small_classifier(), "fixed", "imagenet")[1] == 32
