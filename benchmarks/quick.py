"""Have hot paths become slower? Two minutes: `python benchmarks/quick.py DATA`, with `--write` to keep what was found.

Ratios of speeds measured side by side, in small, beside those in `benchmarks/quick.json`. Machines differ in these
ratios too: on another one, first write the figures of the commit that you start from. Nothing else should be running.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import attend
import numpy as np
import scale
import train
from sklearn.cluster import KMeans

from slim import load_dataset
from slim.data import Recomposition
from slim.network.build import build
from slim.quantized import Quantized

KEPT = Path(__file__).with_suffix(".json")
WORSE = 0.9
ATTENDED, TRAINED, CURATED, ROUNDS = 96, 96, 50_000, 3


def attention(data: str) -> dict[str, float]:
    """`attend_split` beside the bare forward pass."""
    table, found = load_dataset(data).train[:ATTENDED], {}
    for arch in ("resnet50", "convnext_tiny"):
        model = build(arch, table.class_names, weights=None, image_size=224)
        jobs = {name: job for name, job in attend.jobs(table, model).items() if name in ("bare forward", "slim attend")}
        rates = attend.rates(jobs, len(table), ROUNDS)
        found[f"attend {arch} / bare forward"] = rates["slim attend"] / rates["bare forward"]
    return found


def training(data: str) -> dict[str, float]:
    """Training beside a plain loop, and recomposed training beside it."""
    images, arch = load_dataset(data), "tf_efficientnet_lite0"
    table = images.train[np.random.default_rng(0).permutation(len(images.train))[:TRAINED]]
    val = images.val[[0, len(images.val) - 1]]
    recomposition = Recomposition(train.centres(len(table)))
    rates = attend.rates(
        {
            "plain": lambda: train.plain(table, arch),
            "ours": lambda: train.ours(table, val, arch),
            "recomposed": lambda: train.ours(table, val, arch, recomposition),
        },
        len(table),
        ROUNDS - 1,
    )
    return {
        "train / plain float32": rates["ours"] / rates["plain"],
        "recomposed / train": rates["recomposed"] / rates["ours"],
    }


def curation() -> dict[str, float]:
    """Curation of many images beside one k-means of theirs, so that the machine's speed cancels out."""
    with tempfile.TemporaryDirectory() as folder:
        scale.make(Path(folder), CURATED, 64)
        start = time.perf_counter()
        scale.curate(Path(folder))
        spent = time.perf_counter() - start
        points = np.asarray(Quantized(np.load(Path(folder) / "core.npy")))
        start = time.perf_counter()
        KMeans(5, n_init=10, random_state=0).fit(points)
        return {"one k-means / curate": (time.perf_counter() - start) / spent}


def main(data: str, *options: str) -> None:
    """Print each ratio beside the kept one; exit with 1 where one is a tenth worse."""
    found = {**attention(data), **training(data), **curation()}
    before = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    slower = [name for name, ratio in found.items() if ratio < WORSE * before.get(name, 0)]
    for name, ratio in found.items():
        kept = f"{before[name]:.2f}" if name in before else "none"
        print(f"{name:36} {ratio:6.2f}, kept {kept}{'  SLOWER' if name in slower else ''}")
    if "--write" in options:
        KEPT.write_text(json.dumps({name: round(ratio, 3) for name, ratio in found.items()}, indent=2) + "\n")
    elif slower:
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
