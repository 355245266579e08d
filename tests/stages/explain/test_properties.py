"""Simple properties associated with a class are found, and chance is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from slim.data import ImageTable
from slim.network.classifier import Classifier
from slim.stages.explain.properties import CORNERS, Property, measure_properties, related_properties
from slim.stages.explain.regions import MeasuredImages, with_swapped_regions
from slim.stages.settings import ExplainSettings

pytestmark = pytest.mark.usefixtures("small_and_quiet")

NAMES = ("cat", "dog")


def _related(frame: pd.DataFrame, y: np.ndarray) -> tuple[Property, ...]:
    return related_properties(frame, y, frame, y, np.ones(len(y), bool), NAMES)


def _table(folder: Path, photos: dict[str, Image.Image]) -> ImageTable:
    for name, photo in photos.items():
        photo.save(folder / f"{name}.png")
    rows = [{"path": str(folder / f"{name}.png"), "y": 0} for name in photos]
    return ImageTable(pd.DataFrame(rows), NAMES)


def test_properties_are_of_what_they_are_named_after(tmp_path: Path) -> None:
    grey, noise = np.full((40, 80, 3), 120, np.uint8), np.random.default_rng(0).integers(0, 255, (40, 80, 3))
    corners = grey.copy()
    corners[:5, :10] = corners[:5, -10:] = corners[-5:, :10] = 0
    photos = {"grey": grey, "noise": noise.astype(np.uint8), "corners": corners, "red": grey * [1, 0, 0]}
    images = {name: Image.fromarray(np.asarray(pixels, np.uint8)) for name, pixels in photos.items()}
    frame = measure_properties(_table(tmp_path, images)).set_index(pd.Index(list(photos)))
    assert frame["sharpness"].idxmax() == "noise"
    assert frame["brightness of the corners"].idxmin() in ("corners", "red")
    assert frame.loc["corners", "brightness of the corners"] < 40 < frame.loc["corners", "brightness"]
    assert frame["warmth"].idxmax() == frame["saturation"].idxmax() == "red"
    assert frame["aspect"].tolist() == [2.0] * 4
    assert frame.loc["grey", "brightness"] == pytest.approx(120, abs=1)


def test_one_dark_corner_does_not_count(tmp_path: Path) -> None:
    pixels = np.full((64, 64, 3), 200, np.uint8)
    pixels[:8, :8] = 0
    frame = measure_properties(_table(tmp_path, {"one": Image.fromarray(pixels)}))
    assert frame["brightness of the corners"].iloc[0] == pytest.approx(200, abs=2)


def test_rare_unusual_values_of_one_class_are_found_although_levels_are_alike() -> None:
    rng, y = np.random.default_rng(0), np.arange(1000) % 2
    values = rng.uniform(80, 120, 1000)
    values[np.flatnonzero(y == 1)[:25]] = 5
    values[np.flatnonzero(y == 0)[:3]] = 5
    (one,) = _related(pd.DataFrame({"brightness of the corners": values}), y)
    assert (one.class_name, one.kind, one.n) == ("dog", "low", 28)
    assert one.low > one.expected == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_chance_is_not_found(seed: int) -> None:
    rng, y = np.random.default_rng(seed), np.arange(300) % 2
    frame = pd.DataFrame(rng.standard_t(3, (300, 11)), columns=[f"property {i}" for i in range(11)])
    assert _related(frame, y) == ()


def test_a_constant_property_and_a_lone_class_are_no_relation() -> None:
    y = np.arange(60) % 2
    assert _related(pd.DataFrame({"size": np.ones(60)}), y) == ()
    assert _related(pd.DataFrame({"size": np.arange(60.0)}), np.zeros(60, np.int64)) == ()


def test_accuracy_is_told_apart_where_the_property_speaks_for_another_class() -> None:
    y = np.arange(400) % 2
    bright = np.where(np.arange(400) % 8 < 6, y, 1 - y)
    frame = pd.DataFrame({"brightness": 100.0 + 50 * bright + np.arange(400) % 5})
    (one,) = related_properties(frame, y, frame, y, bright == y, NAMES)
    assert (one.accuracy_usual, one.accuracy_unusual) == (1.0, 0.0)
    assert (one.n_usual, one.n_unusual) == (300, 100)


@pytest.mark.parametrize("n_classes", [3])
def test_each_of_several_classes_is_compared_with_the_others(n_classes: int, photos: Callable[..., ImageTable]) -> None:
    y = np.arange(300) % n_classes
    frame = pd.DataFrame({"warmth": np.where(y == 2, 50.0, 0.0) + np.arange(300) % 7})
    names = tuple(photos(3, n_classes=n_classes).class_names)
    related = related_properties(frame, y, frame, y, y >= 0, names)
    assert related[0].class_name == "class 2"
    assert related[0].effect == 1.0


def test_only_unusual_corners_are_swapped(tmp_path: Path, small_classifier: Callable[..., Classifier]) -> None:
    rng, y, shade = np.random.default_rng(0), np.arange(40) % 2, np.repeat([0, 1], 20)
    for i in range(40):
        pixels = rng.integers(90, 110, (32, 32, 3), dtype=np.uint8)
        if shade[i]:
            pixels[:5, :5] = pixels[:5, -5:] = pixels[-5:, :5] = 0
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    table = ImageTable(pd.DataFrame({"path": [str(tmp_path / f"{i}.png") for i in range(40)], "y": y}), NAMES)
    images = MeasuredImages(table, measure_properties(table), np.ones(40, bool))
    one = Property(CORNERS, "dog", "low", 20, 0.8, 0.7, 0.9, 0.5, 0, None, 0, None, limit=60.0)
    level = Property("warmth", "dog", "level", 40, 0.8, 0.7, 0.9, 0.5, 0, None, 0, None, limit=0.0)
    settings = ExplainSettings(images=10)
    found, kept = with_swapped_regions([one, level], images, images, small_classifier(), settings, seed=0)
    assert found.needs is not None
    assert found.needs.n == 10
    assert kept == level
    corners = images.scene(one, np.ones((16, 16), bool))
    assert corners.shown.tolist() == (shade == 1).tolist()
    assert not corners.cells[shade == 0].any()
