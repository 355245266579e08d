"""The fingerprint changes with the data, and with nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from tests.data.conftest import N, quick

from slim.data import Dataset, load_dataset


@quick
@given(row=st.integers(0, N - 1), column=st.sampled_from(["y", "split", "a", "mask_filename", "box_x", "box_height"]))
def test_fingerprint_changes_with_any_value(
    files: Path, plain: tuple[pd.DataFrame, Dataset], row: int, column: str
) -> None:
    frame, data = plain
    values = frame[column].tolist()
    values[row] = {"mask_filename": "", "split": (frame["split"][row] + 1) % 3}.get(column, 7 if "box" in column else 1)
    if values[row] == frame[column][row]:
        values[row] = 0
    edited = frame.assign(**{column: values})
    assert load_dataset(edited, root=files).fingerprint != data.fingerprint


def test_fingerprint_changes_with_rows_and_names(files: Path, plain: tuple[pd.DataFrame, Dataset]) -> None:
    frame, data = plain
    changed = [frame.iloc[1:], frame.assign(class_name=np.where(frame["y"] == 1, "x", "z"))]
    prints = [load_dataset(edited, root=files).fingerprint for edited in changed]
    assert len({*prints, data.fingerprint}) == 3


@quick
@given(order=st.permutations(range(N)))
def test_order_of_the_rows_changes_nothing(files: Path, plain: tuple[pd.DataFrame, Dataset], order: list[int]) -> None:
    frame, _ = plain
    for table in (frame, frame.drop(columns="split")):
        first, other = (load_dataset(rows, root=files) for rows in (table, table.iloc[order]))
        assert other.fingerprint == first.fingerprint
        for split in ("train", "val", "test"):
            pd.testing.assert_frame_equal(other.split(split).frame, first.split(split).frame)
            assert other.split(split).paths == sorted(other.split(split).paths)


def test_fingerprint_stays_when_columns_or_the_folder_move(
    files: Path, plain: tuple[pd.DataFrame, Dataset], tmp_path: Path
) -> None:
    frame, data = plain
    shutil.copytree(files, tmp_path / "copy")
    moved = frame[frame.columns[::-1]].assign(note="unrelated")
    absolute = frame.assign(filename=[str(files / name) for name in frame["filename"]])
    assert load_dataset(moved, root=tmp_path / "copy").fingerprint == data.fingerprint
    assert load_dataset(absolute, root=files).fingerprint == data.fingerprint
    assert len(data.fingerprint) == 16
    assert int(data.fingerprint, 16) >= 0
