"""From an image, mask or box on disk to pixels: the one place that opens image files.

There is one evaluation transform: the whole frame is resized to a square, so that a mask or a box of the
image stays aligned with it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from slim.errors import DataError

# What Pillow raises on files that are cut off, damaged or no images at all.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_HALF = 127  # of 255: a brighter mask pixel belongs to the object

T = TypeVar("T")


def read_image(path: str) -> Image.Image:
    """An image as RGB, turned upright as its EXIF orientation says; `DataError` where it cannot be read."""
    return _opened(path, lambda image: _rgb(ImageOps.exif_transpose(image)))


def squared(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """The evaluation transform: the whole frame as (size, size, 3), bilinear with antialiasing."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def mask_region(mask_path: str, image_path: str, size: int) -> npt.NDArray[np.bool_]:
    """Where a mask says that the object is, as (size, size), after the evaluation transform."""
    mask = _opened(mask_path, lambda image: _values(ImageOps.exif_transpose(image)))
    width, height = _upright_size(image_path)
    if mask.shape != (height, width):
        raise DataError(
            f"A mask must be as large as its image {image_path}, {width} x {height} pixels. "
            f"Got {mask.shape[1]} x {mask.shape[0]} in {mask_path}. Export the mask at the image's own size."
        )
    inside = Image.fromarray(_object_pixels(mask, mask_path))
    return np.array(inside.resize((size, size), Image.Resampling.NEAREST), dtype=bool)


def box_region(box: tuple[float, float, float, float], image_path: str, size: int) -> npt.NDArray[np.bool_]:
    """Where a box (x, y, width, height) lies, as (size, size), after the evaluation transform.

    x and width count columns and y and height count rows of the upright image.
    """
    x, y, box_width, box_height = box
    width, height = _upright_size(image_path)
    if not (x < width and x + box_width > 0 and y < height and y + box_height > 0):
        raise DataError(
            f"A box must overlap its image {image_path}, {width} x {height} pixels. "
            f"Got x {x:g}, y {y:g}, width {box_width:g}, height {box_height:g}. "
            "Give boxes in pixels, from the upper left corner."
        )
    region = np.zeros((size, size), dtype=bool)
    region[_covered(y, box_height, height, size), _covered(x, box_width, width, size)] = True
    return region


def _opened(path: str, use: Callable[[Image.Image], T]) -> T:
    """What `use` makes of the opened file; the file is closed whatever happens."""
    try:
        with Image.open(path) as image:
            return use(image)
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path} must be a readable image. Got: {reason}. Copy the file again, or drop it from the data set."
        ) from error


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB."""
    if image.mode.startswith("I"):
        # Pillow would clip 16-bit greys at 255, which makes most of them white.
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _upright_size(path: str) -> tuple[int, int]:
    """Width and height of an image after EXIF orientation, without decoding it."""

    def size(image: Image.Image) -> tuple[int, int]:
        width, height = image.size
        sideways = image.getexif().get(0x0112, 1) >= 5
        return (height, width) if sideways else (width, height)

    return _opened(path, size)


def _values(mask: Image.Image) -> npt.NDArray[np.float32]:
    """A mask's pixels (h, w), in 0..255 also where the file has 16 bits."""
    if mask.mode.startswith(("I", "F")):
        values = np.asarray(mask, dtype=np.float32)
        return values / np.float32(257) if values.max() > 255 else values
    return np.asarray(mask.convert("L"), dtype=np.float32)


def _object_pixels(values: npt.NDArray[np.float32], path: str) -> npt.NDArray[np.bool_]:
    """Which mask pixels are the object: the bright ones, or all above 0 where there is only one other value."""
    top = values.max()
    if top > _HALF:
        return values > _HALF
    if np.isin(values, (0, top)).all():
        return values > 0
    raise DataError(
        f"A mask must be 0 and 1, or 0 and 255. Got values up to {top:g}, and others between, in {path}. "
        "Write the object as 255 and everything else as 0."
    )


def _covered(start: float, length: float, frame: int, size: int) -> slice:
    """The pixels of `size` whose centres lie within the box along one side, at least one."""
    scale = size / frame
    first = max(int(np.ceil(start * scale - 0.5)), 0)
    last = min(int(np.ceil((start + length) * scale - 0.5)), size)
    if last <= first:
        first = min(max(int((start + length / 2) * scale), 0), size - 1)
        last = first + 1
    return slice(first, last)
