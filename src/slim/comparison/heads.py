"""Last layers fitted to something other than a subset, on the same stored features."""

from __future__ import annotations

import numpy as np

from slim.comparison import spuco
from slim.comparison.baselines import afr_head, dfr_head, group_dro_head, jtt_head
from slim.comparison.bench import Bench
from slim.stages.retrain.last_layer import Head, HeldOut, fit_head


def val_alone(bench: Bench) -> Head:
    """Fit to all of val by its class labels; the two halves only fill the two arguments of `fit_head`."""
    features, y = np.asarray(bench.attention.val.features), bench.data.val.y
    order = np.random.default_rng((bench.seed, 5)).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    first, second = order[::2], order[1::2]
    one = np.zeros(len(second), np.int64)
    joined, n_classes = HeldOut(features[second], y[second], one), bench.pool.n_classes
    cells = np.zeros(len(first), np.int64)
    return fit_head(features[first], y[first], cells, val=joined, n_classes=n_classes, seed=bench.seed)


def dfr(bench: Bench) -> Head:
    """Deep feature reweighting on val; uses group labels."""
    val = bench.by_group("val")
    return dfr_head(val.features, val.y, val.cells, n_classes=bench.pool.n_classes, seed=bench.seed)


def afr(bench: Bench) -> Head:
    """Automatic feature reweighting on val; group labels of val tune it."""
    val, linear = bench.by_group("val"), bench.reference.linear
    weight = np.asarray(bench.reference.head_weight)
    bias = np.zeros(len(weight)) if linear.bias is None else linear.bias.detach().cpu().double().numpy()
    return afr_head(val.features, val.y, val.cells, Head(weight, bias, 0.0, None), seed=bench.seed)


def group_dro(bench: Bench) -> Head:
    """GroupDRO; uses group labels of train and val."""
    train, val = bench.by_group("train"), bench.by_group("val")
    return group_dro_head(train.features, train.y, train.cells, val, n_classes=bench.pool.n_classes)


def jtt(bench: Bench) -> Head:
    """Just train twice; group labels of val tune it."""
    features, y = np.asarray(bench.attention.train.features), bench.data.train.y
    return jtt_head(features, y, bench.by_group("val"), n_classes=bench.pool.n_classes)


def spuco_dfr(bench: Bench) -> Head:
    """DFR by the package spuco."""
    return spuco.dfr_head(bench.by_group("train").features, bench.by_group("val"), seed=bench.seed)


def spuco_group_dro(bench: Bench) -> Head:
    """GroupDRO by the package spuco."""
    train, val = bench.by_group("train"), bench.by_group("val")
    return spuco.group_dro_head(train, val, n_classes=bench.pool.n_classes, seed=bench.seed)
