"""Evaluation mode for a while."""

from __future__ import annotations

import pytest
from torch import nn

from slim.network.tracing import evaluating


def test_evaluating_restores_mixed_modes_also_after_an_exception() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout().eval(), nn.Dropout()))
    modes = [child.training for child in module.modules()]
    assert modes == [True, True, True, False, True]

    def fail() -> None:
        with evaluating(module):
            assert not any(child.training for child in module.modules())
            raise KeyError("inside")

    with pytest.raises(KeyError):
        fail()
    assert [child.training for child in module.modules()] == modes
