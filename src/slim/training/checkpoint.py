"""The state of a training on disk: written whole or not at all, and resumed only by the training that wrote it.

``last.safetensors`` holds the tensors, and everything else as JSON in its metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast
from warnings import warn

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from slim.errors import SlimWarning
from slim.files import parse_json, write_text
from slim.network.checkpoints import write_tensors
from slim.network.classifier import Classifier
from slim.training.settings import Task, TrainSettings

FILE = "last.safetensors"
_TENSOR = "tensor"  # the key that marks where a tensor was taken out


@dataclass
class State:
    """How far a training is; all of it goes into a checkpoint."""

    epoch: int = 1
    step: int = 0
    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float | None = None
    only_prediction: int | None = None
    best: dict[str, Tensor] = field(default_factory=dict)
    group_shares: Tensor | None = None

    def finished(self, settings: TrainSettings) -> bool:
        """Whether no epoch is left, or `patience` epochs in a row were no better than the best."""
        done = self.epoch - 1
        waited = settings.patience is not None and done - self.best_epoch >= settings.patience
        return done >= settings.epochs or (done > 0 and waited)

    def next_epoch(self) -> None:
        """Start the next epoch, of which no image has been seen."""
        self.epoch += 1
        self.step = self.correct = self.seen = 0
        self.loss = self.seconds = 0.0


def fingerprint(model: Classifier, task: Task) -> str:
    """Changes with whatever changes the result: settings, seed, images, and the initial weights."""
    digest = hashlib.blake2b(digest_size=16)
    values = {name: value for name, value in asdict(task.settings).items() if name not in ("workers", "checkpoint")}
    digest.update(json.dumps([values, task.seed, model.image_size, model.layer, model.mean, model.std]).encode())
    digest.update(b"" if task.group_dro is None else f"group_dro {task.group_dro}".encode())
    if task.recomposition is not None:
        digest.update(task.recomposition.digest().encode())
    for part in (task.table, task.val):
        digest.update(json.dumps([part.paths, part.class_names, part.y.tolist()]).encode())
        digest.update(b"" if part.groups is None else part.groups.tobytes())
    for name, tensor in model.module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_checkpoint(folder: Path, checkpoint: Mapping[str, Any], history: list[dict[str, float]]) -> None:
    """Replace ``last.safetensors`` and ``history.csv``, each whole or not at all."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_without_tensors(checkpoint, "", tensors))
    write_tensors(folder / FILE, tensors, {"checkpoint": text})
    write_history(folder, history)


def write_history(folder: Path, history: list[dict[str, float]]) -> None:
    """Replace ``history.csv``, one row per epoch; there is none before the first has ended."""
    if history:
        write_text(folder / "history.csv", pd.DataFrame(history).to_csv(index=False))


def read_checkpoint(folder: Path, expected: str) -> Mapping[str, Any] | None:
    """The checkpoint with this fingerprint; without one, the files that another training left are removed."""
    path = folder / FILE
    if path.exists():
        checkpoint = _read(path)
        if checkpoint.get("fingerprint") == expected:
            return checkpoint
        warn(
            f"{path} was written with other settings, another seed, other images or other initial weights, or it is "
            "damaged. The training starts again and overwrites it.",
            SlimWarning,
            stacklevel=6,  # the caller of `train_classifier`
        )
    for name in (FILE, "history.csv", "model.safetensors", "model.json"):
        (folder / name).unlink(missing_ok=True)
    return None


def _read(path: Path) -> Mapping[str, Any]:
    """A checkpoint's content; empty if the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            checkpoint = _with_tensors(parse_json(file.metadata()["checkpoint"].encode()), file)
        optimizer = checkpoint["optimizer"]
        # The parameters' numbers, which are text in JSON.
        optimizer["state"] = {int(number): values for number, values in optimizer["state"].items()}
        return cast("Mapping[str, Any]", checkpoint)
    except (SafetensorError, OSError, AttributeError, TypeError, ValueError, KeyError):
        return {}


def _without_tensors(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A nested value as JSON, its tensors moved to `tensors` under the names of their places.

    Examples
    --------
    >>> tensors = {}
    >>> _without_tensors({"best": {"fc.bias": torch.zeros(2)}, "epoch": 3}, "", tensors)
    {'best': {'fc.bias': {'tensor': 'best/fc.bias', 'channels_last': False}}, 'epoch': 3}
    >>> list(tensors)
    ['best/fc.bias']
    """
    if isinstance(value, Tensor):
        tensors[name] = value
        return {_TENSOR: name, "channels_last": _is_channels_last(value)}
    if isinstance(value, Mapping):
        return {str(key): _without_tensors(one, f"{name}/{key}".strip("/"), tensors) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_tensors(one, f"{name}/{i}", tensors) for i, one in enumerate(value)]
    return value


def _with_tensors(value: Any, file: Any) -> Any:
    """The reverse of `_without_tensors`; each tensor has the layout in memory that it had, and so sums as it did."""
    if isinstance(value, dict) and isinstance(value.get(_TENSOR), str):
        tensor: Tensor = file.get_tensor(value[_TENSOR])
        return tensor.contiguous(memory_format=torch.channels_last) if value["channels_last"] else tensor
    if isinstance(value, dict):
        return {key: _with_tensors(one, file) for key, one in value.items()}
    return [_with_tensors(one, file) for one in value] if isinstance(value, list) else value


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
