"""Training mixes no devices, seen on a pretended GPU: it gives what training on the CPU gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.pretended_gpu import GPU, pretended_gpu, values_of
from tests.training.conftest import FAST, SIZE, Killed, kill_at, model_of

from slim.data import ImageTable, Recomposition
from slim.training import Training, fit, loop

SETUPS = {
    "whole": replace(FAST, epochs=2, class_weights="balanced"),
    "cut": replace(FAST, epochs=2, optimizer="adamw", trainable="stage"),
    "head": replace(FAST, epochs=2, trainable="head"),
    "recomposed": replace(FAST, epochs=2),
    "group-dro": replace(FAST, epochs=2, select_by="worst-group"),
}


def trained(table: ImageTable, setup: str, folder: Path | None = None) -> Training:
    """A training in one of the setups."""
    maps = np.arange(len(table) * SIZE * SIZE, dtype=np.uint8).reshape(-1, SIZE, SIZE)
    recomposition = Recomposition(maps) if setup == "recomposed" else None
    step = 0.5 if setup == "group-dro" else None
    model = model_of()
    model.module.stage[3].p = 0.0  # dropout draws other numbers there
    return fit(
        table, table, SETUPS[setup], seed=1, folder=folder, initial=model, group_dro=step, recomposition=recomposition
    )


@pytest.mark.filterwarnings("ignore:.* for every validation image:slim.errors.SlimWarning")
@pytest.mark.parametrize("setup", SETUPS)
def test_training_and_resuming_on_a_gpu_give_what_the_cpu_gives(
    table: ImageTable, tmp_path: Path, setup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    expected = trained(table, setup).classifier.module.state_dict()
    with pretended_gpu(monkeypatch):
        revive = kill_at(monkeypatch, loop.Loop, "_step", 4)
        with pytest.raises(Killed):
            trained(table, setup, tmp_path)
        revive()
        classifier = trained(table, setup, tmp_path).classifier
    assert classifier.device == GPU
    for name, tensor in classifier.module.state_dict().items():
        torch.testing.assert_close(values_of(tensor), expected[name])
