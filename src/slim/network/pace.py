"""How long work on images will take, said before it starts: from the pace of this machine, measured in a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from torch import Tensor

from slim import processes
from slim.data import ImageTable, Recomposition, image_batches, recomposed_batches
from slim.data.batches import Batch
from slim.network.gradcam import GradCam
from slim.progress import announce, is_quiet

STEP = 3
"""A step of training takes about as long as so many forward passes, at least: its gradient takes twice as long."""

_WORTH_SAYING = 10.0
"""Seconds from which on a time is announced."""

_SAMPLE = 16
"""Images per batch that is measured, at most: no more than a batch of the work itself has, which fits into memory."""


@dataclass(frozen=True)
class Pace:
    """Seconds per image.

    Attributes
    ----------
    reading
        To read and decode it, other images beside it.
    passing
        For one forward pass, or one step of training.
    """

    reading: float
    passing: float

    @classmethod
    def of_passes(
        cls, cam: GradCam, table: ImageTable, batch_size: int | None, recomposition: Recomposition | None = None
    ) -> Pace:
        """Of forward passes of a classifier, of images as they are or recomposed."""
        batches = some_batches(table, cam.classifier.image_size, batch_size, recomposition)
        return cls.measured(batches, lambda images: cam(images).logits)

    @classmethod
    def measured(cls, batches: Iterable[Batch], work: Callable[[Tensor], Tensor]) -> Pace:
        """From two batches or more; the first pass is slower than those that follow, and does not count.

        Parameters
        ----------
        batches
            As `some_batches` gives them.
        work
            A forward pass of a batch, or a step of training.
        """
        start = perf_counter()
        images = [batch[0] for batch in batches]
        read = perf_counter()
        work(images[0]).cpu()  # a GPU works on while Python does not wait for numbers
        warm = perf_counter()
        for batch in images[1:]:
            work(batch).cpu()
        return cls((read - start) / sum(map(len, images)), (perf_counter() - warm) / sum(map(len, images[1:])))

    def seconds(self, images: int, passes: float = 1) -> float:
        """How long so many images take, each read once.

        Examples
        --------
        >>> Pace(0.25, 0.5).seconds(100, passes=3)
        175.0
        """
        return images * (self.reading + passes * self.passing)


def some_batches(
    table: ImageTable, image_size: int, batch_size: int | None, recomposition: Recomposition | None = None
) -> Iterable[Batch]:
    """Two batches of a table's images, at even distances, to be measured; of few images, some twice."""
    size = min(batch_size or _SAMPLE, _SAMPLE)
    order = np.arange(2 * size) * len(table) // (2 * size)
    if recomposition is None:
        return image_batches(table, image_size, size, order=order)
    return recomposed_batches(table, recomposition, image_size, size, order=order)


def announce_time(what: str, of: str, seconds: Callable[[], float]) -> None:
    """Say about how long work will take, from ten seconds on. Nothing is measured where nothing would be said.

    Parameters
    ----------
    what
        The work, in a few words.
    of
        How much there is of it.
    seconds
        Measures how long one process takes.

    Examples
    --------
    ``announce_time("training", "3 epochs of 4,795 images", lambda: pace.seconds(3 * 4_795))`` prints
    ``training: about 12 minutes, estimated (3 epochs of 4,795 images)``.
    """
    if not is_quiet():
        expected = seconds() / processes.count()
        if expected >= _WORTH_SAYING:
            announce(f"  {what}: about {in_words(expected)}, estimated ({of})")


def in_words(seconds: float) -> str:
    """A time as precise as an estimate is.

    Examples
    --------
    >>> in_words(44), in_words(93), in_words(5_000), in_words(9_000)
    ('40 seconds', '2 minutes', '83 minutes', '2.5 hours')
    """
    if seconds < 85:
        return f"{round(seconds, -1):.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7_200 else f"{seconds / 3_600:.1f} hours"
