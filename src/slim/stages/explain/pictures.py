"""Pictures of concepts, images with their places outlined and from close by, and of extreme properties."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.ndimage import label as connected

from slim.arrays import Bytes, Flags, Floats, Ints
from slim.data import ImageTable
from slim.overlay import outlined

PER_CONCEPT = 6
"""Pictures of each concept."""

TILE = 128
"""Side of a picture, in pixels."""


def concept_pictures(table: ImageTable, cells: Bytes, shown: Flags, concepts: Sequence[int]) -> Bytes:
    """Pictures of some concepts, (n_concepts, 2, PER_CONCEPT, TILE, TILE, 3); black where too few images show one.

    Parameters
    ----------
    table
        The images.
    cells
        (n, g, g) the concept of each place.
    shown
        (n, n_concepts) whether each image shows each concept.
    concepts
        Their numbers.
    """
    pictures = np.zeros((len(concepts), 2, PER_CONCEPT, TILE, TILE, 3), np.uint8)
    for row, number in enumerate(concepts):
        for column, i in enumerate(_spread(table.y, np.flatnonzero(shown[:, number]))):
            photo, own = table.image(i, TILE).resize((TILE, TILE), Image.Resampling.LANCZOS), cells[i] == number
            around = outlined(photo, np.where(own, 255, 0).astype(np.uint8), (TILE, TILE))
            pictures[row, 0, column] = np.asarray(around)
            pictures[row, 1, column] = np.asarray(photo.crop(_close(own)).resize((TILE, TILE)))
    return pictures


def extreme_pictures(table: ImageTable, values: Sequence[Floats]) -> Bytes:
    """The images where some values (n,) are largest, (len(values), PER_CONCEPT, TILE, TILE, 3)."""
    pictures = np.zeros((len(values), PER_CONCEPT, TILE, TILE, 3), np.uint8)
    for row, one in enumerate(values):
        for column, i in enumerate(np.argsort(-one, kind="stable")[:PER_CONCEPT]):
            pictures[row, column] = np.asarray(table.image(i, TILE).resize((TILE, TILE), Image.Resampling.LANCZOS))
    return pictures


def _spread(y: Ints, fitting: Ints) -> Ints:
    """At most `PER_CONCEPT` images, spread evenly over the classes as far as they show the concept."""
    turn = np.zeros(len(fitting), np.int64)
    for label in np.unique(y[fitting]):
        own = y[fitting] == label
        turn[own] = np.arange(own.sum())
    return fitting[np.lexsort((y[fitting], turn))][:PER_CONCEPT]


def _close(cells: Flags) -> tuple[int, int, int, int]:
    """A square of a picture around the largest connected part of some cells."""
    parts, _ = connected(cells)
    rows, columns = np.nonzero(parts == np.bincount(parts.ravel())[1:].argmax() + 1)
    scale = TILE / len(cells)
    half = (max(np.ptp(rows), np.ptp(columns)) + 2) * scale / 2
    centres = ((columns.min() + columns.max() + 1) * scale / 2, (rows.min() + rows.max() + 1) * scale / 2)
    side = min(2 * half, TILE)
    left, top = (int(min(max(centre - side / 2, 0), TILE - side)) for centre in centres)
    return left, top, left + int(side), top + int(side)
