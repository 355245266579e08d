"""The features of places against their definitions: components of a matrix, and layers on one grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from slim.network import places
from slim.network.build import wrap
from slim.network.choices import Precision
from slim.network.places import COMPONENTS, GRID, PlaceBasis, PlaceRecorder

pytestmark = pytest.mark.usefixtures("small_and_quiet")


def test_components_are_those_of_the_covariance_in_standard_deviations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_SAMPLED", GRID * GRID)  # every place
    generator = torch.Generator().manual_seed(0)
    scale = torch.logspace(1, 0, 45)[:, None, None]
    grids = [torch.randn(n, 45, GRID, GRID, generator=generator) * scale + 2 for n in (3, 2)]
    basis = PlaceBasis.fit(grids)
    rows = np.concatenate([grid.permute(0, 2, 3, 1).reshape(-1, 45).numpy() for grid in grids]).astype(np.float64)
    centred = rows - rows.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
    largest = vectors.T[::-1][:COMPONENTS]
    largest *= np.where(largest.sum(1) < 0, -1, 1)[:, None]
    expected = centred @ (largest / np.sqrt(values[::-1][:COMPONENTS, None])).T
    found = torch.cat([basis(grid) for grid in grids]).reshape(-1, COMPONENTS)
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_sample_is_of_different_places_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_SAMPLED", 3)
    numbers = torch.arange(2 * GRID * GRID, dtype=torch.float32).reshape(2, 1, GRID, GRID)
    drawn = [places._sampled(numbers, torch.Generator().manual_seed(seed)).flatten().tolist() for seed in (0, 0, 1)]
    assert [len(set(one)) for one in drawn] == [6, 6, 6]
    assert drawn[0] == drawn[1] != drawn[2]


def _recorded(size: int, precision: Precision = "32-true") -> tuple[torch.Tensor, torch.Tensor]:
    """Features of places as a small network's only layer with a grid gives them, and that layer's output."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3, padding=1)
    network = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    classifier = wrap(network, image_size=size, layer="0", mean=(0, 0, 0), std=(1, 1, 1))
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    with PlaceRecorder(classifier, size, precision) as recorder, torch.no_grad():
        found = recorder(images)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            return found, layer(images / 255).float()


@pytest.mark.parametrize("size", [8, 16, 48])
def test_features_of_a_layer_have_length_one_and_are_brought_to_the_grid(size: int) -> None:
    found, output = _recorded(size)
    unit = output / output.norm(dim=1, keepdim=True)
    if size > GRID:
        step = size // GRID
        expected = unit.reshape(2, 4, GRID, step, GRID, step).mean((3, 5))
    else:
        expected = nn.functional.interpolate(unit, (GRID, GRID), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_features_are_computed_in_the_precision_that_is_asked_for() -> None:
    (found, output), (exact, _) = _recorded(GRID, "bf16-mixed"), _recorded(GRID)
    torch.testing.assert_close(found, output / output.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_not_finite_counts_as_nothing(value: str) -> None:
    output = torch.rand(1, 3, GRID, GRID, generator=torch.Generator().manual_seed(0))
    spoiled, without = output.clone(), output.clone()
    spoiled[0, 1, 4, 5], without[0, 1, 4, 5] = float(value), 0.0
    torch.testing.assert_close(places._resized(spoiled), places._resized(without))
