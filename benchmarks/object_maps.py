"""How good the object maps of each row of recomposed images are, and how the maps' own figures compare with the masks.

python benchmarks/object_maps.py FOLDER [--rows KEY,...]

FOLDER is the folder of a comparison (`slim compare`) of data with masks; its runs are reused. Prints for each row, as
means over seeds: the intersection over union of train's maps with the masks (IoU); the mean share of an image's mask
that its map covers (recall), and of its map that is mask (precision); how often a map made without a person's place
contains it (share, with its 95 % interval), how often the maps contain the oracle's place in all images where it has
one (true), and in which share of the seeds the interval holds this; and the reference model's accuracy on train images
with backgrounds of the same and of other classes.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from slim.arrays import Flags
from slim.comparison.bench import Bench
from slim.comparison.recomposed import MappedObjects
from slim.comparison.rows import ROWS
from slim.comparison.subsets import unattended_annotator
from slim.matting import SIDE
from slim.progress import quiet
from slim.runs.run import open_run
from slim.stages.annotate.annotator import ask
from slim.stages.annotate.queries import Queries
from slim.stages.retrain.reliance import background_reliance

ALL = ("recomposed", "recomposed-noisy", "recomposed-shuffled", "recomposed-unanswered", "recomposed-centre")


def measured(key: str, bench: Bench) -> dict[str, float]:
    """All figures of one row and seed."""
    make = ROWS[key].material
    assert make is not None
    mapped = make(bench)
    assert isinstance(mapped, MappedObjects)
    objects, table = mapped.objects, bench.data.train
    masks = np.stack([table.region(i, SIDE, "masks") for i in range(len(table))])
    inside = objects.train > 127
    both, either = (inside & masks).sum((1, 2)), (inside | masks).sum((1, 2))
    line = {
        "IoU": (both / np.maximum(either, 1)).mean(),
        "recall": (both / np.maximum(masks.sum((1, 2)), 1)).mean(),
        "precision": (both / np.maximum(inside.sum((1, 2)), 1)).mean(),
    }
    if objects.trust is not None and objects.trust.n:
        share, low, high = objects.trust.share, objects.trust.low, objects.trust.high
        true = _true_share(inside, bench)
        line |= {"share": share, "low": low, "high": high, "true": true, "holds": float(low <= true <= high)}
    reliance = background_reliance(bench.reference, table, objects.train, "auto", seed=bench.seed)
    return line | {"same class": reliance.same, "other class": reliance.other}


def _true_share(inside: Flags, bench: Bench) -> float:
    """How often a map contains the place at which the oracle points, over all images where the attention is wrong."""
    table, settings = bench.data.train, replace(bench.settings["annotate"], noise=0.0, clicks=True, click_noise=0.0)
    everything = Queries(np.arange(len(table)), table.y, table, bench.attention.train.maps, table.class_names)
    places = ask(everything, unattended_annotator(bench, settings)).places(len(table))
    pointed = np.flatnonzero(~np.isnan(places[:, 0]))
    x, y = (np.minimum(places[pointed, :2], 1 - 1e-9) * SIDE).astype(int).T
    return float(inside[pointed, y, x].mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("--rows", default=",".join(ALL))
    chosen = parser.parse_args()
    lines = []
    for run in sorted(chosen.folder.glob("seed-*")):
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bench = Bench(open_run(run))
            lines += [{"row": key, "seed": bench.seed, **measured(key, bench)} for key in chosen.rows.split(",")]
    table = pd.DataFrame(lines)
    table.to_csv(chosen.folder / "object_maps.csv", index=False)
    print(table.drop(columns="seed").groupby("row", sort=False).mean().round(3).to_string())
