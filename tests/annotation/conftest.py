"""A pool of small images whose right half is the object, and queries over it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from slim.annotation import Queries, Query
from slim.datasets import ImageTable

SIDE = 12
ON_OBJECT = np.array([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
BESIDE = ON_OBJECT[:, ::-1].copy()


@pytest.fixture
def pool(tmp_path: Path) -> ImageTable:
    """Eight images, four a class; masks and boxes say that the object is the right half; the last has no mask."""
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
    """Queries about the pool's images at these positions; the maps lie on the object unless given."""

    def make(*index: int, maps: np.ndarray | None = None) -> Queries:
        positions = np.array(index, dtype=np.int64)
        table = pool[positions]
        maps = np.repeat(ON_OBJECT[None], len(index), axis=0) if maps is None else maps
        return Queries(positions, table.y, table, maps, table.class_names)

    return make


class Scripted:
    """A person who gives these replies one after the other, and leaves after the last."""

    def __init__(self, *replies: str | None, name: str = "ann") -> None:
        self.name = name
        self.asked: list[int] = []
        self._replies = iter(replies)

    def answer(self, query: Query) -> str | None:
        self.asked.append(query.index)
        try:
            return next(self._replies)
        except StopIteration:
            raise EOFError from None


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted
