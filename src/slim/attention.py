"""Where the model looks (Grad-CAM), and what it sees there and elsewhere (core and environment features)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slim.datasets import ImageTable, image_batches
from slim.errors import SettingsError, SlimWarning
from slim.gradcam import GradCam, Method, Seen, pool, upsample
from slim.models import Classifier, Precision
from slim.progress import track

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class AttendSettings:
    """How attention is computed.

    Parameters
    ----------
    explain
        Whose map: the label's class, or the class that the model predicts.
    pooling
        How features are summed up over positions. "sum" is the published one; "mean" divides by the total weight,
        which takes the size of the attended region out of the feature.
    method
        "closed-form" needs no backward pass but a head of global average pooling and one linear layer; "auto" takes
        it where the network has such a head, and autograd elsewhere.
    batch_size
        Images at a time.
    precision
        Of the forward pass; "auto" is bfloat16 where the hardware computes in it.
    workers
        Processes that decode images; 0 decodes in this one.
    """

    explain: Literal["label", "predicted"] = "label"
    pooling: Literal["mean", "sum"] = "mean"
    method: Method = "auto"
    batch_size: int = 32
    precision: Precision = "auto"
    workers: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SettingsError(f"The batch size must be at least 1. Got {self.batch_size}. Try 32.")


@dataclass(frozen=True, eq=False)
class Attention:
    """What `attend` found, one row an image, in the table's order.

    Attributes
    ----------
    maps
        (n, h, w) attention maps in [0, 1]; 1 = the strongest attention in its own image, all 0 = a flat map.
    core
        (n, d) features where the model looks.
    environment
        (n, d) features elsewhere.
    contrast
        (n, e) mean features where the model looks minus those elsewhere, at the classifier's finer layer; all 0 of a
        flat map.
    features
        (n, p) penultimate features, the input of the linear head; p is 0 where the network has no such head.
    probabilities
        (n, n_classes) of the model, rows sum to 1.
    """

    maps: Floats
    core: Floats
    environment: Floats
    contrast: Floats
    features: Floats
    probabilities: Floats

    def __len__(self) -> int:
        return len(self.maps)

    @classmethod
    def load(cls, folder: str | Path) -> Attention:
        """Map the arrays of a folder into memory, without reading them."""
        names = cls.__dataclass_fields__
        return cls(**{name: np.load(Path(folder) / f"{name}.npy", mmap_mode="r") for name in names})


def attend(
    classifier: Classifier,
    table: ImageTable,
    settings: AttendSettings | None = None,
    *,
    folder: str | Path | None = None,
) -> Attention:
    """Compute attention maps, core and environment features of every image.

    Parameters
    ----------
    classifier
        The reference model, usually.
    table
        Images and labels.
    settings
        See `AttendSettings`.
    folder
        Where to write the arrays as they come, for sets larger than memory; in memory by default.

    Returns
    -------
    Attention
        One row an image, in the table's order.

    Warns
    -----
    SlimWarning
        Maps are flat or not finite, which usually means that the layer is the wrong one.

    Examples
    --------
    ``attention = slim.attend(reference, data.train)``
    """
    settings = settings or AttendSettings()
    arrays: dict[str, Floats] = {}
    broken = 0
    with GradCam(classifier, settings.method, settings.precision) as cam:
        batches = image_batches(table, classifier.image_size, settings.batch_size, workers=settings.workers)
        for images, y, index in track(batches, f"looking at {len(table)} {table.split} images"):
            seen = cam(images)
            classes = y.to(seen.logits.device) if settings.explain == "label" else seen.logits.argmax(1)
            broken += int((~seen.finite).sum())
            for name, rows in _rows(seen, classes, settings.pooling).items():
                if name not in arrays:
                    arrays[name] = _allocate(folder, name, (len(table), *rows.shape[1:]))
                arrays[name][index.numpy()] = rows.detach().cpu().numpy()
    attention = Attention(**arrays)
    _warn_about_maps(attention.maps, broken, classifier.layer)
    return attention


def _rows(seen: Seen, classes: Tensor, pooling: Literal["mean", "sum"]) -> dict[str, Tensor]:
    """One batch's share of each array; what is not finite becomes zero."""
    maps = seen.maps(classes)
    core, environment = pool(maps, seen.activations.nan_to_num(0.0, 0.0, 0.0), pooling)
    finer = upsample(maps, seen.finer.shape[2])
    there, elsewhere = pool(finer, seen.finer.nan_to_num(0.0, 0.0, 0.0), "mean")
    contrast = torch.where(finer.amax((1, 2))[:, None] > 0, there - elsewhere, 0.0)
    probabilities = seen.logits.float().nan_to_num(0.0, 0.0, 0.0).softmax(1)
    features = seen.features.nan_to_num(0.0, 0.0, 0.0)
    return {
        "maps": maps,
        "core": core,
        "environment": environment,
        "contrast": contrast,
        "features": features,
        "probabilities": probabilities,
    }


def _allocate(folder: str | Path | None, name: str, shape: tuple[int, ...]) -> Floats:
    """An array to fill, on disk where there is a folder."""
    if folder is None:
        return np.zeros(shape, np.float32)
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(folder) / f"{name}.npy"
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)


def _warn_about_maps(maps: Floats, broken: int, layer: str) -> None:
    """Say so when maps are not finite or flat."""
    flat = int((maps.reshape(len(maps), -1).max(1) == 0).sum())
    if broken:
        warnings.warn(
            f"{broken} of {len(maps)} images gave activations that are not finite; their maps are zero. "
            "Try --precision 32-true.",
            SlimWarning,
            stacklevel=3,
        )
    if flat > len(maps) / 2:
        warnings.warn(
            f"{flat} of {len(maps)} maps are flat: nothing at layer {layer} speaks for the class. In a transformer "
            "the last block's output has no gradient on patch tokens; attend to an earlier layer (--layer).",
            SlimWarning,
            stacklevel=3,
        )
