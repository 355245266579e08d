"""One training loop, for the reference model and for the retrained one.

What a step does depends on the seed, the epoch and the step alone, so that a training that was killed goes on from
its last checkpoint as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from math import cos, isfinite, pi
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, Protocol, cast, get_args, get_origin, get_type_hints
from warnings import warn

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from slim.artifacts import write_text
from slim.datasets import ImageTable, image_batches
from slim.errors import DataError, SettingsError, SlimWarning
from slim.frozen import Activations, Cut, Forward, find_cut, fitting_dtype, keep_activations, last_stage
from slim.metrics import accuracy_by_group
from slim.models import Classifier, Precision, build, evaluating, resolve_precision
from slim.progress import track

CHECKPOINT_SECONDS = 60.0
"""Within an epoch a checkpoint is written when the last one is older than this."""

Chunks = list[npt.NDArray[np.int64]]
_SELECT_BY = {
    "accuracy": "val_accuracy",
    "class-balanced-accuracy": "val_class_balanced_accuracy",
    "worst-group": "val_worst_group_accuracy",
    "loss": "val_loss",
}


@dataclass(frozen=True)
class TrainSettings:
    """How to train.

    Parameters
    ----------
    arch
        Any architecture that timm knows.
    weights
        What to start from: imagenet, a checkpoint's path, or none for random values.
    image_size
        Side of the square input in pixels; the architecture's own by default.
    layer
        The submodule whose attention is looked at; found by default.
    trainable
        all, head, last-stage, or the name of the first submodule that is trained, such as layer4. Except with all,
        what enters this part is computed once and kept in memory, so that images are not augmented.
    optimizer
        sgd or adamw.
    lr
        Highest learning rate, above 0.
    momentum
        Of sgd, from 0 to below 1.
    weight_decay
        Pull of all trained parameters towards 0, at least 0.
    schedule
        Learning rate after the warmup: constant, or cosine, which ends near 0.
    warmup
        Share of the steps in which the learning rate rises to its highest value, from 0 to below 1.
    epochs
        How often every image is seen, at least 1.
    batch_size
        Images a step, at least 2. A last batch of a single image is merged into the one before.
    precision
        auto (bfloat16 where the hardware computes in it), 32-true, bf16-mixed or 16-mixed.
    class_weights
        none, or balanced: images count by n / (n_classes * n of their class), so that every class counts the same.
    augmentation
        none, or light: a random flip, and a cut to 0.7 to 1 of the frame.
    select_by
        Which epoch is kept, by the validation images: accuracy, class-balanced-accuracy, loss, or worst-group, which
        uses the group labels of the validation images. The earlier of two equal epochs is kept.
    patience
        Stop after so many epochs without a better one; never when None.
    workers
        Processes that read images; 0 reads them in threads.
    device
        auto (a GPU where there is one), cpu or cuda.

    Raises
    ------
    SettingsError
        A value is out of its range.

    Examples
    --------
    >>> TrainSettings(lr=-1)
    Traceback (most recent call last):
    ...
    slim.errors.SettingsError: lr must be above 0. Got -1. Try 0.01 with sgd, 0.0001 with adamw.
    """

    arch: str = "tf_efficientnet_lite0"
    weights: str | None = "imagenet"
    image_size: int | None = None
    layer: str | None = None
    trainable: str = "all"
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: float = 0.05
    epochs: int = 3
    batch_size: int = 32
    precision: Precision = "auto"
    class_weights: Literal["none", "balanced"] = "none"
    augmentation: Literal["none", "light"] = "light"
    select_by: Literal["accuracy", "class-balanced-accuracy", "worst-group", "loss"] = "accuracy"
    patience: int | None = None
    workers: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        whole = "Give a whole number."
        rules = {
            "lr": (0 < self.lr < float("inf"), "above 0", "Try 0.01 with sgd, 0.0001 with adamw."),
            "momentum": (0 <= self.momentum < 1, "at least 0 and below 1", "Try 0.9."),
            "weight_decay": (0 <= self.weight_decay < float("inf"), "at least 0", "Try 0.0001."),
            "warmup": (0 <= self.warmup < 1, "a share of the steps, at least 0 and below 1", "Try 0.05."),
            "epochs": (self.epochs >= 1, "at least 1", whole),
            "batch_size": (self.batch_size >= 2, "at least 2", "Try 32."),
            "image_size": (self.image_size is None or self.image_size >= 1, "at least 1", "Try 224."),
            "patience": (
                self.patience is None or self.patience >= 1,
                "at least 1",
                "Leave it out to never stop early.",
            ),
            "workers": (self.workers >= 0, "at least 0", whole),
            "trainable": (bool(self.trainable), "all, head, last-stage or a submodule's name", "Try all."),
        }
        for name, hint in get_type_hints(TrainSettings).items():
            if get_origin(hint) is Literal:
                allowed = get_args(hint)
                rules[name] = (getattr(self, name) in allowed, f"one of {', '.join(allowed)}", f"Try {allowed[0]}.")
        for name, (holds, must, hint) in rules.items():
            if not holds:
                raise SettingsError(f"{name} must be {must}. Got {getattr(self, name)!r}. {hint}")


@dataclass(frozen=True, eq=False)
class Training:
    """What `fit` returns.

    Attributes
    ----------
    classifier
        With the best epoch's weights, in evaluation mode.
    history
        One row an epoch: ``epoch, train_loss, train_accuracy, val_loss, val_accuracy,
        val_class_balanced_accuracy``, ``val_worst_group_accuracy`` (only where it selects), ``lr`` (of the last
        step), ``seconds``. The train columns are means over the steps, as the weights change.
    best_epoch
        Which row was kept, counted from 1.
    """

    classifier: Classifier
    history: pd.DataFrame
    best_epoch: int


def train(
    table: ImageTable,
    val: ImageTable,
    settings: TrainSettings = TrainSettings(),
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    initial: Classifier | None = None,
) -> Classifier:
    """Train a classifier and return it with the weights of its best epoch, in evaluation mode.

    Parameters
    ----------
    table
        The images to train on, at least two, of at least two classes. Rows may repeat.
    val
        The images that select the epoch.
    settings
        How to train.
    seed
        At least 0. Together with the settings, the images and `initial` it determines the result: bit for bit on
        one machine's CPU with one number of threads, and as far as its kernels are deterministic on a GPU.
    folder
        Where to write ``last.ckpt`` while training, ``history.csv`` after each epoch, and ``model.safetensors`` and
        ``model.json`` at the end. A later call with the same arguments goes on from ``last.ckpt``. Nothing is
        written when None.
    initial
        Start from this classifier, which is left as it is, in place of ``settings.arch``, ``weights``,
        ``image_size`` and ``layer``.

    Raises
    ------
    DataError
        Too few images or classes, or `val` does not go with `table`.
    SettingsError
        A setting does not go with the images or the machine, or the loss is no longer finite.
    ModelError
        The network cannot be built, or cannot be cut where ``settings.trainable`` says.

    Warns
    -----
    SlimWarning
        The kept epoch's model answers the same class for every validation image; or ``last.ckpt`` was made with
        other arguments and is not used.

    Notes
    -----
    The validation loss is not weighted by class. Parameters that do not require a gradient in `initial` are not
    trained. With ``class_weights="balanced"`` a class without an image in `table` counts nothing.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp())
    >>> for color in ("red", "blue"):
    ...     Image.new("RGB", (32, 32), color).save(folder / f"{color}.png")
    >>> frame = pd.DataFrame({"path": [f"{folder}/red.png", f"{folder}/blue.png"] * 4, "y": [0, 1] * 4})
    >>> table = ImageTable(frame, ("red", "blue"))
    >>> settings = TrainSettings(arch="resnet10t", weights=None, image_size=32, epochs=3, device="cpu")
    >>> model = train(table, table, settings)
    >>> model.class_names, model.module.training
    (('red', 'blue'), False)
    """
    return fit(table, val, settings, seed=seed, folder=folder, initial=initial).classifier


def fit(
    table: ImageTable,
    val: ImageTable,
    settings: TrainSettings = TrainSettings(),
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    initial: Classifier | None = None,
) -> Training:
    """Train as `train` does, and return the history too.

    Parameters, errors and warnings are those of `train`.
    """
    _check(table, val, settings, seed)
    device = _device(settings)
    with _contained(device):
        fabric = Fabric(
            accelerator=device.type,
            devices=1,
            precision=resolve_precision(settings.precision, device),
        )
        model = _first_model(table, settings, seed, initial)
        flags = {name: values.requires_grad for name, values in model.module.named_parameters()}
        loop = _Loop(model, table, val, settings, seed, fabric, Path(folder) if folder is not None else None)
        result = loop.run()
        for name, values in model.module.named_parameters():
            values.requires_grad_(flags[name])
    return result


def _check(table: ImageTable, val: ImageTable, settings: TrainSettings, seed: int) -> None:
    """Refuse images and seeds that cannot be trained with."""
    present = np.unique(table.y)
    if len(table) < 2 or len(present) < 2:
        raise DataError(
            "Training takes at least two images, of at least two classes. "
            f"Got {len(table)} images of {len(present)} classes. Give more images, or curate a larger subset (--size)."
        )
    if len(val) == 0:
        raise DataError(
            "The best epoch is selected by validation images. Got none. Give the data set a val split, or pass val=."
        )
    if table.class_names != val.class_names:
        raise DataError(
            "Training and validation images must have the same classes. "
            f"Got {', '.join(table.class_names)} and {', '.join(val.class_names)}. Take both from one data set."
        )
    if settings.select_by == "worst-group" and val.groups is None:
        raise SettingsError(
            "Selection by worst-group needs validation images with a spurious attribute. Got none. "
            "Use class-balanced-accuracy, or name the attribute when the data set is loaded (--attribute)."
        )
    if seed < 0:
        raise SettingsError(f"seed must be at least 0. Got {seed}. Try 0.")


def _device(settings: TrainSettings) -> torch.device:
    """The device that the settings mean, if it is there and computes in the precision."""
    there = torch.cuda.is_available()
    if settings.device == "cuda" and not there:
        raise SettingsError("device cuda must be a GPU that PyTorch sees. Got none. Use --device cpu or auto.")
    device = torch.device("cpu" if settings.device == "cpu" or not there else "cuda")
    if settings.precision == "16-mixed" and device.type == "cpu":
        raise SettingsError("precision 16-mixed must run on a GPU. Got the CPU. Use --precision auto or 32-true.")
    return device


@contextmanager
def _contained(device: torch.device) -> Iterator[None]:
    """Within the block random numbers, cuDNN and Fabric's messages are ours; after it they are as before."""
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    with ExitStack() as stack:
        stack.callback(logger.setLevel, level)
        logger.setLevel(logging.WARNING)
        stack.enter_context(torch.random.fork_rng(devices=devices))
        if devices:
            before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
            stack.callback(_set_cudnn, *before)
            _set_cudnn(True, False)
        yield


def _set_cudnn(deterministic: bool, benchmark: bool) -> None:
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = benchmark


def _first_model(table: ImageTable, settings: TrainSettings, seed: int, initial: Classifier | None) -> Classifier:
    """A model of our own to train: built, or a copy of the one given."""
    if initial is None:
        return build(
            settings.arch,
            table.class_names,
            weights=settings.weights,
            image_size=settings.image_size,
            layer=settings.layer,
            seed=seed,
        )
    unnamed = tuple(map(str, range(table.n_classes)))  # what slim.wrap calls classes by default
    if initial.class_names not in (table.class_names, unnamed):
        raise DataError(
            f"The images must have the classes that the model tells apart, {', '.join(initial.class_names)}. "
            f"Got {', '.join(table.class_names)}. Leave initial= out to train a new model."
        )
    return replace(initial, module=deepcopy(initial.module), class_names=table.class_names)


def _chunks(order: npt.NDArray[np.int64], batch_size: int) -> Chunks:
    """The order in batches; a lone last image joins the batch before, since batch norm cannot take it alone."""
    chunks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if len(chunks) > 1 and len(chunks[-1]) == 1:
        chunks[-2:] = [np.concatenate(chunks[-2:])]
    return chunks


def _step_seed(seed: int, epoch: int, step: int) -> int:
    """What dropout and drop path draw from in a step."""
    # Five numbers, since shorter keys are padded with zeros and would meet those of the images' augmentation.
    return int(np.random.SeedSequence((seed, epoch, step, 0, 1)).generate_state(1)[0])


def _seed_network(seed: int, device: torch.device) -> None:
    """Seed the generators that the network draws from, and not those of other GPUs."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


class _Source(Protocol):
    """Where a table's batches come from, and how the network turns one into logits."""

    def batches(self, chunks: Chunks, epoch: int, augmentation: str) -> Iterable[tuple[Tensor, Tensor]]: ...

    def logits(self, inputs: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class _Images:
    """Images from disk, through the whole network."""

    table: ImageTable
    model: Classifier
    settings: TrainSettings
    seed: int
    forward: Forward

    def batches(self, chunks: Chunks, epoch: int, augmentation: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Images as bytes, and labels."""
        regular = chunks if len(chunks) < 2 or len(chunks[-1]) <= len(chunks[0]) else chunks[:-1]
        for part in (regular, chunks[len(regular) :]):
            if part:
                for images, y, _ in image_batches(
                    self.table,
                    self.model.image_size,
                    len(part[0]),
                    order=np.concatenate(part),
                    augmentation=cast(Literal["none", "light"], augmentation),
                    seed=self.seed,
                    epoch=epoch,
                    workers=self.settings.workers,
                ):
                    yield images, y

    def logits(self, inputs: Tensor) -> Tensor:
        """Of images as bytes."""
        return self.forward(self.model.normalize(inputs))


@dataclass(frozen=True, eq=False)
class _Kept:
    """Activations from memory, through the network behind the cut."""

    y: npt.NDArray[np.int64]
    cut: Cut
    kept: Activations
    device: torch.device
    forward: Forward

    def batches(self, chunks: Chunks, epoch: int, augmentation: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Activations, and labels."""
        for chunk in chunks:
            yield self.kept.batch(torch.from_numpy(chunk), self.device), torch.from_numpy(self.y[chunk])

    def logits(self, inputs: Tensor) -> Tensor:
        """Of activations."""
        return self.cut.replay(inputs, self.forward)


@dataclass
class _State:
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

    def finished(self, settings: TrainSettings) -> bool:
        """Whether no epoch is left, or none of the last ones was better than the best."""
        done = self.epoch - 1
        waited = settings.patience is not None and done - self.best_epoch >= settings.patience
        return done >= settings.epochs or (done > 0 and waited)


class _Loop:
    """One training, from its first or its last checkpoint to its end."""

    def __init__(
        self,
        model: Classifier,
        table: ImageTable,
        val: ImageTable,
        settings: TrainSettings,
        seed: int,
        fabric: Fabric,
        folder: Path | None,
    ) -> None:
        self.model, self.table, self.val = model, table, val
        self.settings, self.seed, self.fabric, self.folder = settings, seed, fabric, folder
        self.fingerprint = _fingerprint(model, table, val, settings, seed) if folder is not None else ""
        self.state = _State()
        fabric.to_device(model.module)
        self.cut = _cut(model, settings)
        self.trained = _freeze(model, self.cut, settings)
        self.optimizer = _optimizer(self.trained.values(), settings)
        self.forward, self.stepper = fabric.setup(model.module, self.optimizer)
        self.weights = _class_weights(table, settings).to(fabric.device)
        self.saved = perf_counter()

    def run(self) -> Training:
        """Train to the end and keep the best epoch."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._resume()
        if not self.state.finished(self.settings):
            source, val = self._sources()
            while not self.state.finished(self.settings):
                self._epoch(source)
                self._validate(val)
        return self._result()

    def _sources(self) -> tuple[_Source, _Source]:
        """Where the train and the validation batches come from."""
        tables = (self.table, self.val)
        images = [_Images(table, self.model, self.settings, self.seed, self.forward) for table in tables]
        if self.cut is None:
            return images[0], images[1]
        dtype = fitting_dtype(self.cut, sum(map(len, tables)))
        kept = [
            self._keep(self.cut, source, dtype, f"frozen part, {name} images")
            for source, name in zip(images, ("train", "validation"), strict=True)
        ]
        return kept[0], kept[1]

    def _keep(self, cut: Cut, source: _Images, dtype: torch.dtype | None, description: str) -> _Kept:
        """Run a table's images up to the cut."""
        chunks = _chunks(np.arange(len(source.table)), self.settings.batch_size)
        batches = track(source.batches(chunks, 0, "none"), description, total=len(chunks))
        normalized = (self.model.normalize(images) for images, _ in batches)
        kept = keep_activations(cut, normalized, len(source.table), dtype=dtype, forward=self.forward)
        return _Kept(source.table.y, cut, kept, self.fabric.device, self.forward)

    def _epoch(self, source: _Source) -> None:
        """The steps of an epoch that are still to do."""
        state, settings = self.state, self.settings
        order = np.random.default_rng((self.seed, state.epoch, 0, 0, 0)).permutation(len(self.table))
        chunks = _chunks(order, settings.batch_size)
        self.model.module.train()
        description = f"training, epoch {state.epoch} of {settings.epochs}"
        if state.history:
            description += f", loss {state.history[-1]['train_loss']:.2g}"
        batches = source.batches(chunks[state.step :], state.epoch, settings.augmentation)
        start, before = perf_counter(), state.seconds
        for inputs, y in track(batches, description, total=len(chunks) - state.step):
            self._step(source, inputs, y.to(self.fabric.device), len(chunks))
            state.seconds = before + perf_counter() - start
            if perf_counter() - self.saved >= CHECKPOINT_SECONDS:
                self._save()

    def _step(self, source: _Source, inputs: Tensor, y: Tensor, n_steps: int) -> None:
        """One update of the weights."""
        state, settings = self.state, self.settings
        lr = _learning_rate(settings, (state.epoch - 1) * n_steps + state.step, settings.epochs * n_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        _seed_network(_step_seed(self.seed, state.epoch, state.step), self.fabric.device)
        logits = source.logits(inputs).float()
        loss = cross_entropy(logits, y, self.weights)
        state.step += 1
        self._add(loss.item(), int((logits.argmax(1) == y).sum()), len(y))
        self.fabric.backward(loss)
        self.stepper.step()
        self.stepper.zero_grad()

    def _add(self, loss: float, correct: int, n: int) -> None:
        """Sum up what the history says of the train images."""
        state = self.state
        if not isfinite(loss):
            lr = self.optimizer.param_groups[0]["lr"]
            raise _not_finite(f"{loss} in step {state.step} of epoch {state.epoch} at learning rate {lr:.3g}", lr)
        state.loss, state.correct, state.seen = state.loss + loss * n, state.correct + correct, state.seen + n

    def _validate(self, source: _Source) -> None:
        """End an epoch: its row of the history, and whether it is the best one so far."""
        start, state = perf_counter(), self.state
        logits = self._val_logits(source)
        row = {"epoch": state.epoch, "train_loss": state.loss / state.seen}
        row |= {"train_accuracy": state.correct / state.seen}
        row |= _val_columns(logits, self.val, self.settings)
        row["lr"] = self.optimizer.param_groups[0]["lr"]
        row["seconds"] = round(state.seconds + perf_counter() - start, 3)
        if not isfinite(row["val_loss"]):
            raise _not_finite(f"{row['val_loss']} on the validation images after epoch {state.epoch}", row["lr"])
        state.history.append(row)
        column = _SELECT_BY[self.settings.select_by]
        value = -row[column] if column == "val_loss" else row[column]
        if value > state.best_value:
            self._remember(value, np.unique(logits.argmax(1).numpy()))
        state.epoch, state.step, state.loss, state.correct, state.seen, state.seconds = (
            state.epoch + 1,
            0,
            0.0,
            0,
            0,
            0.0,
        )
        self._save()

    def _val_logits(self, source: _Source) -> Tensor:
        """Logits of all validation images, on the CPU."""
        n, size = len(self.val), self.settings.batch_size
        chunks = [np.arange(start, min(start + size, n)) for start in range(0, n, size)]
        with evaluating(self.model.module), torch.no_grad():
            return torch.cat([source.logits(inputs).float().cpu() for inputs, _ in source.batches(chunks, 0, "none")])

    def _remember(self, value: float, answers: npt.NDArray[np.int64]) -> None:
        """Note the present weights as the best."""
        state = self.state
        state.best_epoch, state.best_value = state.epoch, value
        state.only_answer = int(answers[0]) if len(answers) == 1 else None
        state.best = {name: tensor.detach().cpu().clone() for name, tensor in self._changing().items()}

    def _changing(self) -> dict[str, Tensor]:
        """The trained parameters and all buffers: what tells the model from the one it started as."""
        frozen = {name for name, _ in self.model.module.named_parameters()} - self.trained.keys()
        return {name: tensor for name, tensor in self.model.module.state_dict().items() if name not in frozen}

    def _save(self) -> None:
        """Write the checkpoint and the history, each whole or not at all."""
        self.saved = perf_counter()
        if self.folder is None:
            return
        checkpoint = {
            "fingerprint": self.fingerprint,
            "state": vars(self.state),
            "model": self._changing(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        partial = self.folder / "last.ckpt.partial"
        torch.save(checkpoint, partial)
        partial.replace(self.folder / "last.ckpt")
        if self.state.history:
            write_text(self.folder / "history.csv", pd.DataFrame(self.state.history).to_csv(index=False))

    def _resume(self) -> None:
        """Go on from the folder's checkpoint; without one that fits, clear what another training has left."""
        assert self.folder is not None
        checkpoint = _read_checkpoint(self.folder / "last.ckpt", self.fingerprint)
        if checkpoint is None:
            for name in ("last.ckpt", "history.csv", "model.safetensors", "model.json"):
                (self.folder / name).unlink(missing_ok=True)
            return
        self.state = _State(**checkpoint["state"])
        self.model.module.load_state_dict(checkpoint["model"], strict=False)
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.fabric.strategy.precision.load_state_dict(checkpoint["precision"])

    def _result(self) -> Training:
        """The model with its best weights, written into the folder."""
        state, settings = self.state, self.settings
        self.model.module.load_state_dict(state.best, strict=False)
        self.model.module.eval()
        if state.only_answer is not None and len(np.unique(self.val.y)) > 1:
            warn(
                "The model must tell the classes apart. Got one that answers "
                f"{self.model.class_names[state.only_answer]} for every validation image. Try another learning rate "
                f"(--lr, here {settings.lr:g}) or a smaller weight decay (--weight-decay, here "
                f"{settings.weight_decay:g}).",
                SlimWarning,
                stacklevel=5,
            )
        if self.folder is not None:
            self.model.save(self.folder)
        return Training(self.model, pd.DataFrame(state.history), state.best_epoch)


def _cut(model: Classifier, settings: TrainSettings) -> Cut | None:
    """Where training starts within the network; None = at its input."""
    if settings.trainable == "all":
        return None
    if settings.trainable == "head":
        return find_cut(model.module, _head(model), model.image_size)
    name = last_stage(model) if settings.trainable == "last-stage" else settings.trainable
    return find_cut(model.module, name, model.image_size)


def _head(model: Classifier) -> str:
    """Name of the linear head; a `ModelError` where there is none."""
    linear = model.linear
    name: str = next(name for name, child in model.module.named_modules() if child is linear)
    return name


def _freeze(model: Classifier, cut: Cut | None, settings: TrainSettings) -> dict[str, nn.Parameter]:
    """The parameters to train; the others require no gradient from now on."""
    trained = {}
    for name, values in model.module.named_parameters():
        values.requires_grad_(values.requires_grad and (cut is None or name in cut.trained))
        if values.requires_grad:
            trained[name] = values
    if not trained:
        raise SettingsError(
            f"There must be parameters to train in the part {settings.trainable!r} of the network. Got none that "
            "require a gradient. Name an earlier part (--trainable), or call requires_grad_() on them."
        )
    return trained


def _optimizer(parameters: Iterable[nn.Parameter], settings: TrainSettings) -> torch.optim.Optimizer:
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    return torch.optim.SGD(parameters, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay)


def _learning_rate(settings: TrainSettings, step: int, n_steps: int) -> float:
    """Learning rate of a step, counted from 0 over the whole training."""
    rising = round(settings.warmup * n_steps)
    if step < rising:
        return settings.lr * (step + 1) / (rising + 1)
    if settings.schedule == "constant":
        return settings.lr
    return settings.lr * (1 + cos(pi * (step - rising) / (n_steps - rising))) / 2


def _class_weights(table: ImageTable, settings: TrainSettings) -> Tensor:
    """(n_classes,) how much an image of each class counts."""
    if settings.class_weights == "none":
        return torch.ones(table.n_classes)
    n = np.bincount(table.y, minlength=table.n_classes)
    weights = np.zeros(table.n_classes)
    np.divide(len(table), table.n_classes * n, out=weights, where=n > 0)
    return torch.from_numpy(weights).float()


def _val_columns(logits: Tensor, val: ImageTable, settings: TrainSettings) -> dict[str, float]:
    """What the history says of the validation images."""
    y = torch.from_numpy(val.y)
    correct = (logits.argmax(1) == y).numpy()
    by_class = [float(correct[val.y == label].mean()) for label in np.unique(val.y)]
    columns = {
        "val_loss": float(cross_entropy(logits, y)),
        "val_accuracy": float(correct.mean()),
        "val_class_balanced_accuracy": float(np.mean(by_class)),
    }
    if settings.select_by == "worst-group":
        groups = cast("npt.NDArray[np.int64]", val.groups)
        columns["val_worst_group_accuracy"] = accuracy_by_group(correct, groups, val.group_names).worst_group_accuracy
    return columns


def _not_finite(got: str, lr: float) -> SettingsError:
    return SettingsError(
        f"The loss must stay finite. Got {got}. Try a lower learning rate (--lr {lr / 10:.1g}), or float32 "
        "(--precision 32-true)."
    )


def _fingerprint(model: Classifier, table: ImageTable, val: ImageTable, settings: TrainSettings, seed: int) -> str:
    """Changes with whatever changes the result: settings, seed, images, and the weights to start from."""
    digest = hashlib.blake2b(digest_size=16)
    values = {name: value for name, value in asdict(settings).items() if name != "workers"}
    digest.update(json.dumps([values, seed, model.image_size, model.layer, model.mean, model.std]).encode())
    for part in (table, val):
        digest.update(json.dumps([part.paths, part.class_names, part.y.tolist()]).encode())
        digest.update(b"" if part.groups is None else part.groups.tobytes())
    for name, tensor in model.module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read_checkpoint(path: Path, fingerprint: str) -> Mapping[str, Any] | None:
    """The checkpoint, or None where there is none or, with a warning, where it is not of this training."""
    if not path.exists():
        return None
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError):
        checkpoint = {}
    if checkpoint.get("fingerprint") == fingerprint:
        return cast("Mapping[str, Any]", checkpoint)
    warn(
        f"To go on from {path}, settings, seed, images and first weights must be those that it was made with. "
        "Got others, or a damaged file. The training starts again and overwrites it.",
        SlimWarning,
        stacklevel=6,
    )
    return None
