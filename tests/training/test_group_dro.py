"""Online GroupDRO."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.conftest import (
    FAST,
    SIZE,
    VALIDATION,
    Killed,
    color_table,
    kill_at,
    model_of,
)
from torch.nn.functional import cross_entropy

from slim.data import ImageTable, image_batches
from slim.errors import SettingsError, SlimWarning
from slim.training import fit
from slim.training.group_dro import robust_loss


def test_group_dro_weights_groups_by_their_losses() -> None:
    logits, y = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1, 0])
    shares = torch.tensor([0.2, 0.3, 0.5])
    loss, after = robust_loss(logits, y, torch.tensor([0, 0, 2]), shares, step=0.7)
    losses = torch.tensor([(math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 2, 0, math.log(2)])
    expected = shares * torch.exp(0.7 * losses)
    expected /= expected.sum()
    torch.testing.assert_close(after, expected)  # the absent group's loss is 0
    torch.testing.assert_close(loss, (expected * losses).sum())


def test_group_dro_serves_a_rare_group_that_the_mean_loss_gives_up(tmp_path: Path) -> None:
    table = color_table(tmp_path, 40)
    # The rare group has the label of the other colour: what is right for it is wrong for most others.
    y = np.where(np.arange(40) < 2, 1 - table.y, table.y)
    odd = replace(table, frame=table.frame.assign(y=y, a=(np.arange(40) < 2).astype(int)))
    settings = replace(FAST, epochs=12, select_by="loss")
    trained = {step: fit(odd, odd, settings, initial=model_of(), group_dro=step) for step in (None, 0.5)}
    images, labels, _ = next(iter(image_batches(odd, SIZE, 2)))
    with torch.no_grad():
        losses = {
            step: float(cross_entropy(one.classifier.module(one.classifier.normalize(images)), labels))
            for step, one in trained.items()
        }
    assert losses[0.5] < losses[None] / 1.5


@pytest.mark.parametrize(
    ("step", "attributes", "message"), [(0.01, (), "train images must have a spurious"), (0.0, ("a", "b"), "above 0")]
)
def test_group_dro_without_groups_or_with_no_step_is_refused(
    table: ImageTable, step: float, attributes: tuple[str, ...], message: str
) -> None:
    images = table if attributes else replace(table, frame=table.frame.drop(columns="a"), attribute_names=())
    with pytest.raises(SettingsError, match=message):
        fit(images, table, FAST, initial=model_of(), group_dro=step)


def test_a_checkpoint_of_the_mean_loss_is_not_resumed_by_group_dro(
    table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revive = kill_at(monkeypatch, *VALIDATION, 1)
    with pytest.raises(Killed):
        fit(table, table, FAST, folder=tmp_path, initial=model_of())
    revive()
    with pytest.warns(SlimWarning, match="The training starts again"):
        fit(table, table, FAST, folder=tmp_path, initial=model_of(), group_dro=0.01)
