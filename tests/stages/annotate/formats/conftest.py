"""Answers of people and of an oracle about the pool, and what an export makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slim import Place, Store
from slim.data import ImageTable
from slim.stages.annotate.formats import Found, Sheet
from slim.stages.annotate.page.session import Pool
from slim.stages.annotate.store import Post

TIME = "2026-03-09T22:16:08.728Z"


@pytest.fixture
def shown(pool: ImageTable) -> Pool:
    probabilities = np.tile([0.25, 0.75], (8, 1)).astype(np.float32)
    return Pool(pool, np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 2, 4), "pets & co", probabilities)


@pytest.fixture
def store() -> Iterator[Store]:
    """Ann and Bob disagree about 0, which Ann settled; an oracle answered about 1; Ann about 4; 5 has no answer.

    About 0, Ann drew a box and Bob clicked.
    """
    box, click = Place(0.5, 0.6, 0.3, 0.2), Place(1 / 3, 0.25)
    with Store(":memory:") as store:
        store.post([Post("a0", 0, "core", 1.5, time=TIME, place=box)], "ann")
        store.post([Post("a4", 4, "unsure", 2.0, time=TIME)], "ann")
        store.post([Post("b0", 0, "spurious", 3.0, time=TIME, place=click)], "bob")
        store.post([Post("s0", 0, "spurious", 1.0, settles=True, time=TIME)], "ann")
        store.record(1, "core", "masks over 0.5")
        yield store


@pytest.fixture
def sheet(shown: Pool, store: Store) -> Sheet:
    scores = np.array([0.1, 0.9, np.nan, np.nan, 0.75, 0.4, np.nan, np.nan])
    cells = pd.DataFrame(
        {"core_cluster": [0, 1] * 4, "environment_cluster": [1] * 8, "copies": [2, 0, 0, 0, 1, 0, 0, 0]}
    )
    found = Found(scores, np.linspace(0, 1, 72).reshape(8, 3, 3), cells)
    return Sheet.from_store(shown, np.array([0, 1, 5]), store, found)


@pytest.fixture
def time() -> str:
    """When people answered."""
    return TIME


@pytest.fixture
def current() -> Callable[[Store], list[list[Any]]]:
    """Everybody's answers, and what is settled."""

    def read(store: Store) -> list[list[Any]]:
        columns = ["index", "answer", "annotator", "seconds"]
        return sorted(store.answers()[columns].values.tolist()) + store.settled()[columns].values.tolist()

    return read
