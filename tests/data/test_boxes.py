"""boxes.csv: joined by id, and refused if it does not fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from tests.data.conftest import N, Writer

from slim.data import load_dataset
from slim.errors import DataError


@pytest.mark.parametrize("key", ["img_id", "img_filename"])
def test_boxes_are_joined_by_id_and_never_by_position(write: Writer, frame: pd.DataFrame, key: str) -> None:
    folder = write()
    boxes = pd.DataFrame({key: frame[key], "x": np.arange(N) / 10, "y": 1, "width": 3, "height": 4})
    boxes.iloc[::-1].to_csv(folder / "boxes.csv", index=False)
    data = load_dataset(folder)
    np.testing.assert_allclose(data.val.frame["box_x"], np.arange(12, 16) / 10)
    boxes.to_csv(folder / "boxes.csv", index=False)
    assert load_dataset(folder).fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda boxes: boxes.drop(index=3), r"Got none for 1 of 20, the first is 03\.png"),
        (lambda boxes: pd.concat([boxes, boxes[:1]]), "one box per image. Got two for 100"),
        (lambda boxes: boxes.drop(columns="img_id"), "an id that is also in metadata.csv.*Got x, y, width, height"),
        (lambda boxes: boxes.drop(columns="width"), "must have x, y, width, height"),
        (lambda boxes: boxes.assign(width=0), r"width and a height above 0. Got 0 x 4 for 00\.png"),
    ],
)
def test_wrong_box_file_is_refused(
    write: Writer, frame: pd.DataFrame, edit: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    folder = write()
    boxes = pd.DataFrame({"img_id": frame["img_id"], "x": 0, "y": 1, "width": 3, "height": 4})
    edit(boxes).to_csv(folder / "boxes.csv", index=False)
    with pytest.raises(DataError, match=message):
        load_dataset(folder)
