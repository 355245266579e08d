"""Photos with a red sticker, and a model that goes by it, or only by the object."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from slim.data import Dataset, ImageTable
from slim.network.build import wrap
from slim.network.classifier import Classifier
from slim.stages.attend import Attention, SplitAttention
from slim.stages.explain.explain import explain
from slim.stages.explain.explanation import Explanation
from slim.stages.settings import ExplainSettings

GRID, CELL = 16, 2
SIZES = {"train": 140, "val": 64, "test": 4}
COLOURS = {"sticker": (250, 50, 50), "first": (100, 20, 180), "second": (100, 180, 20)}
KINDS = ("ground", "sticker", "first", "second")

World = tuple[Dataset, Classifier, Attention]


def _model(reliance: float) -> Classifier:
    """Linear in the mean colours: blue speaks for the first class, green for the second, red for the first."""
    weight = torch.tensor([[2.0, -1.0, -1.0]]) * reliance + torch.tensor([[0.0, -1.0, 1.0]])
    convolution, linear = nn.Conv2d(3, 3, 1, bias=False), nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        convolution.weight.copy_(torch.eye(3)[:, :, None, None])
        linear.weight.copy_(50 * torch.cat([weight, -weight]))
    module = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    side = GRID * CELL
    return wrap(module, image_size=side, mean=(0, 0, 0), std=(1, 1, 1), class_names=["first", "second"])


def _split(folder: Path, split: str, rng: np.random.Generator) -> tuple[ImageTable, np.ndarray]:
    """Photos, and the kind (n, GRID, GRID) of each of their places."""
    n, rows = SIZES[split], []
    kinds = np.zeros((n, GRID, GRID), np.int64)
    for i in range(n):
        y, turn = i % 2, i // 2
        stickered = (turn % 10 > 0) == (y == 0) if split == "train" else turn % 2 == 0
        top, left = rng.integers(4, 8, 2)
        kinds[i, top : top + 5, left : left + 5] = 2 + y
        if stickered:
            kinds[i, :3, :3] = 1
        pixels = rng.integers(90, 111, (GRID, GRID, 3), dtype=np.uint8)
        for kind, colour in enumerate(("sticker", "first", "second"), 1):
            pixels[kinds[i] == kind] = COLOURS[colour]
        path = folder / f"{split}-{i}.png"
        Image.fromarray(pixels.repeat(CELL, 0).repeat(CELL, 1)).save(path)
        rows.append({"path": str(path), "y": y})
    return ImageTable(pd.DataFrame(rows), ("first", "second"), split=split), kinds


def _attention(model: Classifier, table: ImageTable, kinds: np.ndarray) -> SplitAttention:
    """The model looks at everything but the ground; places say what they are, and a little noise."""
    n = len(table)
    noise = np.random.default_rng(n).integers(-3, 4, (n, GRID, GRID, len(KINDS)))
    places = (100 * np.eye(len(KINDS), dtype=np.int64)[kinds] + noise).astype(np.int8)
    images = np.stack([np.asarray(table.image(i)) for i in range(n)])
    with torch.no_grad():
        logits = model.module(model.normalize(torch.from_numpy(images).permute(0, 3, 1, 2)))
    empty = np.zeros((n, 1), np.float32)
    maps = (kinds > 0).astype(np.float32)
    return SplitAttention(maps, empty, empty, empty, empty, logits.softmax(1).numpy(), places)


@pytest.fixture(scope="session")
def stickers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], World]:
    """A sticker on most photos of the first class; half of those of val have one, in either class.

    Takes how strongly the model goes by it: 0 = not at all.
    """

    def make(reliance: float) -> World:
        rng, model, folder = np.random.default_rng(0), _model(reliance), tmp_path_factory.mktemp("stickers")
        tables, attentions = {}, {}
        for split in SIZES:
            tables[split], kinds = _split(folder, split, rng)
            attentions[split] = _attention(model, tables[split], kinds)
        return Dataset(**tables, fingerprint="0123456789abcdef", name="stickers"), model, Attention(**attentions)

    return make


@pytest.fixture(scope="session")
def explained(stickers: Callable[[float], World]) -> Callable[[float], Explanation]:
    """What is found about a model that goes by the sticker so strongly; computed once."""

    @cache
    def make(reliance: float) -> Explanation:
        return explain(*stickers(reliance), ExplainSettings(clusters=6, images=40))

    return make
