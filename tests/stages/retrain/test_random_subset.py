"""The random subset that the baseline is trained on."""

from __future__ import annotations

import numpy as np
import pytest

import slim
from slim.stages.retrain.random_subset import random_subset


def test_random_subset_has_every_class_and_no_image_twice() -> None:
    y = np.array([0] * 95 + [1] * 5)
    drawn = random_subset(y, 20, seed=0)
    assert len(set(drawn.tolist())) == 20
    assert set(y[drawn].tolist()) == {0, 1}
    assert drawn.tolist() == random_subset(y, 20, seed=0).tolist()
    assert drawn.tolist() != random_subset(y, 20, seed=1).tolist()


def test_random_subset_that_cannot_have_every_class_is_refused() -> None:
    with pytest.raises(slim.SettingsError, match="larger --size"):
        random_subset(np.arange(5), 3, seed=0)
