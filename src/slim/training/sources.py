"""Where batches come from: images on disk, or the activations that were kept of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slim.activations import Activations, fitting_dtype, keep_activations
from slim.datasets import Augmentation, ImageTable, image_batches
from slim.frozen import Cut, Forward
from slim.models import Classifier
from slim.progress import track
from slim.training.settings import Task

Batches = list[npt.NDArray[np.int64]]


def in_batches(order: npt.NDArray[np.int64], batch_size: int) -> Batches:
    """The order cut up; a lone last image joins the batch before, since batch norm cannot take it alone."""
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

    def batches(
        self, batches: Batches, epoch: int, augmentation: Augmentation, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images as bytes, and labels, of an epoch's batches from `start` on."""
        for size, alike in groupby(range(start, len(batches)), lambda number: len(batches[number])):
            numbers = list(alike)
            for images, y, _ in image_batches(
                self.table,
                self.model.image_size,
                size,
                order=np.concatenate([batches[number] for number in numbers]),
                before=np.concatenate([np.array([], np.int64), *batches[: numbers[0]]]),
                augmentation=augmentation,
                seed=self.task.seed,
                epoch=epoch,
                workers=self.task.settings.workers,
            ):
                yield images, y

    def logits(self, inputs: Tensor) -> Tensor:
        """Of images as bytes."""
        return self.forward(self.model.normalize(inputs))

    def keep(self, cut: Cut, dtype: torch.dtype | None, device: torch.device, description: str) -> Kept:
        """Run all images up to the cut."""
        batches = in_batches(np.arange(len(self.table)), self.task.settings.batch_size)
        shown = track(self.batches(batches, 0, "none"), description, total=len(batches))
        normalized = (self.model.normalize(images) for images, _ in shown)
        kept = keep_activations(cut, normalized, len(self.table), dtype=dtype, forward=self.forward)
        return Kept(self.table.y, cut, kept, device, self.forward)


@dataclass(frozen=True, eq=False)
class Kept:
    """Activations from memory, through the network behind the cut."""

    y: npt.NDArray[np.int64]
    cut: Cut
    kept: Activations
    device: torch.device
    forward: Forward

    def batches(
        self, batches: Batches, epoch: int, augmentation: Augmentation, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Activations, and labels, from `start` on; the same ones in every epoch."""
        for batch in batches[start:]:
            yield self.kept.batch(torch.from_numpy(batch), self.device), torch.from_numpy(self.y[batch])

    def logits(self, inputs: Tensor) -> Tensor:
        """Of activations."""
        return self.cut.replay(inputs, self.forward)


Source = Images | Kept


def open_sources(
    model: Classifier, task: Task, cut: Cut | None, forward: Forward, device: torch.device
) -> tuple[Source, Source]:
    """Where the train and the validation batches come from."""
    train, val = (Images(table, model, task, forward) for table in (task.table, task.val))
    if cut is None:
        return train, val
    dtype = fitting_dtype(cut, len(task.table) + len(task.val))
    return (
        train.keep(cut, dtype, device, "frozen part, train images"),
        val.keep(cut, dtype, device, "frozen part, validation images"),
    )
