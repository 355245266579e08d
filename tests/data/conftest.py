"""A folder of small images with masks, and tables of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import settings
from PIL import Image

from slim.data import Dataset, ImageTable, load_dataset

N = 20
quick = settings(max_examples=40, deadline=None)
Writer = Callable[..., Path]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of N small images of different content, and a mask of each."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for i in range(N):
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(folder / f"{i:02}.png")
        Image.fromarray((rng.random((12, 16)) > 0.5).astype(np.uint8) * 255).save(folder / f"{i:02}_mask.png")
    return folder


@pytest.fixture
def frame() -> pd.DataFrame:
    """A correct table of the N images: both labels and both attribute values in every split."""
    rows = np.arange(N)
    return pd.DataFrame(
        {
            "img_id": rows + 100,
            "img_filename": [f"{i:02}.png" for i in rows],
            "y": rows % 2,
            "split": np.repeat([0, 1, 2], [12, 4, 4]),
            "place": rows // 2 % 2,
        }
    )


@pytest.fixture
def write(files: Path, frame: pd.DataFrame, tmp_path: Path) -> Writer:
    """Writes the images and metadata.csv, with some columns changed, to a new folder."""

    def writer(**changes: Any) -> Path:
        folder = tmp_path / "birds"
        shutil.copytree(files, folder)
        frame.assign(**changes).to_csv(folder / "metadata.csv", index=False)
        return folder

    return writer


def one_image(folder: Path, array: npt.NDArray[np.uint8], **columns: object) -> ImageTable:
    """A table of one image with these pixels."""
    path = folder / "image.png"
    Image.fromarray(array).save(path)
    return ImageTable(pd.DataFrame({"path": [str(path)], "y": [0], **columns}), ("cat", "dog"))


def save_image(path: Path, size: tuple[int, int] = (8, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


@pytest.fixture(scope="session")
def plain(files: Path) -> tuple[pd.DataFrame, Dataset]:
    """A table with every kind of column, and what it loads as."""
    rows = np.arange(N)
    frame = pd.DataFrame({"filename": [f"{i:02}.png" for i in rows], "y": rows % 2, "split": rows // 2 % 3})
    frame = frame.assign(a=rows % 3 % 2, mask_filename=[f"{i:02}_mask.png" for i in rows])
    frame = frame.assign(box_x=1.0, box_y=2.0, box_width=3.0, box_height=4.0)
    return frame, load_dataset(frame, root=files)
