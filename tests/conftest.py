"""Tiny photos with labels, groups, masks and boxes, and networks small enough for a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from slim.datasets import ImageTable
from slim.models import Classifier, evaluating, wrap
from slim.progress import quiet

WIDTH, HEIGHT = 24, 16


@pytest.fixture
def small_and_quiet() -> Iterator[None]:
    """No progress bars, and one thread: small networks only wait for each other's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with quiet():
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., ImageTable]:
    """A table of noisy photos, wider than high; its object is a box at another place in each photo."""

    def make(
        n: int = 8,
        *,
        n_classes: int = 2,
        attribute: bool = False,
        masks: bool = False,
        boxes: bool = False,
        split: str = "test",
        seed: int = 0,
    ) -> ImageTable:
        rng = np.random.default_rng(seed)
        rows = [_photo(tmp_path / f"{split}-{seed}-{i}", rng) for i in range(n)]
        frame = pd.DataFrame(rows, columns=["path", "mask", "box_x", "box_y", "box_width", "box_height"])
        frame.insert(1, "y", np.arange(n) % n_classes)
        if attribute:
            frame.insert(2, "a", np.arange(n) // n_classes % 2)
        unwanted = ([] if masks else ["mask"]) + ([] if boxes else [c for c in frame if c.startswith("box_")])
        names = tuple(f"class {k}" for k in range(n_classes))
        shares = np.full(2 * n_classes, 0.5 / n_classes) if attribute else None
        attribute_names = ("place=0", "place=1") if attribute else ()
        return ImageTable(frame.drop(columns=unwanted), names, attribute_names, split, shares)

    return make


def _photo(stem: Path, rng: np.random.Generator) -> tuple[str, str, float, float, float, float]:
    """Write a photo and its mask; return their paths and the box of the object."""
    x, y = int(rng.integers(0, 12)), int(rng.integers(0, 8))
    width, height = int(rng.integers(4, 12)), int(rng.integers(4, 8))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[y : y + height, x : x + width] = 255
    tint = rng.uniform(0, 1, 3)  # so that networks do not take all photos for the same class
    pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3)) * tint
    Image.fromarray(pixels.astype(np.uint8)).save(f"{stem}.png")
    Image.fromarray(mask).save(f"{stem}-mask.png")
    return f"{stem}.png", f"{stem}-mask.png", float(x), float(y), float(width), float(height)


@pytest.fixture
def small_classifier() -> Callable[..., Classifier]:
    """Two convolutions, global average pooling and a linear head, with random weights, for 16 x 16 photos."""

    def make(n_classes: int = 2, *, layer: str | None = None, seed: int = 0) -> Classifier:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
                nn.Conv2d(8, 12, 3, padding=1),
                nn.BatchNorm2d(12),
                nn.ReLU(inplace=True),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Dropout(0.5),
                nn.Linear(12, n_classes),
            )
            nn.init.normal_(module[-1].weight, std=3)
            images = torch.rand(64, 3, 16, 16) * torch.rand(64, 3, 1, 1) * 255
        names = [f"class {k}" for k in range(n_classes)]
        classifier = wrap(module, layer=layer, image_size=16, class_names=names)
        with torch.no_grad(), evaluating(module):  # so that every class is predicted for some photos
            module[-1].bias -= module(classifier.normalize(images.to(torch.uint8))).mean(0)
        return classifier

    return make
