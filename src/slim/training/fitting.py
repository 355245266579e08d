"""`train` and `fit`: what they refuse, where they run, and the model that they start from."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from slim.datasets import ImageTable
from slim.errors import DataError, SettingsError
from slim.models import Classifier, build, resolve_device, resolve_precision
from slim.training.loop import Loop, Training
from slim.training.settings import Task, TrainSettings


def train(
    table: ImageTable,
    val: ImageTable,
    settings: TrainSettings = TrainSettings(),
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    initial: Classifier | None = None,
    group_dro: float | None = None,
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
    group_dro
        Online GroupDRO over the groups of `table` in place of the mean loss: how fast a group's share follows its
        loss, above 0; the paper's value is 0.01. Class weights are not used.

    Raises
    ------
    DataError
        Too few images or classes, or `val` does not go with `table`.
    SettingsError
        A setting does not go with the images or the machine, the loss is no longer finite, or GroupDRO is asked for
        without groups.
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

    With `group_dro` an epoch draws as many images as there are, with replacement and each group equally often on
    average, as the paper's authors do; their adjustment by the groups' sizes is left out.

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
    >>> model = train(table, table, settings)
    >>> model.class_names, model.module.training
    (('red', 'blue'), False)
    """
    return fit(table, val, settings, seed=seed, folder=folder, initial=initial, group_dro=group_dro).classifier


def fit(
    table: ImageTable,
    val: ImageTable,
    settings: TrainSettings = TrainSettings(),
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    initial: Classifier | None = None,
    group_dro: float | None = None,
) -> Training:
    """Train as `train` does, and return the history too.

    Parameters, errors and warnings are those of `train`.
    """
    task = Task(table, val, settings, seed, group_dro)
    _check(task)
    device = _device(settings)
    with _contained(device):
        precision = resolve_precision(settings.precision, device)
        fabric = Fabric(accelerator=device.type, devices=1, precision=precision)
        model = _first_model(task, initial)
        flags = {name: values.requires_grad for name, values in model.module.named_parameters()}
        result = Loop(model, task, fabric, None if folder is None else Path(folder)).run()
        for name, values in model.module.named_parameters():
            values.requires_grad_(flags[name])
    return result


def _check(task: Task) -> None:
    """Refuse images and seeds that cannot be trained with."""
    table, val = task.table, task.val
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
    if task.settings.select_by == "worst-group" and val.groups is None:
        raise SettingsError(
            "Selection by worst-group needs validation images with a spurious attribute. Got none. "
            "Use class-balanced-accuracy, or name the attribute when the data set is loaded (--attribute)."
        )
    if task.group_dro is not None and table.groups is None:
        raise SettingsError(
            "GroupDRO needs train images with a spurious attribute. Got none. "
            "Leave group_dro out, or name the attribute when the data set is loaded (--attribute)."
        )
    if task.group_dro is not None and not 0 < task.group_dro < float("inf"):
        raise SettingsError(f"group_dro must be above 0. Got {task.group_dro}. The paper's value is 0.01.")
    if task.seed < 0:
        raise SettingsError(f"seed must be at least 0. Got {task.seed}. Try 0.")


def _device(settings: TrainSettings) -> torch.device:
    """The device that the settings mean, if it is there and computes in the precision."""
    device = resolve_device(settings.device)
    if settings.precision == "16-mixed" and device.type == "cpu":
        raise SettingsError("precision 16-mixed must run on a GPU. Got the CPU. Use --precision auto or 32-true.")
    return device


@contextmanager
def _contained(device: torch.device) -> Iterator[None]:
    """Within the block random numbers, cuDNN and Fabric's messages are ours; after it they are as before."""
    logger, cudnn = logging.getLogger("lightning_fabric"), torch.backends.cudnn
    before = logger.level, cudnn.deterministic, cudnn.benchmark
    logger.setLevel(logging.WARNING)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
            yield
    finally:
        logger.setLevel(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]


def _first_model(task: Task, initial: Classifier | None) -> Classifier:
    """A model of our own to train: built, or a copy of the one given."""
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
    unnamed = tuple(map(str, range(len(names))))  # what slim.wrap calls classes by default
    if initial.class_names not in (names, unnamed):
        raise DataError(
            f"The images must have the classes that the model tells apart, {', '.join(initial.class_names)}. "
            f"Got {', '.join(names)}. Leave initial= out to train a new model."
        )
    return replace(initial, module=deepcopy(initial.module), class_names=names)
