"""A pool of small images whose right half is the object, queries over it, the stage's inputs, and annotators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from slim import Attention, Dataset, Queries, Query, RecordedAnswers, Space, SplitAttention
from slim.data import ImageTable
from slim.stages.annotate.annotator import Oracle

Inputs = tuple[Dataset, Attention, Space]

SIDE = 12
ON_OBJECT = np.array([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
BESIDE = ON_OBJECT[:, ::-1].copy()


@pytest.fixture
def pool(tmp_path: Path) -> ImageTable:
    """Eight images, four per class; masks and boxes say that the object is the right half; the last has no mask."""
    folder = tmp_path / "pool"
    folder.mkdir()
    region = np.zeros((SIDE, SIDE), np.uint8)
    region[:, SIDE // 2 :] = 255
    Image.fromarray(region).save(folder / "mask.png")
    rows = []
    for i in range(8):
        path = folder / f"{i}.png"
        Image.new("RGB", (SIDE, SIDE), (20 * i, 90, 200 - 20 * i)).save(path)
        mask = "" if i == 7 else str(folder / "mask.png")
        rows.append((str(path), i // 4, mask, SIDE / 2, 0.0, SIDE / 2, float(SIDE)))
    columns = ["path", "y", "mask", "box_x", "box_y", "box_width", "box_height"]
    return ImageTable(pd.DataFrame(rows, columns=columns), ("cat", "n/a dog"))


@pytest.fixture
def ask_about(pool: ImageTable) -> Callable[..., Queries]:
    """Queries about the pool's images at these positions; by default the maps lie on the object."""

    def make(*index: int, maps: np.ndarray | None = None) -> Queries:
        positions = np.array(index, dtype=np.int64)
        table = pool[positions]
        maps = np.repeat(ON_OBJECT[None], len(index), axis=0) if maps is None else maps
        return Queries(positions, table.y, table, maps, table.class_names)

    return make


@pytest.fixture
def without() -> Callable[..., ImageTable]:
    """A table without some of its columns."""

    def drop(table: ImageTable, *columns: str) -> ImageTable:
        return replace(table, frame=table.frame.drop(columns=list(columns)))

    return drop


@pytest.fixture
def inputs(pool: ImageTable) -> Callable[..., Inputs]:
    """What the stage reads: the pool as every split, its attention, by default on the object, and a space of it."""

    def make(*, maps: np.ndarray | None = None, pool_split: str = "train") -> Inputs:
        rng = np.random.default_rng(0)
        n = len(pool)
        on_object = np.repeat(ON_OBJECT[None], n, axis=0)
        features, probabilities = rng.normal(size=(n, 3)).astype(np.float32), rng.dirichlet((1, 1), n)
        split = SplitAttention(on_object, features, features, features, features, probabilities)
        judged = replace(split, maps=on_object if maps is None else maps)
        parts = {name: judged if name == pool_split else split for name in ("train", "val", "test")}
        tables = (replace(pool, split=name) for name in parts)
        space = Space(features[:, :2], features[:, 1:], features, pool_split)
        return Dataset(*tables, fingerprint="0123456789abcdef", name="pets"), Attention(**parts), space

    return make


class Certain(Oracle):
    """Answers the same about every image."""

    def __init__(self, reply: Any = "core") -> None:
        self.name = "certain"
        self.reply = reply

    def answer(self, query: Query) -> Any:
        return self.reply


@pytest.fixture
def certain() -> type[Certain]:
    return Certain


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[[str], RecordedAnswers]:
    """The recorded answers in a CSV file of this text."""

    def make(text: str) -> RecordedAnswers:
        path = tmp_path / "answers.csv"
        path.write_text(text, encoding="utf-8")
        return RecordedAnswers(path)

    return make


class Scripted:
    """A person who gives these replies one after the other, and leaves after the last."""

    def __init__(self, *replies: Any, name: str = "ann") -> None:
        self.name = name
        self.asked: list[int] = []
        self._replies = iter(replies)

    def answer(self, query: Query) -> Any:
        self.asked.append(query.index)
        try:
            return next(self._replies)
        except StopIteration:
            raise EOFError from None


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted
