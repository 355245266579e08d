"""Tiny photos with labels, groups, masks and boxes, and networks small enough for a test."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import settings
from PIL import Image
from torch import nn

from slim.cli.main import main
from slim.data import ImageTable
from slim.errors import SlimWarning
from slim.network.build import wrap
from slim.network.classifier import Classifier
from slim.network.tracing import evaluating
from slim.progress import quiet
from slim.runs.run import run

WIDTH, HEIGHT = 24, 16

# A busy machine is slow, which is no failure.
settings.register_profile("slim", deadline=None)
settings.load_profile("slim")


_CALLS: list[str] = []  # to other machines, whoever tried them


def _forbid_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what leaves this machine: a connection, or the address of a name."""
    if event not in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        return
    address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
    host = address[0] if isinstance(address, tuple) else address
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    if not (name in ("", "localhost", "::1", "0.0.0.0", socket.gethostname()) or name.startswith(("127.", "/", "\0"))):
        _CALLS.append(f"{event} {name}")
        raise PermissionError(f"A test must not reach other machines. Got {event} to {name}.")


sys.addaudithook(_forbid_network)


@pytest.fixture(autouse=True)
def calls_to_other_machines() -> Iterator[list[str]]:
    """What tried to leave this machine during a test, also if its error was caught; what was meant is to be cleared."""
    _CALLS.clear()
    yield _CALLS
    assert _CALLS == []


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


BACKGROUNDS = ((40, 40, 60), (90, 90, 110), (160, 160, 180))
OBJECTS = ((220, 60, 60), (60, 220, 60), (60, 60, 220))


def _composed(folder: Path, n_classes: int, sizes: tuple[int, int, int]) -> Path:
    """A data set in the layout of Waterbirds: coloured squares, most of them before their class's usual grey."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for split, size in zip(("train", "val", "test"), sizes, strict=True):
        for i in range(size):
            y, turn = i % n_classes, i // n_classes
            place = (y + (turn % 10 > 7 if split == "train" else turn % 2)) % 2
            x, top = (int(value) for value in rng.integers(2, 20, 2))
            mask = np.zeros((36, 40), np.uint8)
            mask[top : top + 14, x : x + 14] = 255
            pixels = rng.integers(0, 40, (36, 40, 3), dtype=np.uint8) + np.array(BACKGROUNDS[place], np.uint8)
            pixels[mask > 0] = OBJECTS[y]
            name = f"{split}{i:03}.png"
            Image.fromarray(pixels).save(folder / "images" / name)
            Image.fromarray(mask).save(folder / "masks" / name)
            row = {"img_filename": f"images/{name}", "y": y, "split": split, "place": place}
            box = {"box_x": x, "box_y": top, "box_width": 14, "box_height": 14}
            rows.append(row | {"mask_filename": f"masks/{name}"} | box)
    pd.DataFrame(rows).to_csv(folder / "metadata.csv", index=False)
    return folder


@pytest.fixture
def squares(tmp_path: Path) -> Callable[..., Path]:
    """Composes a folder of squares with metadata.csv: place as the spurious attribute, masks and boxes."""

    def make(
        name: str = "squares",
        *,
        n_classes: int = 2,
        drop: Sequence[str] = (),
        sizes: tuple[int, int, int] = (48, 16, 16),
    ) -> Path:
        folder = _composed(tmp_path / name, n_classes, sizes)
        table = pd.read_csv(folder / "metadata.csv")
        table.drop(columns=[c for c in table if c.startswith(tuple(drop))] if drop else []).to_csv(
            folder / "metadata.csv", index=False
        )
        return folder

    return make


TINY: dict[str, dict[str, object]] = {
    "train": {"arch": "resnet10t", "weights": "none", "image_size": 32, "epochs": 1, "lr": 0.05, "device": "cpu"},
    "annotate": {"budget": 4},
    "curate": {"size": 12},
}


@pytest.fixture(scope="session")
def tiny() -> dict[str, dict[str, object]]:
    """Settings with which a whole run takes seconds."""
    return TINY


@pytest.fixture(scope="session")
def tiny_options() -> list[str]:
    """The same on the command line of `slim run`."""
    pairs = ((stage, name, value) for stage, values in TINY.items() for name, value in values.items())
    return [text for stage, name, value in pairs for text in (f"--{stage}.{name.replace('_', '-')}", str(value))]


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished run and its data."""
    data = _composed(tmp_path_factory.mktemp("shared") / "squares", 2, (48, 16, 16))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", SlimWarning)
        run(data.parent / "run", data=data, settings=TINY)
    torch.set_num_threads(threads)
    return data.parent / "run", data


@pytest.fixture
def finished_run(_finished: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of a run that went through, with its data beside it; the test may change both."""
    run_folder, data = _finished
    shutil.copytree(data, tmp_path / "data")
    shutil.copytree(run_folder, tmp_path / "run")
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    settings["data"]["source"] = str(tmp_path / "data")
    del settings["digest"]
    (tmp_path / "run" / "settings.json").write_text(json.dumps(settings))
    return tmp_path / "run"


@pytest.fixture
def slim_command() -> Callable[..., Result]:
    """Runs ``slim`` with these words, in this process: gives exit_code, stdout and stderr."""

    def call(*words: object, **options: Any) -> Result:
        result = CliRunner().invoke(main, [str(word) for word in words], prog_name="slim", **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call
