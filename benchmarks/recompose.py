"""Retraining the last layer on recomposed images with each val that a user may have, and how good the object maps are.

python benchmarks/recompose.py DATA FOLDER [--attribute NAME] [--mask NAME] [--seeds N] [--rows KEY,...]

Prepares one run per seed in FOLDER (reference model, attention, space), or reuses it. Train is recomposed by the object
maps of each row of `slim compare`; val is absent, subsampled to the group shares of train, or used whole, and
recomposed too. Other rows are measured with the same vals. The reference model keeps its last epoch, so that no val
chooses it. Prints worst-group and average accuracy on the test split, means over seeds; the overlap of the maps with
the masks; how often a map made without a place contains it; and the reference model's accuracy on train images with
backgrounds of the same and of other classes.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from biased_val import biased

from slim.arrays import Bytes, Floats, Ints
from slim.comparison.bench import Bench
from slim.comparison.recomposed import MappedObjects
from slim.comparison.rows import ROWS
from slim.comparison.running import prepared_bench
from slim.data import Dataset, Recomposition
from slim.localization import SIDE
from slim.progress import quiet
from slim.stages.retrain.last_layer import Head, fit_weighted_head
from slim.stages.retrain.recomposed import STRENGTH, recomposed_features
from slim.stages.retrain.reliance import background_reliance

DRAWS = 4
RECOMPOSED = ("recomposed", "recomposed-shuffled", "recomposed-unanswered", "recomposed-centre", "recomposed-masks")
WITHOUT_VAL = ("erm", "random", "cluster-balanced", "group-balanced")
WITH_VAL = ("subset", "subset-alone", "cluster-balanced-val", "val", "dfr", "group-dro")


def overlap(maps: Bytes, bench: Bench) -> float:
    """Mean intersection over union of train's maps with the masks."""
    table = bench.data.train
    masks = np.stack([table.region(i, SIDE, "masks") for i in range(len(table))])
    inside = maps > 127
    return float(((inside & masks).sum((1, 2)) / np.maximum((inside | masks).sum((1, 2)), 1)).mean())


def fitted_heads(mapped: MappedObjects, bench: Bench) -> dict[str, Head]:
    """A last layer for each val."""
    val = bench.data.val
    shares = np.bincount(bench.groups("train"), minlength=val.n_groups) / len(bench.data.train)
    used = {"no val": [], "biased val": biased(bench.groups("val"), shares, bench.seed), "val": np.arange(len(val))}
    train = _features(bench, bench.data, "train", mapped.recomposition("train"))
    heads = {}
    for regime, some in used.items():
        rows, y = train, np.tile(bench.data.train.y, DRAWS)
        if len(some):
            part = replace(bench.data, val=val[some])
            rows = np.concatenate([rows, _features(bench, part, "val", mapped.recomposition("val")[some])])
            y = np.concatenate([y, np.tile(part.val.y, DRAWS)])
        heads[regime] = fit_weighted_head(rows, y, 1 / np.bincount(y)[y], STRENGTH, n_classes=bench.pool.n_classes)
    return heads


def _features(bench: Bench, data: Dataset, split: str, recomposition: Recomposition) -> Floats:
    return recomposed_features(bench.reference, data.split(split), recomposition, DRAWS, "auto", bench.seed)


def with_val(bench: Bench, some: Ints) -> Bench:
    """The same bench with some of the images of val alone."""
    val, n = bench.attention.val, len(bench.data.val)
    arrays = {name: values for name, values in vars(val).items() if isinstance(values, np.ndarray) and len(values) == n}
    part = replace(val, **{name: values[some] for name, values in arrays.items()})
    other = Bench(replace(bench.run, given=replace(bench.data, val=bench.data.val[some])))
    attention = replace(bench.attention, val=part)
    vars(other).update(reference=bench.reference, space=bench.space, attention=attention)  # as if they were read
    return other


def recomposed(mapped: MappedObjects, bench: Bench) -> dict[str, float]:
    """All figures of a row of recomposed images."""
    test = bench.data.test
    line = {"IoU": overlap(mapped.objects.train, bench)}
    if mapped.objects.trust is not None and mapped.objects.trust.n:
        line |= {name: getattr(mapped.objects.trust, name) for name in ("share", "low", "high")}
    for regime, head in fitted_heads(mapped, bench).items():
        right = head.predict(np.asarray(bench.attention.test.features)) == test.y
        line |= {regime: bench.worst_group(head), f"{regime}, average": float(right.mean())}
    reliance = background_reliance(bench.reference, bench.data.train, mapped.objects.train, "auto", seed=bench.seed)
    return line | {"same class": reliance.same, "other class": reliance.other}


def measured(key: str, bench: Bench) -> dict[str, float]:
    """All figures of one row and seed."""
    row = ROWS[key]
    if row.material is not None and isinstance(material := row.material(bench), MappedObjects):
        return recomposed(material, bench)
    if key in WITHOUT_VAL:
        return {"no val": _worst_group(key, bench)}
    shares = np.bincount(bench.groups("train"), minlength=bench.data.val.n_groups) / len(bench.data.train)
    low = with_val(bench, np.sort(biased(bench.groups("val"), shares, bench.seed)))
    return {"biased val": _worst_group(key, low), "val": _worst_group(key, bench)}


def _worst_group(key: str, bench: Bench) -> float:
    row = ROWS[key]
    if row.material is not None:
        return bench.worst_group(row.material(bench).fit_head(bench))
    return bench.worst_group(None if row.head is None else row.head(bench))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("--attribute")
    parser.add_argument("--mask")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", default=",".join(RECOMPOSED + WITHOUT_VAL + WITH_VAL))
    chosen = parser.parse_args()
    options = {
        "data": chosen.data,
        "settings": {"train": {"image_size": chosen.image_size, "select_by": "last"}},
        "load": {"attribute": chosen.attribute, "mask": chosen.mask},
    }
    lines = []
    for seed in range(chosen.seeds):
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bench = prepared_bench(chosen.folder, seed, options)
            for key in chosen.rows.split(","):
                lines.append({"row": key, "seed": seed, **measured(key, bench)})
                print({k: round(v, 3) if isinstance(v, float) else v for k, v in lines[-1].items()}, flush=True)
    table = pd.DataFrame(lines)
    table.to_csv(chosen.folder / "recompose.csv", index=False)
    print(table.drop(columns="seed").groupby("row", sort=False).mean().round(3).to_string())
