"""A picture of recomposed images, to see whether SLIM has understood the object."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from slim.arrays import Bytes, Ints
from slim.data.batches import image_batches
from slim.data.recompose import Recomposition, compose, erase_objects
from slim.data.table import ImageTable

TILE = 144
"""Side of a photo, in pixels; the whole frame of each is shown as a square."""

_TRIPLES_PER_ROW = 3
_GAP = 12
_DIMMED = 0.35
_OUTLINE = (255, 255, 0)


def recomposed_sheet(table: ImageTable, maps: Bytes, show: int = 24, seed: int = 0) -> Image.Image:
    """Draw some images three times: with the object outlined, on another image's background, and without the object.

    Parameters
    ----------
    table
        The images.
    maps
        (n, h, w) their object maps.
    show
        Number of images, drawn at random.
    seed
        Random seed.

    Returns
    -------
    Image
        Triples in rows of three.
    """
    drawn = np.sort(np.random.default_rng((seed, 11)).permutation(len(table))[:show])
    donors = Recomposition(maps).draw_donors(drawn, seed, 0)
    objects, backgrounds = _read(table, maps, drawn), _read(table, maps, donors)
    parts = (_outlined(objects), compose(objects, backgrounds), erase_objects(objects).to(torch.uint8))
    triples = torch.cat(parts, 3).permute(0, 2, 3, 1).numpy()
    width, rows = 3 * TILE + _GAP, -(-len(drawn) // _TRIPLES_PER_ROW)
    sheet = Image.new("RGB", (_TRIPLES_PER_ROW * width - _GAP, rows * (TILE + _GAP) - _GAP), "white")
    for place, triple in enumerate(triples):
        row, column = divmod(place, _TRIPLES_PER_ROW)
        sheet.paste(Image.fromarray(triple), (column * width, row * (TILE + _GAP)))
    return sheet


def _read(table: ImageTable, maps: Bytes, order: Ints) -> Tensor:
    """Some images and their maps, (b, 4, TILE, TILE)."""
    return torch.cat([images for images, _, _ in image_batches(table, TILE, order=order, maps=maps)])


def _outlined(images: Tensor) -> Tensor:
    """Images (b, 4, TILE, TILE) with everything but the object dimmed, and a line around it."""
    inside = images[:, 3:] > 127
    edge = torch.nn.functional.max_pool2d(inside.float(), 3, stride=1, padding=1).bool() & ~inside
    shown = torch.where(inside, images[:, :3], (images[:, :3] * _DIMMED).to(torch.uint8))
    return torch.where(edge, torch.tensor(_OUTLINE, dtype=torch.uint8).view(1, 3, 1, 1), shown)
