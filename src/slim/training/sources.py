"""Where batches come from: images on disk, or cached activations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slim import processes
from slim.arrays import Ints
from slim.data import Augmentation, ImageTable, Recomposition, image_batches, recomposed_batches
from slim.errors import ModelError
from slim.network.activations import Activations, cache_activations, fitting_dtype
from slim.network.classifier import Classifier
from slim.network.partial import Cut, Forward
from slim.progress import track
from slim.training.settings import Task

Batches = list[Ints]


def in_batches(order: Ints, batch_size: int) -> Batches:
    """The order cut into batches; a single last image joins the previous batch, since batch norm needs two."""
    batches = np.split(order, range(batch_size, len(order), batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches


@dataclass(frozen=True, eq=False)
class Images:
    """Images from disk, through the whole network."""

    table: ImageTable
    model: Classifier
    task: Task
    forward: Forward
    recomposition: Recomposition | None = None

    def batches(
        self, batches: Batches, epoch: int, augmentation: Augmentation, start: int = 0, *, spread: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images as bytes, and their labels, for an epoch's batches from number `start` on; see `image_batches`."""
        for size, group in groupby(range(start, len(batches)), lambda number: len(batches[number])):
            numbers = list(group)
            for images, y, _ in self._read(
                size,
                order=np.concatenate([batches[number] for number in numbers]),
                before=np.concatenate([np.array([], np.int64), *batches[: numbers[0]]]),
                augmentation=augmentation,
                epoch=epoch,
                spread=spread,
            ):
                yield images, y

    def _read(self, batch_size: int, **options: Any) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        """Batches of images, recomposed or as they are."""
        size = self.model.image_size
        options |= {"seed": self.task.seed, "workers": self.task.settings.workers, "device": self.model.device}
        if self.recomposition is None:
            return image_batches(self.table, size, batch_size, **options)
        return recomposed_batches(self.table, self.recomposition, size, batch_size, **options)

    def logits(self, inputs: Tensor) -> Tensor:
        """Logits of images as bytes."""
        return _main(self.forward(self.model.normalize(inputs)), self.model.n_classes)

    def cached(self, cut: Cut, dtype: torch.dtype | None, device: torch.device, description: str) -> CachedActivations:
        """Run all images up to the cut."""
        batches = in_batches(np.arange(len(self.table)), self.task.settings.batch_size)
        shown = track(self.batches(batches, 0, "none"), description, total=len(batches))
        normalized = (self.model.normalize(images) for images, _ in shown)
        activations = cache_activations(cut, normalized, len(self.table), dtype=dtype, forward=self.forward)
        return CachedActivations(self.table.y, cut, activations, device, self.forward, self.model.n_classes)


@dataclass(frozen=True, eq=False)
class CachedActivations:
    """Activations from memory, through the part of the network behind the cut."""

    y: Ints
    cut: Cut
    activations: Activations
    device: torch.device
    forward: Forward
    n_classes: int

    def batches(
        self, batches: Batches, epoch: int, augmentation: Augmentation, start: int = 0, *, spread: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Activations, and labels, for batches from number `start` on; the same in every epoch."""
        for batch in batches[start:]:
            mine = processes.part(batch) if spread else batch
            yield self.activations.batch(torch.from_numpy(mine), self.device), torch.from_numpy(self.y[mine])

    def logits(self, inputs: Tensor) -> Tensor:
        """Logits of activations."""
        return _main(self.cut.replay(inputs, self.forward), self.n_classes)


Source = Images | CachedActivations


def _main(output: object, n_classes: int) -> Tensor:
    """The logits (b, n_classes); a network may give those of auxiliary heads after them while it is trained."""
    logits = output[0] if isinstance(output, tuple) else output
    if isinstance(logits, Tensor) and logits.ndim == 2 and logits.shape[1] == n_classes:
        return logits
    got = f"{type(output).__name__} of {type(logits).__name__}" if isinstance(output, tuple) else type(output).__name__
    shape = f" {tuple(logits.shape)}" if isinstance(logits, Tensor) else ""
    raise ModelError(
        f"In training mode the network must return logits (images, {n_classes}), alone or first in a tuple. "
        f"Got {got}{shape}. Wrap it in a module that does."
    )


def open_sources(
    model: Classifier, task: Task, cut: Cut | None, forward: Forward, device: torch.device
) -> tuple[Source, Source]:
    """The sources of the training and of the validation batches."""
    train = Images(task.table, model, task, forward, task.recomposition)
    val = Images(task.val, model, task, forward)
    if cut is None:
        return train, val
    dtype = fitting_dtype(cut, len(task.table) + len(task.val))
    return (
        train.cached(cut, dtype, device, "frozen part, train images"),
        val.cached(cut, dtype, device, "frozen part, validation images"),
    )
