"""Which epoch is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.training.conftest import (
    FAST,
    model_of,
    same,
    state_of,
)
from torch import Tensor

from slim.data import ImageTable
from slim.training import fit, loop


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Tensor]]]:
    """Give the epochs these validation accuracies; returns where each epoch's weights are noted."""

    def script(*accuracies: float) -> list[dict[str, Tensor]]:
        left, weights = list(accuracies), list[dict[str, Tensor]]()
        real = loop.Loop._val_logits

        def logits(self: Any, source: Any) -> Tensor:
            weights.append(state_of(self.model))
            return real(self, source)

        def columns(*_: object) -> dict[str, float]:
            accuracy = left.pop(0)
            return {"val_loss": 1 - accuracy, "val_accuracy": accuracy, "val_class_balanced_accuracy": 1 - accuracy}

        monkeypatch.setattr(loop.Loop, "_val_logits", logits)
        monkeypatch.setattr(loop, "_val_columns", columns)
        return weights

    return script


def test_early_stopping_counts(table: ImageTable, scripted: Any) -> None:
    scripted(0.5, 0.7, 0.6, 0.7, 0.6, 0.9)
    result = fit(table, table, replace(FAST, epochs=6, patience=3), initial=model_of())
    assert len(result.history) == 5  # three epochs no better than the second
    assert result.best_epoch == 2


@pytest.mark.parametrize(("select_by", "best"), [("accuracy", 2), ("class-balanced-accuracy", 1), ("loss", 2)])
def test_best_epoch_is_returned_and_not_the_last(table: ImageTable, scripted: Any, select_by: Any, best: int) -> None:
    weights = scripted(0.5, 0.9, 0.9, 0.6)
    result = fit(table, table, replace(FAST, epochs=4, select_by=select_by), initial=model_of())
    assert result.best_epoch == best
    assert same(state_of(result.classifier), weights[best - 1])
    assert not same(weights[best - 1], weights[-1])


def test_last_epoch_is_kept_however_much_worse_it_is(table: ImageTable, scripted: Any) -> None:
    weights = scripted(0.9, 0.5, 0.1)
    result = fit(table, table, replace(FAST, select_by="last", patience=1), initial=model_of())
    assert result.best_epoch == len(result.history) == 3
    assert same(state_of(result.classifier), weights[-1])


def test_worst_group_selection_uses_the_smallest_group_accuracy(table: ImageTable) -> None:
    logits = torch.tensor([[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 2)
    columns = loop._val_columns(logits, table, replace(FAST, select_by="worst-group"))
    correct = logits.argmax(1).numpy() == table.y
    worst = min(correct[table.groups == group].mean() for group in range(4))
    assert columns["val_worst_group_accuracy"] == pytest.approx(worst)
    assert columns["val_accuracy"] == pytest.approx(correct.mean())
