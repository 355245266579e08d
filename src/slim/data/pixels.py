"""From an image, mask or box on disk to pixels: the only module that opens image files.

There is one evaluation transform: the whole frame is resized to a square, so that masks and boxes stay aligned with
the image.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from slim.arrays import Flags, Floats
from slim.errors import DataError

# Pillow's errors for files that are truncated, damaged or not images.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_HALF = 127  # of 255: a brighter mask pixel belongs to the object

T = TypeVar("T")


def read_image(path: str) -> Image.Image:
    """An image as RGB, upright according to its EXIF orientation; a `DataError` if it cannot be read."""
    return _opened(path, lambda image: _rgb(ImageOps.exif_transpose(image)))


def squared(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """The evaluation transform: the whole frame as (size, size, 3), bilinear with antialiasing."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def mask_region(mask_path: str, image_path: str, size: int) -> Flags:
    """The object in a mask, (size, size), after the evaluation transform."""
    mask = _opened(mask_path, lambda image: _values(ImageOps.exif_transpose(image)))
    width, height = _upright_size(image_path)
    if mask.shape != (height, width):
        raise DataError(
            f"A mask must have the size of its image {image_path}, {width} x {height} pixels. "
            f"Got {mask.shape[1]} x {mask.shape[0]} in {mask_path}. Export the mask at the size of the image."
        )
    inside = Image.fromarray(_object_pixels(mask, mask_path))
    return np.array(inside.resize((size, size), Image.Resampling.NEAREST), dtype=bool)


def box_region(box: tuple[float, float, float, float], image_path: str, size: int) -> Flags:
    """The area of a box (x, y, width, height), (size, size), after the evaluation transform.

    x and width count columns, y and height count rows of the upright image.
    """
    x, y, box_width, box_height = box
    width, height = _upright_size(image_path)
    if not (x < width and x + box_width > 0 and y < height and y + box_height > 0):
        raise DataError(
            f"A box must overlap its image {image_path}, {width} x {height} pixels. "
            f"Got x {x:g}, y {y:g}, width {box_width:g}, height {box_height:g}. "
            "Use pixels, counted from the upper left corner."
        )
    region = np.zeros((size, size), dtype=bool)
    region[_covered(y, box_height, height, size), _covered(x, box_width, width, size)] = True
    return region


def _opened(path: str, use: Callable[[Image.Image], T]) -> T:
    """The result of `use` on the opened file, which is closed afterwards."""
    try:
        with Image.open(path) as image:
            return use(image)
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path} must be a readable image. Got: {reason}. Copy the file again, or drop it from the data set."
        ) from error


def _rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB."""
    if image.mode.startswith("I"):
        # Pillow would clip 16-bit values at 255, which makes most of them white.
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _upright_size(path: str) -> tuple[int, int]:
    """Width and height of the upright image, without decoding it."""

    def size(image: Image.Image) -> tuple[int, int]:
        width, height = image.size
        sideways = image.getexif().get(0x0112, 1) >= 5
        return (height, width) if sideways else (width, height)

    return _opened(path, size)


def _values(mask: Image.Image) -> Floats:
    """Pixels (h, w) of a mask, 0 to 255 even if the file has 16 bits."""
    if mask.mode.startswith(("I", "F")):
        values = np.asarray(mask, dtype=np.float32)
        return values / np.float32(257) if values.max() > 255 else values
    return np.asarray(mask.convert("L"), dtype=np.float32)


def _object_pixels(values: Floats, path: str) -> Flags:
    """The mask pixels of the object: the bright ones, or all above 0 if there is only one such value."""
    top = values.max()
    if top > _HALF:
        return values > _HALF
    if np.isin(values, (0, top)).all():
        return values > 0
    raise DataError(
        f"A mask must hold 0 and 1, or 0 and 255. Got several values up to {top:g} in {path}. "
        "Write the object as 255 and everything else as 0."
    )


def _covered(start: float, length: float, frame: int, size: int) -> slice:
    """The pixels along one side whose centres are within the box; at least one."""
    scale = size / frame
    first = max(int(np.ceil(start * scale - 0.5)), 0)
    last = min(int(np.ceil((start + length) * scale - 0.5)), size)
    if last <= first:
        first = min(max(int((start + length / 2) * scale), 0), size - 1)
        last = first + 1
    return slice(first, last)
