"""Cut-outs and scenes become photographs: pasting, stickers, tints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw

from slim.data.pixels import read_cutout

T = TypeVar("T")

SPLITS = ("train", "val", "test")
SHARES = {"train": 0.6, "val": 0.15, "test": 0.25}
"""Of the objects and scenes, which no two splits share."""

_OPAQUE = 127
_LEAST_SIDE = 8

Cutout = Path | tuple[Path, Path]
"""An image with an alpha channel, or a photograph and its mask."""


def drawn(items: Sequence[T], rng: np.random.Generator) -> T:
    """One of the items at random."""
    return items[int(rng.integers(len(items)))]


def parted(items: Sequence[T], rng: np.random.Generator) -> dict[str, list[T]]:
    """Distribute items over the splits at random."""
    order = [items[i] for i in rng.permutation(len(items))]
    ends = [0, *(round(len(order) * share) for share in np.cumsum(list(SHARES.values())))]
    return {split: order[ends[i] : ends[i + 1]] for i, split in enumerate(SPLITS)}


def cut_out(source: Cutout) -> Image.Image:
    """An object with an alpha channel, cropped to its extent."""
    if isinstance(source, tuple):
        cutout = Image.open(source[0]).convert("RGB")
        cutout.putalpha(Image.open(source[1]).convert("L").resize(cutout.size))
    else:
        cutout = read_cutout(str(source))
    return cutout.crop(_opaque(cutout).getbbox())


def tint(cutout: Image.Image, color: tuple[int, int, int], rng: np.random.Generator) -> None:
    """Blend a colour into the object."""
    alpha = cutout.getchannel("A")
    cutout.paste(color, mask=Image.new("L", cutout.size, round(255 * rng.uniform(0.35, 0.45))))
    cutout.putalpha(alpha)


def paste(
    photo: Image.Image,
    cutout: Image.Image,
    rng: np.random.Generator,
    edges: tuple[float, float],
    half: int | None = None,
) -> Image.Image:
    """Paste the object at a random position of a square photograph, and return its mask.

    Its longer edge is between the two shares of the photograph's. It stays in the left (0) or right (1) half, if given.
    """
    side = photo.width
    room = side if half is None else side // 2
    longer = float(rng.uniform(*edges)) * side / max(cutout.size)
    cutout = cutout.resize([max(_LEAST_SIDE, round(edge * longer)) for edge in cutout.size], Image.Resampling.LANCZOS)
    left = int(rng.integers(0, room - cutout.width + 1)) + room * (half or 0)
    corner = (left, int(rng.integers(0, side - cutout.height + 1)))
    photo.paste(cutout, corner, cutout)
    mask = Image.new("L", photo.size)
    mask.paste(_opaque(cutout), corner)
    return mask


def stick(photo: Image.Image, rng: np.random.Generator, diameter: int) -> None:
    """Draw a round sticker of random colour into a corner of the photograph."""
    color = tuple(int(v) for v in 255 * np.array(np.random.default_rng(rng.integers(6)).permutation([1.0, 0.85, 0.1])))
    far = photo.width - diameter - 3
    left, top = (int(rng.choice([3, far])) + int(rng.integers(-2, 3)) for _ in range(2))
    ImageDraw.Draw(photo).ellipse((left, top, left + diameter, top + diameter), fill=color)


def _opaque(cutout: Image.Image) -> Image.Image:
    """255 where an object is, else 0."""
    return cutout.getchannel("A").point(lambda v: 255 * (v > _OPAQUE))
