"""What determines a training: the settings, the images, and the seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args, get_origin, get_type_hints

from slim.errors import SettingsError
from slim.network.choices import Device, Precision

if TYPE_CHECKING:
    from slim.data import ImageTable, Recomposition


@dataclass(frozen=True)
class TrainSettings:
    """Settings for training.

    Parameters
    ----------
    arch
        Architecture: any name that timm knows, torchvision:NAME, or transformers:FOLDER for a model that transformers
        saved there.
    weights
        Initial weights: imagenet (those of the folder with transformers:FOLDER), the path of a checkpoint, or none for
        random values.
    image_size
        Side of the square input in pixels; by default the architecture's own.
    layer
        The submodule whose attention is examined; by default the last one with a spatial grid.
    trainable
        Which part is trained: all, head, last-stage, or the name of the first submodule to train, such as layer4.
        Except with all, the input of this part is computed once and cached in memory, so images are not augmented.
    optimizer
        sgd or adamw.
    lr
        Peak learning rate, above 0.
    momentum
        Momentum of sgd, at least 0 and below 1.
    weight_decay
        Weight decay of all trained parameters, at least 0.
    schedule
        Learning rate after the warmup: constant, or cosine, which decays to almost 0.
    warmup
        Share of the steps over which the learning rate rises to its peak, at least 0 and below 1.
    epochs
        Number of passes over the images, at least 1.
    batch_size
        Images per step, at least 2. A last batch of a single image is merged into the previous one.
    precision
        auto (bfloat16 if the hardware supports it, else float32), 32-true, bf16-mixed or 16-mixed.
    class_weights
        none, or balanced: each image is weighted by n / (n_classes * n of its class), so that all classes count the
        same.
    augmentation
        none, or light: a random horizontal flip and a random crop of 0.7 to 1 of the frame's area.
    select_by
        Which epoch is kept: the best on the validation images by accuracy, class-balanced-accuracy, loss, or
        worst-group, which uses their group labels (in a tie, the earlier one); or simply the last.
    patience
        Stop after this many epochs without improvement; by default never.
    workers
        Number of processes that read images, 0 for threads; by default threads, or processes if the model runs on a
        GPU.
    device
        auto (a GPU if there is one), cpu or cuda.
    checkpoint
        A model trained elsewhere to take as the reference model, read without running code from it: a file with its
        state_dict, or the folder in which transformers or timm saved it, which also says the architecture; nothing is
        trained then.

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
    select_by: Literal["accuracy", "class-balanced-accuracy", "worst-group", "loss", "last"] = "accuracy"
    patience: int | None = None
    workers: int | None = None
    device: Device = "auto"
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        whole = "Use a whole number."
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
                "Leave it out to train all epochs.",
            ),
            "workers": (self.workers is None or self.workers >= 0, "at least 0", whole),
            "trainable": (bool(self.trainable), "all, head, last-stage or the name of a submodule", "Try all."),
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
    """The images to train on, the images that select the epoch, and how to train."""

    table: ImageTable
    val: ImageTable
    settings: TrainSettings
    seed: int
    group_dro: float | None = None
    recomposition: Recomposition | None = None
