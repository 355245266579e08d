"""Speed of reading photos as large as cameras take them: `python benchmarks/reading.py DATA`.

Photos of a data set are enlarged to 12 megapixels, as JPEG. `image_batches` reads them for a network, beside the same
threads that decode each photo whole and resize it. Both take turns in one process, and the fastest of three rounds
counts. The differences of the pixels are those of the photo where they are largest.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np
import pandas as pd
from attend import rates
from PIL import Image

from slim import load_dataset
from slim.arrays import Bytes
from slim.data import ImageTable, image_batches

IMAGES, ROUNDS, CAMERA = 24, 3, (4000, 3000)
SIZES = (128, 224, 384)


def enlarged(table: ImageTable, folder: Path) -> ImageTable:
    """The photos of a table, as files of a camera's size."""
    paths = [str(folder / f"{i}.jpg") for i in range(len(table))]
    for i, path in enumerate(paths):
        table.image(i).resize(CAMERA, Image.Resampling.LANCZOS).save(path, quality=92)
    return ImageTable(pd.DataFrame({"path": paths, "y": table.y}), table.class_names)


def whole(table: ImageTable, size: int) -> Iterator[Bytes]:
    """Each photo decoded whole and resized, (size, size, 3)."""

    def read(path: str) -> Bytes:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(cpu_count()) as pool:
        yield from pool.map(read, table.paths)


def main(data: str) -> None:
    """Print the rates, their ratio, and how much the pixels differ."""
    images = load_dataset(data).train
    chosen = images[np.random.default_rng(0).permutation(len(images))[:IMAGES]]
    with tempfile.TemporaryDirectory() as folder:
        table = enlarged(chosen, Path(folder))
        for size in SIZES:
            found = rates(
                {
                    "whole": lambda size=size: list(whole(table, size)),
                    "slim": lambda size=size: list(image_batches(table, size, 8)),
                },
                len(table),
                ROUNDS,
            )
            seen = np.concatenate([batch.permute(0, 2, 3, 1) for batch, _, _ in image_batches(table, size)]).astype(int)
            differences = np.abs(seen - np.stack(list(whole(table, size)))).reshape(len(table), -1)
            print(
                f"{size} px: whole {found['whole']:.1f} images/s, slim {found['slim']:.1f}, "
                f"{found['slim'] / found['whole']:.1f} times; pixels differ by {differences.mean(1).max():.2f} on "
                f"average, {differences.max()} at most, of 255",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1])
