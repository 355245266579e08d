"""Cached activations and the memory that they take."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slim.errors import SettingsError
from slim.network import activations
from slim.network.partial import find_cut

pytestmark = pytest.mark.usefixtures("small_and_quiet")


def test_activations_too_large_for_half_precision_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(SettingsError, match="65,504"):
        activations.cache_activations(find_cut(net, "3", 8), [torch.full((2, 3, 8, 8), 1e6)], 2, dtype=torch.float16)


def test_free_memory_is_known_here() -> None:
    free = activations.free_memory()
    assert free is None or free > 10**6
