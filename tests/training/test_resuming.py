"""A killed training resumes and ends with the same result, bit for bit."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.conftest import (
    FAST,
    VALIDATION,
    Killed,
    assert_same_training,
    kill_at,
    model_of,
)

from slim.data import ImageTable
from slim.errors import SettingsError, SlimWarning
from slim.network.classifier import Classifier
from slim.progress import quiet
from slim.training import Training, checkpoint, fit, loop, train_classifier

SETUPS = {
    "sgd": FAST,
    "adamw behind a cut": replace(FAST, optimizer="adamw", lr=0.01, trainable="stage", select_by="loss"),
    "bfloat16": replace(FAST, precision="bf16-mixed", class_weights="balanced", select_by="loss", patience=1),
    "group-dro": replace(FAST, select_by="worst-group"),
}
GROUP_DRO = {"group-dro": 0.5}
STEP, CHECKPOINT = (loop.Loop, "_step"), (checkpoint, "write_tensors")
KILLS = [("sgd", STEP, call) for call in (0, 2, 3, 4, 8)]
KILLS += [("sgd", VALIDATION, 0), ("sgd", VALIDATION, 2), ("sgd", (Classifier, "save"), 0)]
KILLS += [("sgd", CHECKPOINT, call) for call in (0, 3, 11)]
KILLS += [("group-dro", STEP, call) for call in (2, 4)] + [("group-dro", CHECKPOINT, 4)]
KILLS += [("adamw behind a cut", STEP, 4), ("adamw behind a cut", CHECKPOINT, 4), ("bfloat16", STEP, 2)]


@pytest.mark.parametrize(("setup", "what", "call"), KILLS)
def test_killed_training_ends_with_the_same_result(
    table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setup: str, what: tuple[Any, str], call: int
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    whole = uninterrupted(table, setup)
    revive = kill_at(monkeypatch, *what, call)
    step = GROUP_DRO.get(setup)
    with pytest.raises(Killed):
        fit(table, table, SETUPS[setup], seed=1, folder=tmp_path, initial=model_of(), group_dro=step)
    assert not (tmp_path / "model.json").exists()
    revive()
    resumed = fit(table, table, SETUPS[setup], seed=1, folder=tmp_path, initial=model_of(), group_dro=step)
    assert_same_training(whole, resumed)


_whole: dict[str, Training] = {}


def uninterrupted(table: ImageTable, setup: str) -> Training:
    """The same training in one go, without a folder; made once."""
    if setup not in _whole:
        step = GROUP_DRO.get(setup)
        _whole[setup] = fit(table, table, SETUPS[setup], seed=1, initial=model_of(), group_dro=step)
    return _whole[setup]


def test_resumed_training_repeats_no_step_before_the_checkpoint(
    table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[int, int]]
) -> None:
    revive = kill_at(monkeypatch, loop.Loop, "_add", 7)
    with pytest.raises(Killed):
        fit(table, table, FAST, folder=tmp_path, initial=model_of())
    revive()
    steps.clear()
    fit(table, table, FAST, folder=tmp_path, initial=model_of())
    assert steps == [(3, 0), (3, 1), (3, 2)]  # the checkpoint at the end of epoch 2
    fit(table, table, FAST, folder=tmp_path, initial=model_of())
    assert len(steps) == 3  # a finished training is not repeated


KILLS_ITSELF = """
    import os, signal, sys
    sys.path[:0] = [{tests!r}]
    import torch
    torch.set_num_threads(1)
    from pathlib import Path
    from slim.network import checkpoints
    from slim.training import fit, loop
    from conftest import FAST, color_table, model_of

    loop.CHECKPOINT_SECONDS, saves, save = 0, [], checkpoints.save_file

    def half(tensors, path, metadata):
        saves.append(path)
        save(tensors, path, metadata)
        if len(saves) == 5:
            with open(path, "r+b") as stream:
                stream.truncate(1000)
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.save_file = half
    table = color_table(Path({images!r}), 12)
    fit(table, table, FAST, seed=1, folder={folder!r}, initial=model_of())
"""


def test_training_survives_sigkill_in_the_middle_of_a_checkpoint(table: ImageTable, tmp_path: Path) -> None:
    folder, images = tmp_path / "run", Path(table.paths[0]).parent
    tests = Path(__file__).parent
    code = textwrap.dedent(KILLS_ITSELF).format(tests=str(tests), images=str(images), folder=str(folder))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -9, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == [
        "history.csv",
        "last.safetensors",
        "last.safetensors.partial",
    ]
    resumed = fit(table, table, FAST, seed=1, folder=folder, initial=model_of())
    assert_same_training(uninterrupted(table, "sgd"), resumed)


def test_checkpoint_restores_values_and_layout_of_tensors(tmp_path: Path) -> None:
    """Sums over another layout in memory may differ in their last bit."""
    image = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    state = {
        "fingerprint": "f",
        "state": {"best": {"tensor": image, "a.b": torch.tensor(3)}, "history": [{"lr": 0.1}], "group_shares": None},
        "optimizer": {
            "state": {0: {"momentum_buffer": torch.ones(2), "step": None}},
            "param_groups": [{"params": [0]}],
        },
    }
    checkpoint.write_checkpoint(tmp_path, state, [])
    restored = checkpoint.read_checkpoint(tmp_path, "f")
    assert restored is not None
    best = restored["state"].pop("best")
    assert torch.equal(best["tensor"], image)
    assert best["tensor"].stride() == image.stride()
    assert best["a.b"].dtype == torch.int64
    assert restored["state"] == {"history": [{"lr": 0.1}], "group_shares": None}
    assert restored["optimizer"]["state"][0]["momentum_buffer"].tolist() == [1, 1]


SHORT = replace(FAST, epochs=2)


@pytest.fixture(scope="module")
def finished(table: ImageTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that came to its end."""
    folder = tmp_path_factory.mktemp("finished")
    with quiet():
        train_classifier(table, table, SHORT, folder=folder, initial=model_of())
    return folder


@pytest.mark.parametrize("changed", ["settings", "seed", "train images", "validation images", "weights", "damaged"])
def test_checkpoint_of_another_training_is_not_used(
    table: ImageTable, finished: Path, tmp_path: Path, changed: str
) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    if changed == "damaged":
        (tmp_path / "last.safetensors").write_bytes((tmp_path / "last.safetensors").read_bytes()[:2000])
    settings = replace(SHORT, weight_decay=0.01) if changed == "settings" else SHORT
    seed = 1 if changed == "seed" else 0
    images = table[::-1] if changed == "train images" else table
    val = table[2:] if changed == "validation images" else table
    first = model_of(seed=9 if changed == "weights" else 0)
    with pytest.warns(SlimWarning, match="starts again"):
        again = fit(images, val, settings, seed=seed, folder=tmp_path, initial=first)
    assert_same_training(again, fit(images, val, settings, seed=seed, initial=first))


def test_another_training_clears_what_an_earlier_one_left(table: ImageTable, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    with pytest.warns(SlimWarning), pytest.raises(SettingsError):
        train_classifier(table, table, replace(FAST, lr=1e30), folder=tmp_path, initial=model_of())
    assert not (tmp_path / "model.json").exists()
