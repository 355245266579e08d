"""The random subset that the baseline is trained on."""

from __future__ import annotations

import numpy as np
import pytest

import slim
from slim.arrays import Ints
from slim.stages.retrain.random_subset import random_subset


def test_random_subset_has_every_class_and_no_image_twice() -> None:
    y = np.array([0] * 95 + [1] * 5)
    drawn = random_subset(y, 20, seed=0)
    assert len(set(drawn.tolist())) == 20
    assert set(y[drawn].tolist()) == {0, 1}
    assert drawn.tolist() == random_subset(y, 20, seed=0).tolist()
    assert drawn.tolist() != random_subset(y, 20, seed=1).tolist()


@pytest.mark.parametrize("y", [np.arange(6_000) // 30, np.array([1] + [0] * 9_999)], ids=["many", "rare"])
def test_random_subset_has_many_and_rare_classes_too(y: Ints) -> None:
    size = 3 * len(np.unique(y))
    drawn = [random_subset(y, size, seed) for seed in range(5)]
    for index in drawn:
        assert len(set(index.tolist())) == size
        assert set(y[index]) == set(y)
    assert len({tuple(index) for index in drawn}) == 5


def test_random_subset_that_cannot_have_every_class_is_refused() -> None:
    with pytest.raises(slim.SettingsError, match="larger --size"):
        random_subset(np.arange(5), 3, seed=0)
