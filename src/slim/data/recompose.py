"""Recomposed images: the object of each image on the background of another one, made as they are read.

On recomposed images the background says nothing about the class, so a model that is trained on them cannot learn it.
Nothing is stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from slim.arguments import checked
from slim.arrays import Bytes, Ints
from slim.data.batches import Batch, ImageBatches, image_batches
from slim.data.table import ImageTable, Indices
from slim.errors import DataError, SettingsError

Donors = Literal["any", "other", "same"]

_DONOR_SEED = 1 << 32  # donors are cropped and flipped independently of the objects
_SHARPNESS = 4.0  # an object map's edge is this much steeper in a recomposed image
_MARGIN = 32  # the hole in a background exceeds its object on each side by one part in this many of the image's side


@dataclass(frozen=True, eq=False)
class Recomposition:
    """How the images of a table are recomposed.

    Parameters
    ----------
    maps
        (n, h, w) object maps as bytes; 255 = the object, 0 = background.
    donors
        Whose backgrounds: those of "any" image, or only of images of "other" parts or of the "same" part.
    parts
        (n,) what "other" and "same" refer to, for instance labels or clusters.

    Raises
    ------
    DataError
        Parts are missing, or there is no donor for an image.

    Examples
    --------
    >>> recomposition = Recomposition(np.zeros((4, 8, 8), np.uint8), "same", np.array([0, 0, 1, 1]))
    >>> recomposition.draw_donors(np.array([0, 3, 3, 1]), seed=0, epoch=0).tolist()
    [0, 2, 3, 0]
    """

    maps: Bytes
    donors: Donors = "any"
    parts: Ints | None = None

    def __post_init__(self) -> None:
        if self.donors not in get_args(Donors):
            raise SettingsError(f"donors must be one of {', '.join(get_args(Donors))}. Got {self.donors!r}. Try any.")
        if self.donors != "any" and (self.parts is None or len(self.parts) != len(self.maps)):
            got = "none" if self.parts is None else str(len(self.parts))
            raise DataError(f"Each of the {len(self.maps)} images must have a part. Got {got}. Pass parts=.")
        if self.donors == "other" and self.parts is not None and len(np.unique(self.parts)) < 2:
            raise DataError("There must be images of another part to take backgrounds from. Got one part. Use any.")

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: Ints) -> Recomposition:
        """Of some images of the table, in this order."""
        return Recomposition(self.maps[index], self.donors, None if self.parts is None else self.parts[index])

    def digest(self) -> str:
        """Changes with whatever changes the recomposed images."""
        content = hashlib.blake2b(f"{self.donors} {self.maps.shape}".encode(), digest_size=16)
        content.update(np.ascontiguousarray(self.maps).data)
        content.update(b"" if self.parts is None else np.ascontiguousarray(self.parts).data)
        return content.hexdigest()

    def draw_donors(self, order: Ints, seed: int, epoch: int) -> Ints:
        """The position of the image that gives the background to each image of an order."""
        uniform = np.random.default_rng((seed, epoch, 0, 0, 7)).random(len(order))
        if self.donors == "any" or self.parts is None:
            return np.asarray(uniform * len(self), np.int64)
        donors = np.empty(len(order), np.int64)
        for part in np.unique(self.parts[order]):
            of_part = self.parts[order] == part
            fitting = np.flatnonzero((self.parts == part) == (self.donors == "same"))
            donors[of_part] = fitting[(uniform[of_part] * len(fitting)).astype(np.int64)]
        return donors


@dataclass(frozen=True, eq=False)
class RecomposedBatches:
    """The result of `recomposed_batches`: iterate over it as often as you like; `len` is the number of batches."""

    objects: ImageBatches
    backgrounds: ImageBatches
    device: torch.device | None = None

    def __len__(self) -> int:
        return len(self.objects)

    def __iter__(self) -> Iterator[Batch]:
        for (images, y, index), (donors, _, _) in zip(self.objects, self.backgrounds, strict=True):
            yield compose(*(each.to(self.device, non_blocking=True) for each in (images, donors))), y, index


@checked
def recomposed_batches(
    table: ImageTable,
    recomposition: Recomposition,
    image_size: int,
    batch_size: int | None = None,
    *,
    order: Indices | None = None,
    before: Indices | None = None,
    seed: int = 0,
    epoch: int = 0,
    device: torch.device | None = None,
    **options: Any,
) -> RecomposedBatches:
    """Read images in batches, each object on the background of another image.

    Parameters
    ----------
    recomposition
        Object maps of the images of `table`, and whose backgrounds they get.
    table, image_size, batch_size, order, before, seed, epoch, device, **options
        As for `image_batches`. The donors of an epoch depend on seed and epoch alone; the augmentation crops and flips
        the object and the background independently.

    Returns
    -------
    Sized iterable of (images, y, index)
        As for `image_batches`; labels and positions are those of the objects. Images are made on `device`.
    """
    n = len(table)
    if len(recomposition) != n:
        raise DataError(f"Each of the {n} images must have an object map. Got {len(recomposition)} maps. Check both.")
    everyone = np.arange(n)
    order = everyone if order is None else everyone[order]
    before = everyone[:0] if before is None else everyone[before]
    donors = recomposition.draw_donors(np.concatenate([before, order]), seed, epoch)

    def read(order: Ints, before: Ints, seed: int) -> ImageBatches:
        return image_batches(
            table,
            image_size,
            batch_size,
            order=order,
            before=before,
            seed=seed,
            epoch=epoch,
            device=device,
            maps=recomposition.maps,
            **options,
        )

    return RecomposedBatches(
        read(order, before, seed), read(donors[len(before) :], donors[: len(before)], seed + _DONOR_SEED), device
    )


def compose(objects: Tensor, donors: Tensor) -> Tensor:
    """The objects of some images on the backgrounds of others.

    Parameters
    ----------
    objects, donors
        uint8 (b, 4, S, S), the fourth channel an object map.

    Returns
    -------
    Tensor
        uint8 (b, 3, S, S): a map's upper half of values is the object, with a soft edge.

    Examples
    --------
    >>> red, blue = torch.zeros(2, 1, 4, 4, 4, dtype=torch.uint8)
    >>> red[:, 0], blue[:, 2] = 200, 100
    >>> red[:, 3, :, :2] = 255
    >>> compose(red, blue)[0, :, 0].tolist()
    [[200, 200, 0, 0], [0, 0, 0, 0], [0, 0, 100, 100]]
    """
    objects = _planes(objects)
    image = torch.lerp(erase_objects(donors), objects[:, :3], _edged(objects[:, 3:]))
    return image.round_().to(torch.uint8, memory_format=torch.channels_last)


def erase_objects(images: Tensor) -> Tensor:
    """Fill the objects of images (b, 4, S, S), whose fourth channel is an object map, from around them.

    Returns
    -------
    Tensor
        float (b, 3, S, S) in 0..255.
    """
    images, margin = _planes(images), ceil(images.shape[-1] / _MARGIN)
    # At half the resolution: what is filled in is smooth, and the work is a quarter.
    hole = max_pool2d(_edged(images[:, 3:]), 2 * margin + 2, stride=2, padding=margin, ceil_mode=True)
    filled = _filled(avg_pool2d(images[:, :3], 2, ceil_mode=True), 1 - hole)
    filled, hole = (interpolate(part, images.shape[2:], mode="bilinear") for part in (filled, hole))
    return torch.lerp(images[:, :3], filled, hole)


def _planes(images: Tensor) -> Tensor:
    """Images as floats, one channel after the other in memory, which is several times faster here."""
    return images.to(torch.float32, memory_format=torch.contiguous_format)


def _edged(maps: Tensor) -> Tensor:
    """Object maps (b, 1, S, S) in bytes as opacity: 0.5 where the map is half its maximum, with a steep edge."""
    return maps.mul(_SHARPNESS / 255).add_(0.5 - _SHARPNESS / 2).clamp_(0, 1)


def _filled(pixels: Tensor, known: Tensor) -> Tensor:
    """Pixels (b, 3, h, w), those not known (b, 1, h, w) replaced by those of ever coarser averages of the known."""
    if min(pixels.shape[2:]) <= 1:
        return pixels
    share = avg_pool2d(known, 2, ceil_mode=True)
    coarse = avg_pool2d(pixels * known, 2, ceil_mode=True) / share.clamp_min(1e-6)
    filled = _filled(coarse, (2 * share).clamp_max(1))
    finer = interpolate(filled, pixels.shape[2:], mode="bilinear", align_corners=False)
    return torch.lerp(finer, pixels, known)
