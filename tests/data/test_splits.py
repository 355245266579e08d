"""Splits that are carved out of train: seeded and stratified."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from tests.data.conftest import quick

from slim.data.splits import carve


@quick
@given(
    y=st.lists(st.integers(0, 4), max_size=80),
    seed=st.integers(0, 9),
    parts=st.sampled_from([("val", "test"), ("val",), ("test",)]),
)
def test_carved_split_is_a_stratified_partition(y: list[int], seed: int, parts: tuple[str, ...]) -> None:
    labels = np.array(y, dtype=np.int64)
    split = carve(labels, [str(i) for i in range(len(y))], seed, parts)
    tenths = {"val": 1, "test": 2, "train": 10 - sum({"val": 1, "test": 2}[part] for part in parts)}
    assert set(split) <= {"train", *parts}
    for label in set(y):
        for part in ("train", *parts):
            share = (labels == label).sum() * tenths[part] / 10
            assert abs(((split == part) & (labels == label)).sum() - share) < 1
    assert set(labels[split == "train"]) == set(y)


@quick
@given(order=st.permutations(range(30)), seed=st.integers(0, 9))
def test_carved_split_depends_on_seed_and_files_alone(order: list[int], seed: int) -> None:
    y, keys = np.arange(30) % 3, [f"{i}.png" for i in range(30)]
    split = carve(y, keys, seed)
    again = carve(y[order], [keys[i] for i in order], seed)
    assert again.tolist() == split[order].tolist()


def test_carved_split_of_many_small_classes_still_fills_val_and_test() -> None:
    y = np.repeat(np.arange(10), 4)
    split = carve(y, [str(i) for i in range(40)], seed=0)
    assert pd.Series(split).value_counts().to_dict() == {"train": 28, "test": 8, "val": 4}
