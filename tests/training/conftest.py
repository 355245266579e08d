"""A table of twelve images, a network small enough to train in a moment, and ways to kill a training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from slim.data import ImageTable
from slim.network.build import wrap
from slim.network.classifier import Classifier
from slim.training import Training, TrainSettings, loop

SIZE = 16
FAST = TrainSettings(lr=0.05, epochs=3, batch_size=4, device="cpu", precision="32-true", weight_decay=0.0)


@pytest.fixture(autouse=True)
def _small_and_quiet(small_and_quiet: None) -> None:
    """In every test of this folder."""


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> ImageTable:
    """Twelve noisy images, the red ones of class 0 and the blue ones of class 1, bright and dark."""
    return color_table(tmp_path_factory.mktemp("images"), 12)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The (epoch, step) of each step that is taken."""
    taken: list[tuple[int, int]] = []
    real = loop.Loop._step

    def step(self: Any, *args: Any) -> None:
        taken.append((self.state.epoch, self.state.step))
        real(self, *args)

    monkeypatch.setattr(loop.Loop, "_step", step)
    return taken


def color_table(folder: Path, n: int) -> ImageTable:
    rng = np.random.default_rng(0)
    y, a = np.arange(n) % 2, np.arange(n) // 2 % 2
    paths = [folder / f"{i}.png" for i in range(n)]
    for path, label, bright in zip(paths, y, a, strict=True):
        pixels = rng.integers(0, 60, (SIZE, SIZE, 3))
        pixels[..., 2 * label] += 100 + 90 * bright
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    frame = pd.DataFrame({"path": list(map(str, paths)), "y": y, "a": a})
    return ImageTable(frame, ("red", "blue"), ("dark", "bright"), "train", np.full(4, 0.25))


class Net(nn.Module):
    """Everything that a resumed training could get wrong: batch norm, dropout, and two stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stage(self.stem(images)).mean((2, 3)))


def model_of(make: Callable[[], nn.Module] = Net, size: int = SIZE, seed: int = 0, **options: Any) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return wrap(make(), image_size=size, **options)


def state_of(model: Classifier) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_same_training(a: Training, b: Training) -> None:
    assert same(state_of(a.classifier), state_of(b.classifier))
    pd.testing.assert_frame_equal(a.history.drop(columns="seconds"), b.history.drop(columns="seconds"))
    assert a.best_epoch == b.best_epoch


VALIDATION = (loop, "_val_columns")
"""What runs once at the end of each epoch."""


class Killed(BaseException):
    """Stands for what ends a process."""


def kill_at(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int) -> Callable[[], None]:
    """Make a function raise at its n-th call, counted from 0; returns what undoes it."""
    real = getattr(owner, name)
    calls = iter(range(10**6))

    def killing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            raise Killed
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, killing)
    return lambda: monkeypatch.setattr(owner, name, real)
