"""`train_classifier` and `fit`: their checks, the device they run on, and the initial model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.logger import Logger

from slim import processes
from slim.arguments import checked
from slim.data import ImageTable, Recomposition
from slim.errors import DataError, SettingsError
from slim.network.build import build
from slim.network.classifier import Classifier
from slim.network.devices import resolve_device, resolve_precision, undisturbed
from slim.network.sharing import independent_copy
from slim.training.loop import Loop, Training
from slim.training.settings import Task, TrainSettings
from slim.training.sources import Images


@checked
def train_classifier(
    table: ImageTable,
    val: ImageTable,
    settings: TrainSettings | None = None,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    initial: Classifier | None = None,
    group_dro: float | None = None,
    recomposition: Recomposition | None = None,
    loggers: Sequence[Logger] = (),
) -> Classifier:
    """Train a classifier and return it with the weights of its best epoch, in evaluation mode.

    Parameters
    ----------
    table
        The images to train on, at least two, of at least two classes. Rows may repeat.
    val
        The images that select the epoch.
    settings
        How to train; `TrainSettings()` when None.
    seed
        At least 0. Together with the settings, the images and `initial` it determines the result: bit for bit on the
        CPU of one machine with the same number of threads, and as far as kernels are deterministic on a GPU.
    folder
        Receives the checkpoint ``last.safetensors`` during training, ``history.csv`` after each epoch, and
        ``model.safetensors`` and ``model.json`` at the end. A later call with the same arguments resumes from the
        checkpoint. Nothing is written when None.
    initial
        Start from a copy of this classifier instead of ``settings.arch``, ``weights``, ``image_size`` and ``layer``.
    group_dro
        Minimise the loss of online GroupDRO over the groups of `table` instead of the mean loss. The value is the
        step size of the groups' shares, above 0; the paper uses 0.01. Class weights are ignored.
    recomposition
        Train on recomposed images: the object of each image of `table` on other images' backgrounds.
    loggers
        Of Lightning Fabric, which get each epoch's row of the history.

    Raises
    ------
    DataError
        There are too few images or classes, or `val` does not match `table`.
    SettingsError
        A setting does not fit the images or the machine, the loss is no longer finite, or there are no groups for
        GroupDRO.
    ModelError
        The network cannot be built, or cannot be cut at ``settings.trainable``.

    Warns
    -----
    SlimWarning
        The model of the best epoch predicts the same class for every validation image, or ``last.safetensors`` was
        written with other arguments and is not used.

    Notes
    -----
    The validation loss is not weighted by class. Parameters that do not require a gradient in `initial` are not
    trained. With ``class_weights="balanced"`` a class without an image in `table` has weight 0.

    With `group_dro` each epoch draws ``len(table)`` images with replacement, each group equally often on average, as
    the paper's authors do; their adjustment for group sizes is left out.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp())
    >>> for color in ("red", "blue"):
    ...     Image.new("RGB", (32, 32), color).save(folder / f"{color}.png")
    >>> frame = pd.DataFrame({"path": [f"{folder}/red.png", f"{folder}/blue.png"] * 4, "y": [0, 1] * 4})
    >>> table = ImageTable(frame, ("red", "blue"))
    >>> settings = TrainSettings(arch="resnet10t", weights=None, image_size=32, epochs=3, device="cpu")
    >>> model = train_classifier(table, table, settings)
    >>> model.class_names, model.module.training
    (('red', 'blue'), False)
    """
    return fit(
        table,
        val,
        settings,
        seed=seed,
        folder=folder,
        initial=initial,
        group_dro=group_dro,
        recomposition=recomposition,
        loggers=loggers,
    ).classifier


def fit(
    table: ImageTable,
    val: ImageTable,
    settings: TrainSettings | None = None,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    initial: Classifier | None = None,
    group_dro: float | None = None,
    recomposition: Recomposition | None = None,
    loggers: Sequence[Logger] = (),
) -> Training:
    """Train like `train_classifier`, with the same parameters, errors and warnings, and return the history too."""
    settings = settings or TrainSettings()
    task = Task(table, val, settings, seed, group_dro, recomposition)
    _check(task)
    device = _device(settings)
    with _contained(device):
        precision = resolve_precision(settings.precision, device)
        model = _first_model(task, initial)
        strategy = processes.strategy(idle=processes.count() > 1 and processes.agreed(_has_idle(model, task)))
        fabric = Fabric(accelerator=device.type, precision=precision, loggers=list(loggers), **strategy)
        fabric.launch()
        flags = {name: values.requires_grad for name, values in model.module.named_parameters()}
        result = Loop(model, task, fabric, None if folder is None else Path(folder)).run()
        for name, values in model.module.named_parameters():
            values.requires_grad_(flags[name])
    return result


def _check(task: Task) -> None:
    """Refuse images, groups and seeds that cannot be used for training."""
    table, val = task.table, task.val
    present = np.unique(table.y)
    if len(table) < 2 or len(present) < 2:
        raise DataError(
            "There must be at least two images to train on, of at least two classes. "
            f"Got {len(table)} images of {len(present)} classes. Add images, or curate a larger subset (--size)."
        )
    if len(val) == 0:
        raise DataError(
            "There must be validation images to select the best epoch by. Got none. "
            "Add a val split to the data set, or pass val=."
        )
    if len(val) < processes.count():
        raise DataError(
            f"There must be at least as many validation images as processes. Got {len(val)} for {processes.count()}. "
            "Start fewer (--nproc-per-node)."
        )
    if table.class_names != val.class_names:
        raise DataError(
            "Training and validation images must have the same classes. "
            f"Got {', '.join(table.class_names)} and {', '.join(val.class_names)}. Take both from one data set."
        )
    if task.settings.select_by == "worst-group" and val.groups is None:
        raise SettingsError(
            "To select by worst-group, validation images must have a spurious attribute. Got none. "
            "Use class-balanced-accuracy, or name the attribute when you load the data set (--attribute)."
        )
    if task.group_dro is not None and table.groups is None:
        raise SettingsError(
            "For GroupDRO, train images must have a spurious attribute. Got none. "
            "Leave group_dro out, or name the attribute when you load the data set (--attribute)."
        )
    if task.group_dro is not None and not 0 < task.group_dro < float("inf"):
        raise SettingsError(f"group_dro must be above 0. Got {task.group_dro}. Try 0.01, as in the paper.")
    if task.group_dro is not None and processes.count() > 1:
        raise SettingsError(
            f"GroupDRO must run in one process. Got {processes.count()}. Start the command without torchrun."
        )
    if task.settings.batch_size < 2 * processes.count():
        raise SettingsError(
            f"batch_size must be at least two images per process. Got {task.settings.batch_size} for "
            f"{processes.count()} processes. Raise it, or start fewer."
        )
    if task.seed < 0:
        raise SettingsError(f"seed must be at least 0. Got {task.seed}. Try 0.")


def _device(settings: TrainSettings) -> torch.device:
    """The device that the settings mean, which must support the precision."""
    device = resolve_device(settings.device)
    if settings.precision == "16-mixed" and device.type == "cpu":
        raise SettingsError("precision 16-mixed must run on a GPU. Got the CPU. Use --precision auto or 32-true.")
    return device


@contextmanager
def _contained(device: torch.device) -> Iterator[None]:
    """Ignore the caller's context; restore the random state, cuDNN's flags and Fabric's log level after the block."""
    logger, cudnn = logging.getLogger("lightning_fabric"), torch.backends.cudnn
    before = logger.level, cudnn.deterministic, cudnn.benchmark
    logger.setLevel(logging.WARNING)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        devices = [torch.cuda.current_device()] if device.type == "cuda" else []
        with undisturbed(), torch.enable_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        logger.setLevel(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]


def _first_model(task: Task, initial: Classifier | None) -> Classifier:
    """The model to train: a new one, or a copy of `initial`."""
    settings, names = task.settings, task.table.class_names
    if initial is None:
        return build(
            settings.arch,
            names,
            weights=settings.weights,
            image_size=settings.image_size,
            layer=settings.layer,
            seed=task.seed,
        )
    unnamed = tuple(map(str, range(len(names))))  # the default of slim.wrap
    if initial.class_names not in (names, unnamed):
        raise DataError(
            f"The images must have the classes of the model, {', '.join(initial.class_names)}. "
            f"Got {', '.join(names)}. Leave initial= out to train a new model."
        )
    return replace(initial, module=independent_copy(initial.module), class_names=names)


def _has_idle(model: Classifier, task: Task) -> bool:
    """Whether parameters to train get no gradient, such as those of auxiliary heads, whose logits are left out."""
    if task.settings.trainable != "all":
        return False  # only what affects the logits is then trained
    copy, size = independent_copy(model.module).train(), model.image_size
    trained = [values for values in copy.parameters() if values.requires_grad]
    blank = torch.zeros(2, 3, size, size, dtype=torch.uint8, device=model.device)
    logits = Images(task.table, model, task, copy).logits(blank)
    gradients = torch.autograd.grad(logits.sum(), trained, allow_unused=True) if trained else ()
    return any(gradient is None for gradient in gradients)
