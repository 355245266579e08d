"""Names of the splits, and the seeded, stratified carving of those that a data set lacks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

SPLITS = ("train", "val", "test")
SPLIT_ALIASES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
SPLIT_CODES = {"0": "train", "1": "val", "2": "test"}
_TENTHS = {"val": 1, "test": 2}  # train gets the rest


def carve(
    y: npt.NDArray[np.int64], keys: Sequence[str], seed: int, parts: Collection[str] = ("val", "test")
) -> npt.NDArray[np.object_]:
    """The split of each image where `parts` are carved out of train at random, a tenth as val, a fifth as test.

    Stratified by label alone: in every class each split's size is its share rounded down or up, and what
    rounding leaves over goes where most is missing. The order of the rows does not matter, their `keys` do.
    """
    tenths = np.array([10 - sum(_TENTHS[part] for part in parts), *(_TENTHS[part] for part in parts)])
    names = np.array(["train", *parts], dtype=object)
    rng = np.random.default_rng(seed)
    by_key = np.argsort(np.asarray(keys, dtype=object), kind="stable")
    split = np.full(len(y), "train", dtype=object)
    missing = np.zeros(len(tenths), dtype=np.int64)  # tenths of an image that each split lacks so far
    for label in np.unique(y):
        members = rng.permutation(by_key[y[by_key] == label])
        counts = _counts(len(members), tenths, missing)
        missing = missing + len(members) * tenths - 10 * counts
        split[members] = np.repeat(names, counts)
    return split


def _counts(n: int, tenths: npt.NDArray[np.int64], missing: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many of a class's `n` images each split gets; each count is its share rounded down or up."""
    counts = n * tenths // 10
    wanted = missing + n * tenths - 10 * counts
    wanted[n * tenths % 10 == 0] = np.iinfo(np.int64).min  # a whole share stays as it is
    if counts[0] == 0:
        wanted[0] = np.iinfo(np.int64).max  # a class that train lacks cannot be learnt
    spare = n - counts.sum()
    counts[np.argsort(-wanted.astype(float), kind="stable")[:spare]] += 1
    return counts
