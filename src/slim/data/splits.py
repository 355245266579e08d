"""Names of the splits, and seeded, stratified splitting for a data set that lacks some."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from slim.arrays import Ints

SPLITS = ("train", "val", "test")
SPLIT_ALIASES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
SPLIT_CODES = {"0": "train", "1": "val", "2": "test"}
_TENTHS = {"val": 1, "test": 2}  # train gets the rest


def carve(y: Ints, keys: Sequence[str], seed: int, parts: Collection[str] = ("val", "test")) -> npt.NDArray[np.object_]:
    """The split of each image after `parts` are carved out of train at random: a tenth as val, a fifth as test.

    Stratified by label only: within a class, the size of each split is its share rounded down or up, and images left
    over by rounding go to the split that lacks most. The result depends on the `keys`, not on the order of the rows.
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


def fill_splits(split: npt.NDArray[np.object_], y: Ints, keys: Sequence[str], seed: int) -> npt.NDArray[np.object_]:
    """The split of each image, where val and test, if they have none, are carved out of train; see `carve`."""
    absent = [part for part in SPLITS if part not in split]
    if "train" in absent:
        return split
    filled, train = split.copy(), split == "train"
    filled[train] = carve(y[train], [key for key, is_train in zip(keys, train, strict=True) if is_train], seed, absent)
    return filled


def _counts(n: int, tenths: Ints, missing: Ints) -> Ints:
    """Sizes of the splits within a class of `n` images; each is its share rounded down or up."""
    counts = n * tenths // 10
    wanted = missing + n * tenths - 10 * counts
    wanted[n * tenths % 10 == 0] = np.iinfo(np.int64).min  # a whole share stays as it is
    if counts[0] == 0:
        wanted[0] = np.iinfo(np.int64).max  # train needs every class
    spare = n - counts.sum()
    counts[np.argsort(-wanted.astype(float), kind="stable")[:spare]] += 1
    return counts
