"""Where a training stands, on disk: written whole or not at all, and read only by the training that wrote it."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast
from warnings import warn

import pandas as pd
import torch
from torch import Tensor

from slim.artifacts import write_text
from slim.errors import SlimWarning
from slim.models import Classifier
from slim.training.settings import Task, TrainSettings


@dataclass
class State:
    """Where a training stands; all of it goes into a checkpoint."""

    epoch: int = 1
    step: int = 0
    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = -float("inf")
    only_answer: int | None = None
    best: dict[str, Tensor] = field(default_factory=dict)
    group_shares: Tensor | None = None

    def finished(self, settings: TrainSettings) -> bool:
        """Whether no epoch is left, or none of the last ones was better than the best."""
        done = self.epoch - 1
        waited = settings.patience is not None and done - self.best_epoch >= settings.patience
        return done >= settings.epochs or (done > 0 and waited)

    def next_epoch(self) -> None:
        """Nothing has been seen of it yet."""
        self.epoch += 1
        self.step = self.correct = self.seen = 0
        self.loss = self.seconds = 0.0


def fingerprint(model: Classifier, task: Task) -> str:
    """Changes with whatever changes the result: settings, seed, images, and the weights to start from."""
    digest = hashlib.blake2b(digest_size=16)
    values = {name: value for name, value in asdict(task.settings).items() if name != "workers"}
    digest.update(json.dumps([values, task.seed, model.image_size, model.layer, model.mean, model.std]).encode())
    digest.update(b"" if task.group_dro is None else f"group_dro {task.group_dro}".encode())
    for part in (task.table, task.val):
        digest.update(json.dumps([part.paths, part.class_names, part.y.tolist()]).encode())
        digest.update(b"" if part.groups is None else part.groups.tobytes())
    for name, tensor in model.module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_checkpoint(folder: Path, checkpoint: Mapping[str, Any], history: list[dict[str, float]]) -> None:
    """Replace ``last.ckpt`` and ``history.csv``, each whole or not at all."""
    partial = folder / "last.ckpt.partial"
    torch.save(checkpoint, partial)
    partial.replace(folder / "last.ckpt")
    if history:
        write_text(folder / "history.csv", pd.DataFrame(history).to_csv(index=False))


def read_checkpoint(folder: Path, expected: str) -> Mapping[str, Any] | None:
    """The checkpoint with this fingerprint; without one, what another training has left is cleared."""
    path = folder / "last.ckpt"
    if path.exists():
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError, OSError):
            checkpoint = {}
        if checkpoint.get("fingerprint") == expected:
            return cast("Mapping[str, Any]", checkpoint)
        warn(
            f"To go on from {path}, settings, seed, images and first weights must be those that it was made with. "
            "Got others, or a damaged file. The training starts again and overwrites it.",
            SlimWarning,
            stacklevel=6,  # the caller of `train`
        )
    for name in ("last.ckpt", "history.csv", "model.safetensors", "model.json"):
        (folder / name).unlink(missing_ok=True)
    return None
