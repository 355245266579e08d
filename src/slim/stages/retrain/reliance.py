"""How much the reference model relies on backgrounds: whether recomposed images can remove its shortcut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from slim.network.choices import Precision
from slim.progress import track

if TYPE_CHECKING:
    from slim.arrays import Bytes
    from slim.data import ImageTable, Recomposition
    from slim.network.classifier import Classifier
    from slim.network.gradcam import GradCam

RELIES = 0.1
"""A model relies on backgrounds if those of other classes cost it at least this much accuracy; see docs/log.md."""

_SAMPLE = 600
_BATCH_SIZE = 32


@dataclass(frozen=True)
class Reliance:
    """How often a model is right about objects on other backgrounds, measured on recomposed images.

    Attributes
    ----------
    n
        Images; each is seen once on a background of its own class and once on one of another class.
    same, other
        Accuracy on backgrounds of the same class and of other classes, in [0, 1].
    """

    n: int
    same: float
    other: float

    @property
    def on_background(self) -> bool:
        """Whether the model relies on backgrounds."""
        return self.same - self.other >= RELIES


def background_reliance(
    reference: Classifier, table: ImageTable, maps: Bytes, precision: Precision, *, seed: int
) -> Reliance:
    """Measure on a random sample of images whether the class of the background decides; takes class labels alone.

    Both kinds of recomposed images have the same seams and the same errors of the object maps, so that the difference
    is due to what the backgrounds show.

    Parameters
    ----------
    reference
        The model.
    table
        Images of several classes.
    maps
        (n, h, w) their object maps.
    precision
        Of the forward pass.
    seed
        Random seed of the sample and the backgrounds.
    """
    from slim.data import Recomposition
    from slim.network.gradcam import GradCam
    from slim.network.pace import Pace, announce_time

    order = np.random.default_rng((seed, 11)).permutation(len(table))
    first_of_class = np.unique(table.y[order], return_index=True)[1]
    index = order[np.union1d(np.arange(min(_SAMPLE, len(order))), first_of_class)]  # a rare class has an image too
    some = table[index]
    with GradCam(reference, "auto", precision) as cam:
        announce_time(
            "predictions on other backgrounds",
            f"{len(index):,} images, twice",
            lambda: Pace.of_passes(cam, some, _BATCH_SIZE, Recomposition(maps[index])).seconds(2 * len(index)),
        )
        same, other = (
            _accuracy(cam, some, Recomposition(maps[index], donors, some.y), seed) for donors in ("same", "other")
        )
    return Reliance(len(index), same, other)


def _accuracy(cam: GradCam, table: ImageTable, recomposition: Recomposition, seed: int) -> float:
    from slim.data import recomposed_batches

    right = 0
    size, device = cam.classifier.image_size, cam.classifier.device
    batches = recomposed_batches(table, recomposition, size, _BATCH_SIZE, seed=seed, device=device)
    whose = "other classes" if recomposition.donors == "other" else "their own class"
    for images, y, _ in track(batches, f"predicting {len(table)} images on backgrounds of {whose}"):
        right += int((cam(images).logits.argmax(1).cpu() == y).sum())
    return right / len(table)
