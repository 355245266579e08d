"""Memory of `slim.attend_split` beside the number of images: `python benchmarks/memory.py [N...]`.

N JPEGs of 32 px, of random bytes, are read in batches of 64 by `resnet10t`, and the arrays are written to a folder;
for each N in a process of its own. The largest resident memory includes the libraries and the pages of their files.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from slim import AttendSettings, attend_split
from slim.data import ImageTable
from slim.network.build import build
from slim.progress import quiet

SIDE, BATCH, SIZES = 32, 64, (1_000, 10_000, 100_000)
CLASSES = ("even", "odd")


def drawn(folder: Path, n: int) -> ImageTable:
    """A table of n images of two classes, which lie in a folder."""
    rng, paths = np.random.default_rng(0), [folder / f"{i}.jpg" for i in range(n)]
    for path in paths:
        Image.fromarray(rng.integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)).save(path)
    frame = pd.DataFrame({"path": map(str, paths), "y": np.arange(n) % len(CLASSES)})
    return ImageTable(frame, CLASSES, (), "test", None)


def measure(n: int) -> None:
    """Print what n images take."""
    model = build("resnet10t", CLASSES, weights=None, image_size=SIDE)
    with tempfile.TemporaryDirectory() as name, quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random weights give flat maps
        folder = Path(name)
        table = drawn(folder, n)
        start = time.perf_counter()
        attend_split(model, table, AttendSettings(batch_size=BATCH), folder=folder / "attention")
        seconds = time.perf_counter() - start
        written = sum(path.stat().st_size for path in (folder / "attention").iterdir())
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{n:9,} images {peak / 1e6:7.0f} MB {written / 1e6:7.1f} MB written {seconds:7.1f} s", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(int(sys.argv[2]))
    else:
        for n in map(int, sys.argv[1:] or SIZES):
            subprocess.run([sys.executable, __file__, "--one", str(n)], check=True)
