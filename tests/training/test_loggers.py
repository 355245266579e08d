"""Loggers of Lightning Fabric get each epoch, and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from lightning_fabric.loggers import Logger

from slim.data import ImageTable
from slim.errors import SettingsError, SlimError
from slim.training import TrainSettings
from slim.training.fitting import fit
from slim.training.loggers import make_logger

pytestmark = pytest.mark.filterwarnings("ignore::slim.errors.SlimWarning")  # so little is learnt

SETTINGS = TrainSettings(arch="resnet10t", weights=None, image_size=32, epochs=2, device="cpu", precision="32-true")


class Kept(Logger):
    """Keeps what it is told."""

    name, version = "kept", "0"

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.ends: list[str] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((int(step or 0), metrics))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run has them."""

    def finalize(self, status: str) -> None:
        self.ends.append(status)


def test_logger_gets_the_history_and_changes_nothing(photos: Callable[..., ImageTable]) -> None:
    train, val, logger = photos(8, split="train"), photos(4, split="val"), Kept()
    logged, plain = fit(train, val, SETTINGS, loggers=[logger]), fit(train, val, SETTINGS)
    rows = logged.history.to_dict("records")
    assert logger.rows == [(row["epoch"], {name: row[name] for name in row if name != "epoch"}) for row in rows]
    assert logger.ends == ["success"]
    states = (one.classifier.module.state_dict() for one in (logged, plain))
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))


def test_option_writes_what_tensorboard_reads(
    squares: Callable[..., Path], tmp_path: Path, slim_command: Callable[..., Result]
) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs pip install 'slim-vision[tensorboard]'"
    )
    small = ["--arch", "resnet10t", "--weights", "none", "--image-size", 32, "--epochs", 2, "--device", "cpu"]
    done = slim_command("train", tmp_path / "run", "--data", squares(), *small, "--logger", "tensorboard")
    assert done.exit_code == 0, done.stderr
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "logs" / "train")).Reload()
    assert [event.step for event in events.Scalars("val_accuracy")] == [1, 2]
    assert "logger" not in (tmp_path / "run" / "settings.json").read_text()


def test_unknown_logger_and_missing_package_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"one of tensorboard, wandb\. Got 'mlflow'"):
        make_logger("mlflow", tmp_path)  # type: ignore[arg-type]
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(SlimError, match=r"pip install 'slim-vision\[wandb\]'"):
        make_logger("wandb", tmp_path)
