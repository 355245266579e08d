"""What determines a training: how, with which images, and from which seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from slim.datasets import ImageTable
from slim.errors import SettingsError
from slim.models import Device, Precision


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
    device: Device = "auto"

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
                "Leave it out to stop never.",
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
class Task:
    """The images to train on, those that select the epoch, and how to train."""

    table: ImageTable
    val: ImageTable
    settings: TrainSettings
    seed: int
    group_dro: float | None = None
