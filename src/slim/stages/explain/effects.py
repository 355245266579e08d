"""How much accuracy hangs on a concept: real forward passes with its places erased, and with them swapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from slim.arrays import Flags, Ints
from slim.data import ImageTable, image_batches
from slim.data.recompose import erase_objects
from slim.metrics import paired_difference
from slim.network.choices import Precision
from slim.network.classifier import Classifier
from slim.network.gradcam import GradCam

LEAST = 0.1
"""Accuracy by which a concept must matter, as in `slim.stages.retrain.reliance`."""

_MARGIN = 32  # what is replaced exceeds the cells on each side by one part in this many of the image's side
_TRIED = 16  # donors among which the most fitting is taken
_MOST_AREA = 0.45  # of the image; beyond it, nothing of equal area is left elsewhere
_LEAST_DONORS, _LEAST_IMAGES = 3, 10


@dataclass(frozen=True)
class Effect:
    """What it changes to take a concept away, beside what it changes to do the same without taking it away.

    Attributes
    ----------
    n
        Images.
    before
        Their accuracy as they are, in [0, 1].
    without
        With the concept taken away.
    control
        With as much taken away elsewhere ("erased"), or with its places taken from images that show it ("swapped").
    change
        ``without - control``, in [-1, 1]: below 0 = they need the concept, above 0 = it misleads.
    low, high
        Its interval, at 95 % for all intervals of an explanation together.
    """

    n: int
    before: float
    without: float
    control: float
    change: float
    low: float
    high: float

    def is_shown(self, sign: Literal[-1, 1]) -> bool:
        """Whether accuracy falls (-1) or rises (1), beyond the control and beyond what it was, and not by little."""
        bound = self.low if sign == 1 else -self.high
        return bound > 0 and sign * self.change >= LEAST and sign * (self.without - self.before) >= LEAST


@dataclass(frozen=True, eq=False)
class Scene:
    """Images and what they show of one concept.

    Attributes
    ----------
    table
        The images.
    cells
        (n, g, g) whether each place is of the concept.
    shown
        (n,) whether each image shows it.
    right
        (n,) whether the model is right about each image as it is.
    """

    table: ImageTable
    cells: Flags
    shown: Flags
    right: Flags

    def __getitem__(self, index: Ints) -> Scene:
        """Some of the images."""
        return Scene(self.table[index], self.cells[index], self.shown[index], self.right[index])


class Prober:
    """Runs the model on images of which something was taken away. Use it as a context manager.

    Parameters
    ----------
    reference
        The model.
    donors
        The train images, from which places are taken.
    precision
        Of the forward pass.
    z
        Standard normal quantile of the intervals.
    seed
        Random seed.
    """

    def __init__(self, reference: Classifier, donors: Scene, precision: Precision, z: float, seed: int) -> None:
        self._cam = GradCam(reference, "auto", precision)
        self._size = reference.image_size
        self._donors, self._z = donors, z
        self._rng = np.random.default_rng((seed, 13))

    def __enter__(self) -> Prober:
        self._cam.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._cam.__exit__(*error)

    def erased(self, images: Sequence[Scene]) -> Effect | None:
        """The effect of filling the concept's places from around them.

        None where fewer than 10 images are left in which they do not cover too much.
        """
        fitting = [one[np.flatnonzero(one.cells.mean((1, 2)) <= _MOST_AREA)] for one in images]
        return self._effect(fitting, [self._with_erased(one) for one in fitting])

    def _with_erased(self, scene: Scene) -> tuple[Flags, Flags]:
        """Whether the model is right with the concept erased, and with as much erased elsewhere."""
        images = self._read(scene.table)
        areas = (self._area(cells) for cells in (scene.cells, self._elsewhere(scene.cells)))
        filled = (erase_objects(torch.cat([images, 255 * area.to(torch.uint8)], 1)) for area in areas)
        without, control = (self._right(scene, one.round().to(torch.uint8)) for one in filled)
        return without, control

    def swapped(self, images: Sequence[Scene]) -> Effect | None:
        """The effect of taking the places from images of the same class without the concept.

        None where fewer than 10 images have such donors.
        """
        given = [self._givers(one) for one in images]
        fitting = [one[kept] for one, (kept, *_) in zip(images, given, strict=True)]
        return self._effect(
            fitting, [self._with_swapped(one, givers) for one, (_, *givers) in zip(fitting, given, strict=True)]
        )

    def _with_swapped(self, scene: Scene, givers: Sequence[Ints]) -> tuple[Flags, Flags]:
        """Whether the model is right with the places of images without the concept, and of others with it."""
        images, area = self._read(scene.table), self._area(scene.cells)
        mixed = (torch.where(area, self._read(self._donors.table[donors]), images) for donors in givers)
        without, control = (self._right(scene, one) for one in mixed)
        return without, control

    def _givers(self, scene: Scene) -> tuple[Ints, Ints, Ints]:
        """Positions of the images that have donors of their class, and of the donors without and with the concept."""
        donors, chosen = self._donors, []
        paths, y = np.array(donors.table.paths), donors.table.y
        for i, (path, label) in enumerate(zip(scene.table.paths, scene.table.y, strict=True)):
            others = (y == label) & (paths != path)
            without, control = (np.flatnonzero(others & (donors.shown == shows)) for shows in (False, True))
            if min(len(without), len(control)) >= _LEAST_DONORS:
                cells = scene.cells[i]
                chosen.append((i, self._fitting(without, cells, 1), self._fitting(control, cells, -1)))
        kept, without, control = np.array(chosen, np.int64).reshape(-1, 3).T
        return kept, without, control

    def _fitting(self, pool: Ints, cells: Flags, sign: int) -> int:
        """The donor, of some, with the least (sign 1) or the most (-1) of the concept in some cells."""
        tried = self._rng.permutation(pool)[:_TRIED]
        return int(tried[np.argmin(sign * (self._donors.cells[tried] & cells).sum((1, 2)))])

    def _elsewhere(self, cells: Flags) -> Flags:
        """The same cells of each image at another place that overlaps them as little as possible."""
        side = cells.shape[1]
        moves = [(down, right) for down in range(side) for right in range(side)]
        moved = np.empty_like(cells)
        for i, one in enumerate(cells):
            some = [moves[j] for j in self._rng.permutation(len(moves))[: 4 * _TRIED]]
            tried = np.stack([np.roll(one, move, (0, 1)) for move in some])
            moved[i] = tried[np.argmin((tried & one).sum((1, 2)))]
        return moved

    def _area(self, cells: Flags) -> Tensor:
        """Cells (n, g, g) in pixels, with a margin, (n, 1, S, S)."""
        area = interpolate(torch.from_numpy(cells[:, None].astype(np.float32)), (self._size, self._size))
        margin = ceil(self._size / _MARGIN)
        return max_pool2d(area, 2 * margin + 1, 1, margin) > 0.5

    def _read(self, table: ImageTable) -> Tensor:
        """The images (n, 3, S, S) in bytes."""
        batches = [images for images, _, _ in image_batches(table, self._size)]
        return torch.cat(batches) if batches else torch.zeros(0, 3, self._size, self._size, dtype=torch.uint8)

    def _right(self, scene: Scene, images: Tensor) -> Flags:
        """Whether the model is right about each of some images."""
        y = torch.from_numpy(scene.table.y)
        parts = zip(images.split(32), y.split(32), strict=True)
        rights = [(self._cam(some).logits.argmax(1).cpu() == labels).numpy() for some, labels in parts if len(some)]
        return np.concatenate(rights) if rights else np.zeros(0, bool)

    def _effect(self, images: Sequence[Scene], rights: Sequence[tuple[Flags, Flags]]) -> Effect | None:
        """The effect on the images of all tables together."""
        before = np.concatenate([one.right for one in images])
        without, control = (np.concatenate(parts) for parts in zip(*rights, strict=True))
        if len(before) < _LEAST_IMAGES:
            return None
        change, low, high = paired_difference(without, control, self._z)
        return Effect(
            len(before), float(before.mean()), float(without.mean()), float(control.mean()), change, low, high
        )


def drawn_images(
    scenes: Sequence[Scene], label: int, of_class: bool, n: int, rng: np.random.Generator
) -> tuple[Scene, ...]:
    """At most n random images of a class, or of other classes, that show a concept, those of the first table first."""
    drawn = []
    for scene in scenes:
        fitting = np.flatnonzero(scene.shown & ((scene.table.y == label) == of_class))
        drawn.append(scene[rng.permutation(fitting)[:n]])
        n -= len(drawn[-1].right)
    return tuple(drawn)
