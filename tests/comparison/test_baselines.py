"""Baselines: what they draw, and that they do what their papers say on data where it can be known."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slim.comparison import ROWS, spuco
from slim.comparison.baselines import (
    afr_head,
    balanced_subset,
    best_head,
    dfr_head,
    feature_cells,
    group_dro_head,
    jtt_head,
)
from slim.errors import SettingsError
from slim.stages.retrain.last_layer import Head, HeldOut

pytestmark = pytest.mark.usefixtures("small_and_quiet")

spuco_is_here = ROWS["spuco-dfr"].installed

Arrays = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


def shortcut(n: int, share: float, seed: int) -> Arrays:
    """Features of which the first is the label, weakly, and the second an attribute, strongly; labels and groups."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    a = np.where(rng.random(n) < share, y, 1 - y)
    features = rng.normal(size=(n, 6))
    features[:, 0] += 3.0 * (2 * y - 1)
    features[:, 1] = 6.0 * (2 * a - 1) + 0.5 * rng.normal(size=n)
    return features, y, 2 * y + a


def worst(head: Head, arrays: Arrays) -> float:
    features, y, groups = arrays
    right = head.predict(features) == y
    return min(float(right[groups == g].mean()) for g in range(4))


TRAIN, VAL, TEST = shortcut(1000, 0.97, 0), shortcut(400, 0.5, 1), shortcut(1000, 0.5, 2)
SHORTCUT = Head(np.array([[0, -1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, 0]]), np.zeros(2), 1.0, None)


def test_a_head_that_took_the_shortcut_is_what_they_must_beat() -> None:
    assert worst(SHORTCUT, TEST) < 0.05


def test_dfr_finds_the_core_feature_from_balanced_groups() -> None:
    assert worst(dfr_head(*VAL, n_classes=2, seed=0), TEST) > 0.95


def test_afr_leaves_the_shortcut_where_the_first_head_is_wrong() -> None:
    assert worst(afr_head(*VAL, SHORTCUT, seed=0), TEST) > 0.9


def test_group_dro_does_as_well_for_rare_groups() -> None:
    features, y, groups = VAL
    assert worst(group_dro_head(*TRAIN, HeldOut(features, y, groups), n_classes=2), TEST) > 0.9


def test_jtt_learns_from_the_errors_of_its_first_model() -> None:
    features, y, groups = TRAIN
    assert ((SHORTCUT.predict(features) != y) == np.isin(groups, (1, 2))).mean() > 0.99  # so there are some to find
    assert worst(jtt_head(features, y, HeldOut(*VAL), n_classes=2), TEST) > 0.9


def test_the_best_head_is_the_first_of_the_best_worst_group() -> None:
    useless = Head(np.zeros((2, 6)), np.array([1.0, 0.0]), 2.0, None)
    core = [Head(np.eye(6)[[5, 0]], np.zeros(2), strength, None) for strength in (3.0, 4.0)]
    assert best_head(iter([useless, SHORTCUT, *core]), HeldOut(*VAL)).strength == 3.0


@pytest.mark.skipif(not spuco_is_here, reason="spuco is not installed")
def test_spuco_finds_the_core_feature_too_and_leaves_the_generators_alone() -> None:
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    train, val = HeldOut(*TRAIN), HeldOut(*VAL)
    assert worst(spuco.dfr_head(train.features, val, seed=0), TEST) > 0.95
    assert worst(spuco.group_dro_head(train, val, n_classes=2, seed=0), TEST) > 0.85
    assert states[:2] == (random.getstate(), np.random.get_state()[1].tolist())
    assert torch.equal(states[2], torch.get_rng_state())


def test_dfr_of_spuco_refuses_three_classes() -> None:
    features, y, groups = VAL
    with pytest.raises(SettingsError, match="needs two classes.*Got 3"):
        spuco.dfr_head(features, HeldOut(features, np.where(groups == 1, 2, y), groups), seed=0)


def test_baselines_are_the_same_for_the_same_seed() -> None:
    first, again = (dfr_head(*VAL, n_classes=2, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.weight, again.weight)


@pytest.mark.parametrize("size", [7, 20, 61])
def test_a_balanced_subset_has_its_size_and_equal_parts(size: int) -> None:
    parts = np.repeat([0, 1, 2], [80, 15, 5])
    drawn = balanced_subset(parts, size, seed=0)
    counts = np.bincount(parts[drawn], minlength=3)
    assert len(drawn) == size
    assert np.ptp(counts) <= 1
    for part in range(3):  # no image more often than the others of its part, but for the remainder
        copies = np.bincount(drawn, minlength=100)[parts == part]
        assert np.ptp(copies[copies > 0]) <= 1 if counts[part] > (parts == part).sum() else copies.max() <= 1


def test_cells_find_an_environment_that_is_rare_in_a_class() -> None:
    features, y, groups = TRAIN
    cells = feature_cells(features, y, 2, seed=0)
    assert sorted(np.bincount(cells).tolist()) == sorted(np.bincount(groups).tolist())
