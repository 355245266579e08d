"""`ImageTable`: indexing, copies, and what it prints."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.conftest import quick

from slim.data import Dataset, ImageTable


@quick
@given(data=st.data())
def test_table_indexing_composes(plain: tuple[pd.DataFrame, Dataset], data: st.DataObject) -> None:
    table = plain[1].train
    first = data.draw(st.lists(st.integers(0, len(table) - 1), max_size=12))
    second = data.draw(st.lists(st.integers(0, len(first) - 1), max_size=12)) if first else []
    part = table[first][second]
    assert part.paths == [table.paths[first[i]] for i in second]
    np.testing.assert_array_equal(part.y, table.y[first][second])
    assert part.frame.index.tolist() == list(range(len(second)))
    assert (part.class_names, part.attribute_names, part.split) == (table.class_names, table.attribute_names, "train")
    assert part.training_shares is table.training_shares


def test_table_takes_slices_masks_and_negative_positions(plain: tuple[pd.DataFrame, Dataset]) -> None:
    table = plain[1].train
    assert table[::2].paths == table.paths[::2]
    assert table[np.array([-1])].paths == table.paths[-1:]
    assert table[table.y == 1].y.tolist() == [1] * int((table.y == 1).sum())
    assert len(table[[]]) == 0
    assert table[[]].y.dtype == np.int64


def test_table_refuses_wrong_indices(plain: tuple[pd.DataFrame, Dataset]) -> None:
    table = plain[1].train
    with pytest.raises(IndexError):
        table[[len(table)]]
    with pytest.raises(IndexError):
        table[np.array([True])]
    with pytest.raises(TypeError, match=r"table\[\[3\]\]"):
        table[3]  # type: ignore[index]


def test_table_arrays_are_copies(plain: tuple[pd.DataFrame, Dataset]) -> None:
    table = plain[1].train
    before = table.y
    table.y[:] = 9
    np.testing.assert_array_equal(table.y, before)


def test_repr_counts_groups_and_stays_short(plain: tuple[pd.DataFrame, Dataset]) -> None:
    text = repr(plain[1])
    assert text.startswith(f"Dataset(table, fingerprint {plain[1].fingerprint})\n  ImageTable(train, ")
    assert "2 classes, masks: 0, a=0 (" in text
    many = ImageTable(plain[1].train.frame, ("0", "1"), tuple(f"a={i}" for i in range(50)))
    assert "and 92 more" in repr(many)
