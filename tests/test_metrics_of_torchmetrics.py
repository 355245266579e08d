"""Accuracies of groups and measures of binary maps are those of torchmetrics; runs where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from slim.metrics import accuracy_by_group, energy_inside, inside_fraction, intersection_over_union
from slim.stages.propagate.auc_interval import auc_with_interval, comparisons

peers: Any = pytest.importorskip("torchmetrics.functional.classification", reason="needs pip install torchmetrics")


def test_accuracies_of_groups_are_theirs() -> None:
    rng = np.random.default_rng(0)
    groups, correct = rng.integers(0, 4, 200), rng.random(200) < 0.7
    found = accuracy_by_group(correct, groups, list("abcd"))
    target = torch.from_numpy(groups)
    predicted = torch.from_numpy(np.where(correct, groups, (groups + 1) % 4))  # a group is right about itself
    each, mean, overall = (
        peers.multiclass_accuracy(predicted, target, num_classes=4, average=average)
        for average in ("none", "macro", "micro")
    )
    np.testing.assert_allclose(found.table["accuracy"], each, atol=1e-6)
    assert found.worst_group_accuracy == pytest.approx(float(each.min()), abs=1e-6)
    assert found.group_mean_accuracy == pytest.approx(float(mean), abs=1e-6)
    assert found.average_accuracy == pytest.approx(float(overall), abs=1e-6)


def test_binary_maps_have_their_overlap_and_precision() -> None:
    rng = np.random.default_rng(1)
    maps, masks = rng.random((5, 9, 7)) < 0.4, rng.random((5, 9, 7)) < 0.3
    each = [(torch.from_numpy(a), torch.from_numpy(b)) for a, b in zip(maps, masks, strict=True)]
    overlap = [float(peers.binary_jaccard_index(a.int(), b.int())) for a, b in each]
    precision = [float(peers.binary_precision(a.int(), b.int())) for a, b in each]
    floats = maps.astype(np.float64)
    np.testing.assert_allclose(intersection_over_union(floats, masks), overlap, atol=1e-6)
    np.testing.assert_allclose(energy_inside(floats, masks), precision, atol=1e-6)
    np.testing.assert_allclose(inside_fraction(floats, masks), precision, atol=1e-6)


def test_area_under_the_curve_is_theirs_ties_included() -> None:
    rng = np.random.default_rng(2)
    core, spurious = (rng.integers(low, 9, n) / 10 for low, n in ((3, 30), (0, 20)))
    auc, low, high = auc_with_interval(comparisons(core[:, None] - spurious))
    values = torch.from_numpy(np.concatenate([core, spurious]))
    expected = float(peers.binary_auroc(values, torch.tensor([1] * 30 + [0] * 20)))
    assert auc == pytest.approx(expected, abs=1e-6)
    assert low < auc < high
