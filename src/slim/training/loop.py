"""The training loop. Each step depends only on the seed, the epoch and the step number.

A killed training therefore resumes from its last checkpoint and ends with the same result.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, isfinite, pi
from pathlib import Path
from time import perf_counter
from typing import cast
from warnings import warn

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from slim import processes
from slim.arrays import Ints
from slim.data import ImageTable
from slim.errors import SettingsError, SlimWarning
from slim.metrics import accuracy_by_group
from slim.network.classifier import Classifier
from slim.network.pace import STEP, Pace, announce_time, some_batches
from slim.network.partial import Cut, find_cut, last_stage
from slim.network.sharing import independent_copy
from slim.network.tracing import evaluating
from slim.progress import track
from slim.room import check_room
from slim.training.checkpoint import FILE, State, fingerprint, read_checkpoint, write_checkpoint, write_history
from slim.training.group_dro import balanced_order, robust_loss
from slim.training.settings import Task, TrainSettings
from slim.training.sources import Batches, Images, Source, in_batches, open_sources

CHECKPOINT_SECONDS = 60.0
"""Within an epoch, a checkpoint is written once the last one is older than this."""

_SELECT_BY = {
    "accuracy": "val_accuracy",
    "class-balanced-accuracy": "val_class_balanced_accuracy",
    "worst-group": "val_worst_group_accuracy",
    "loss": "val_loss",
    "last": "epoch",
}


@dataclass(frozen=True, eq=False)
class Training:
    """The result of `fit`.

    Attributes
    ----------
    classifier
        Has the weights of the best epoch and is in evaluation mode.
    history
        One row per epoch: ``epoch, train_loss, train_accuracy, val_loss, val_accuracy,
        val_class_balanced_accuracy``, ``val_worst_group_accuracy`` (only if it selects the epoch), ``lr`` (of the
        last step), ``seconds``. The train columns are means over the steps of the epoch.
    best_epoch
        The epoch whose weights were kept, counted from 1.
    """

    classifier: Classifier
    history: pd.DataFrame
    best_epoch: int


class Loop:
    """One training, from its start or its last checkpoint to its end."""

    def __init__(self, model: Classifier, task: Task, fabric: Fabric, folder: Path | None) -> None:
        self.model, self.task, self.fabric, self.folder = model, task, fabric, folder
        self.fingerprint = "" if folder is None else fingerprint(model, task)
        self.state = State()
        fabric.to_device(model.module)
        self.cut = _cut(model, task.settings.trainable)
        self.trained = _freeze(model, self.cut, task.settings)
        self.optimizer = _optimizer(self.trained.values(), task.settings)
        self.forward, self.stepper = fabric.setup(model.module, self.optimizer)
        self.weights = _class_weights(task.table, task.settings).to(fabric.device)
        self.groups = None if task.group_dro is None else task.table.groups
        self.saved = perf_counter()

    def run(self) -> Training:
        """Train to the end and return the best epoch."""
        settings = self.task.settings
        self._resume()
        if not self.state.finished(settings):
            self._check_room()
            self._announce_time()
            source, val = open_sources(self.model, self.task, self.cut, self.forward, self.fabric.device)
            while not self.state.finished(settings):
                self._epoch(source)
                self._validate(val)
        return self._result()

    def _check_room(self) -> None:
        """Stop where the disk cannot hold the network and a checkpoint, besides the one that it replaces."""
        if self.folder is None:
            return
        settings, changing = self.task.settings, _bytes(self._changing().values())
        copies = 2 if settings.optimizer == "adamw" else int(settings.momentum > 0)
        checkpoint = 2 * changing + copies * _bytes(self.trained.values())  # the last weights and the best ones
        old = self.folder / FILE
        disk = 2 * checkpoint + _bytes(self.model.module.state_dict().values())
        check_room("checkpoints", disk=disk - (old.stat().st_size if old.exists() else 0), folder=self.folder)

    def _announce_time(self) -> None:
        """Say about how long the epochs that are left will take, from steps of a copy of the network."""
        task, left, whole = self.task, self.task.settings.epochs - self.state.epoch + 1, self.cut is None

        def seconds() -> float:
            copy = independent_copy(self.model.module).train(whole)
            images = Images(task.table, self.model, task, copy)

            def step(batch: Tensor) -> Tensor:
                with torch.set_grad_enabled(whole), self.fabric.autocast():
                    logits = images.logits(batch)
                if whole:
                    logits.float().logsumexp(1).sum().backward()
                return logits.detach()

            pace = Pace.measured(
                some_batches(task.table, self.model.image_size, task.settings.batch_size, task.recomposition), step
            )
            n, n_val = len(task.table), len(task.val)
            # Each image passes a frozen part once, and the rest is fast.
            return left * (pace.seconds(n) + pace.seconds(n_val, 1 / STEP)) if whole else pace.seconds(n + n_val)

        announce_time("training", f"{left} epoch{'s' * (left > 1)} of {len(task.table):,} images", seconds)

    def _epoch(self, source: Source) -> None:
        """Run the remaining steps of an epoch."""
        state, task = self.state, self.task
        rng = np.random.default_rng((task.seed, state.epoch, 0, 0, 0))
        order = rng.permutation(len(task.table)) if self.groups is None else balanced_order(self.groups, rng)
        batches = in_batches(order, task.settings.batch_size)
        self.model.module.train()
        description = f"training, epoch {state.epoch} of {task.settings.epochs}"
        if state.history:
            description += f", loss {state.history[-1]['train_loss']:.2g}"
        coming = source.batches(batches, state.epoch, task.settings.augmentation, state.step, spread=True)
        start, before = perf_counter(), state.seconds
        for inputs, y in track(coming, description, total=len(batches) - state.step):
            self._step(source, inputs, y.to(self.fabric.device), batches)
            state.seconds = before + perf_counter() - start
            if perf_counter() - self.saved >= CHECKPOINT_SECONDS:
                self._save()

    def _step(self, source: Source, inputs: Tensor, y: Tensor, batches: Batches) -> None:
        """Update the weights once, on the next batch."""
        state, settings, n_steps = self.state, self.task.settings, len(batches)
        lr = _learning_rate(settings, (state.epoch - 1) * n_steps + state.step, settings.epochs * n_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        _seed_step(self.task.seed, state.epoch, state.step, self.fabric.device)
        logits = source.logits(inputs).float()
        batch = batches[state.step]
        loss = self._loss(logits, y, batch)
        state.step += 1
        self._add(loss, logits.argmax(1) == y, batch)
        self.fabric.backward(loss)
        self.stepper.step()
        self.stepper.zero_grad()

    def _loss(self, logits: Tensor, y: Tensor, batch: Ints) -> Tensor:
        """Mean loss of the batch, or the loss of GroupDRO, whose shares are updated.

        Of several processes, the mean of their losses is that of the batch, since their gradients are averaged.
        """
        if self.groups is None or self.task.group_dro is None:
            if processes.count() == 1:
                return cross_entropy(logits, y, self.weights)
            whole = self.weights[torch.from_numpy(self.task.table.y[batch])].sum()
            part = cross_entropy(logits, y, self.weights, reduction="sum") * _counts(batch)
            return part * (processes.count() / whole)
        if self.state.group_shares is None:
            present = torch.from_numpy(np.bincount(self.groups) > 0).float()
            self.state.group_shares = present / present.sum()
        groups, shares = torch.from_numpy(self.groups[batch]), self.state.group_shares
        loss, self.state.group_shares = robust_loss(
            logits, y, groups.to(logits.device), shares.to(logits.device), self.task.group_dro
        )
        return loss

    def _add(self, loss: Tensor, correct: Tensor, batch: Ints) -> None:
        """Add a batch to the sums for the history."""
        state, n = self.state, len(batch)
        mine = np.array([loss.item() / processes.count(), int(correct.sum()) * _counts(batch)])
        mean, right = processes.summed(mine).tolist()
        _check_finite(mean, f"in step {state.step} of epoch {state.epoch}", self._lr())
        state.loss, state.correct, state.seen = state.loss + mean * n, state.correct + int(right), state.seen + n

    def _lr(self) -> float:
        """Learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def _validate(self, source: Source) -> None:
        """End an epoch: append its row to the history, and keep its weights if it is the best so far."""
        start, state, settings = perf_counter(), self.state, self.task.settings
        logits = self._val_logits(source)
        row = {
            "epoch": state.epoch,
            "train_loss": state.loss / state.seen,
            "train_accuracy": state.correct / state.seen,
        }
        row |= _val_columns(logits, self.task.val, settings)
        row |= {"lr": self._lr(), "seconds": round(state.seconds + perf_counter() - start, 3)}
        _check_finite(row["val_loss"], f"on the validation images after epoch {state.epoch}", self._lr())
        state.history.append(row)
        self.fabric.log_dict({name: value for name, value in row.items() if name != "epoch"}, step=state.epoch)
        value = row[_SELECT_BY[settings.select_by]] * (-1 if settings.select_by == "loss" else 1)
        if state.best_value is None or value > state.best_value:
            self._remember(value, np.unique(logits.argmax(1).numpy()))
        state.next_epoch()
        self._save()

    def _val_logits(self, source: Source) -> Tensor:
        """Logits of all validation images, on the CPU."""
        order = np.arange(len(self.task.val))[processes.share(len(self.task.val))]
        logits = np.zeros((len(self.task.val), self.model.n_classes), np.float32)
        batches = in_batches(order, self.task.settings.batch_size) if len(order) else []
        shown = track(source.batches(batches, 0, "none"), "validating", total=len(batches))
        with evaluating(self.model.module), torch.no_grad():
            for batch, (inputs, _) in zip(batches, shown, strict=True):
                logits[batch] = source.logits(inputs).float().cpu().numpy()
        return torch.from_numpy(processes.summed(logits))

    def _remember(self, value: float, predicted: Ints) -> None:
        """Keep the present weights as the best."""
        state = self.state
        state.best_epoch, state.best_value = state.epoch, value
        state.only_prediction = int(predicted[0]) if len(predicted) == 1 else None
        state.best = {name: tensor.detach().cpu().clone() for name, tensor in self._changing().items()}

    def _changing(self) -> dict[str, Tensor]:
        """The trained parameters and all buffers: everything in which the model differs from the initial one."""
        frozen = {name for name, _ in self.model.module.named_parameters()} - self.trained.keys()
        return {name: tensor for name, tensor in self.model.module.state_dict().items() if name not in frozen}

    def _save(self) -> None:
        """Write the checkpoint and the history."""
        self.saved = perf_counter()
        if self.folder is None or not processes.first():
            return
        checkpoint = {
            "fingerprint": self.fingerprint,
            "state": vars(self.state),
            "model": self._changing(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        write_checkpoint(self.folder, checkpoint, self.state.history)

    def _resume(self) -> None:
        """Resume from the checkpoint in the folder, if it belongs to this training."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint = read_checkpoint(self.folder, self.fingerprint) if processes.first() else None
        checkpoint = processes.agreed(checkpoint)
        if checkpoint is not None:
            self.state = State(**checkpoint["state"])
            self.model.module.load_state_dict(checkpoint["model"], strict=False)
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            self.fabric.strategy.precision.load_state_dict(checkpoint["precision"])

    def _result(self) -> Training:
        """The model with its best weights, which are saved into the folder."""
        state, settings = self.state, self.task.settings
        self.model.module.load_state_dict(state.best, strict=False)
        self.model.module.eval()
        if state.only_prediction is not None and len(np.unique(self.task.val.y)) > 1:
            warn(
                f"The model predicts {self.model.class_names[state.only_prediction]} for every validation image. Try "
                f"another learning rate (--lr, here {settings.lr:g}) or a smaller weight decay (--weight-decay, here "
                f"{settings.weight_decay:g}).",
                SlimWarning,
                stacklevel=5,  # the caller of `train_classifier`
            )
        for logger in self.fabric.loggers:
            logger.finalize("success")
        if self.folder is not None and processes.first():
            write_history(self.folder, state.history)  # again: it may have been lost since the last epoch
            self.model.save(self.folder)
        return Training(self.model, pd.DataFrame(state.history), state.best_epoch)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _counts(batch: Ints) -> bool:
    """Whether this process's images count, and do not only fill its place."""
    return processes.number() < len(batch)


def _cut(model: Classifier, trainable: str) -> Cut | None:
    """The cut before the part to train; None trains all of it."""
    if trainable == "all":
        return None
    if trainable == "head":
        linear = model.linear
        name = next(name for name, child in model.module.named_modules() if child is linear)
    else:
        name = last_stage(model) if trainable == "last-stage" else trainable
    return find_cut(model.module, name, model.image_size)


def _freeze(model: Classifier, cut: Cut | None, settings: TrainSettings) -> dict[str, nn.Parameter]:
    """The parameters to train; the others no longer require a gradient."""
    trained = {}
    for name, values in model.module.named_parameters():
        values.requires_grad_(values.requires_grad and (cut is None or name in cut.trained))
        if values.requires_grad:
            trained[name] = values
    if not trained:
        raise SettingsError(
            f"There must be parameters to train in the part {settings.trainable!r} of the network. Got none that "
            "require a gradient. Name an earlier part (--trainable), or call requires_grad_() on the parameters."
        )
    return trained


def _optimizer(parameters: Iterable[nn.Parameter], settings: TrainSettings) -> torch.optim.Optimizer:
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    return torch.optim.SGD(parameters, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay)


def _learning_rate(settings: TrainSettings, step: int, n_steps: int) -> float:
    """Learning rate of a step; steps are counted from 0 over the whole training."""
    rising = round(settings.warmup * n_steps)
    if step < rising:
        return settings.lr * (step + 1) / (rising + 1)
    if settings.schedule == "constant":
        return settings.lr
    return settings.lr * (1 + cos(pi * (step - rising) / (n_steps - rising))) / 2


def _seed_step(seed: int, epoch: int, step: int, device: torch.device) -> None:
    """Seed the generators that dropout and drop path use in a step, but not the generators of other GPUs."""
    # Five numbers: shorter keys are padded with zeros and would collide with the keys of the augmentation.
    drawn = int(np.random.SeedSequence((seed, epoch, step, processes.number(), 1)).generate_state(1)[0])
    torch.default_generator.manual_seed(drawn)
    if device.type == "cuda":
        torch.cuda.manual_seed(drawn)


def _class_weights(table: ImageTable, settings: TrainSettings) -> Tensor:
    """(n_classes,) weight of an image of each class."""
    if settings.class_weights == "none":
        return torch.ones(table.n_classes)
    n = torch.bincount(torch.from_numpy(table.y), minlength=table.n_classes)
    return torch.where(n > 0, len(table) / (table.n_classes * n.clamp(min=1)), 0.0)


def _val_columns(logits: Tensor, val: ImageTable, settings: TrainSettings) -> dict[str, float]:
    """The validation columns of the history."""
    y = torch.from_numpy(val.y)
    correct = (logits.argmax(1) == y).numpy()
    by_class = [float(correct[val.y == label].mean()) for label in np.unique(val.y)]
    columns = {
        "val_loss": float(cross_entropy(logits, y)),
        "val_accuracy": float(correct.mean()),
        "val_class_balanced_accuracy": float(np.mean(by_class)),
    }
    if settings.select_by == "worst-group":
        groups = cast("Ints", val.groups)
        columns["val_worst_group_accuracy"] = accuracy_by_group(correct, groups, val.group_names).worst_group_accuracy
    return columns


def _check_finite(loss: float, where: str, lr: float) -> None:
    """Stop a training that has diverged."""
    if not isfinite(loss):
        raise SettingsError(
            f"The loss must stay finite. Got {loss} {where} at learning rate {lr:.3g}. "
            f"Try a lower learning rate (--lr {lr / 10:.1g}), or float32 (--precision 32-true)."
        )
