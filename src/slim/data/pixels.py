"""From an image, mask or box on disk to pixels: the only module that opens image files.

There is one evaluation transform: the whole frame is resized to a square, so that masks and boxes stay aligned with
the image.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from slim.arrays import Flags, Floats, Ints
from slim.data.archives import archived, file_size, read_bytes
from slim.errors import DataError, SlimWarning, first_line

# Pillow's errors for files that are truncated, damaged or not images.
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, Image.DecompressionBombError)
_HALF = 127  # of 255: a brighter mask pixel belongs to the object
_SAME_SHAPE = (2, 3, 4)  # EXIF orientations that keep width and height
_FLAT = 256  # colours: a palette has no more, while compression and soft edges make more
_GREYISH = 32  # of 255: how much the channels of a grey may differ
_DEPTHS = (255, 4095, 65535)  # the largest value of 8, 12 and 16 bits
_DARKEST = 16  # of 255: what 12 bits fill of 16
_OVERSHOOT = 0.1  # how far interpolation may take fractions beyond 0 and 1
_FEW_LEVELS, _LEAST = 8, 64  # values and pixels of a mask in which several objects may be told apart
_MOSTLY = 0.8  # of a box: what lies in the photo at least, but for boxes of objects that are cut off
_NOISE = 3  # of 255: what compression makes of black
_VOTE = 51  # a fifth of 255: masks of five annotators hold their votes

T = TypeVar("T")


def read_image(path: str, side: int | None = None) -> Image.Image:
    """An image as RGB, upright according to its EXIF orientation, on white; a `DataError` if it cannot be read.

    It has nothing but its pixels: a comment in the file, or where a photo was taken, would be saved with it again.

    Parameters
    ----------
    path
        The file.
    side
        Side of the square that the image is wanted for, in pixels. A large JPEG is then decoded at a half, a quarter or
        an eighth of its size, which is several times faster, but not at less than twice that side.
    """
    return _opened(path, lambda image: _rgb(_reduced(image, side), path))


def _reduced(image: Image.Image, side: int | None) -> Image.Image:
    """An image that is not decoded yet, to be decoded at a part of its size where its format allows."""
    if side is not None:
        image.draft(None, (2 * side, 2 * side))  # None keeps the mode
    return image


def read_cutout(path: str) -> Image.Image:
    """An object with its alpha channel, RGBA and upright; a `DataError` where nothing or everything is transparent."""
    cutout = _opened(path, lambda image: ImageOps.exif_transpose(image).convert("RGBA"))
    opaque = np.asarray(cutout.getchannel("A")) > _HALF
    if opaque.all() or not opaque.any():
        got = "one that is opaque everywhere" if opaque.all() else "one that is transparent everywhere"
        raise DataError(
            f"A cut-out must be transparent around its object. Got {got} in {path}. "
            "Save it as PNG with an alpha channel."
        )
    return cutout


def check_image(path: str) -> tuple[bytes, bool]:
    """Read all of an image file as `read_image` does, faster where it can be; its bytes, and whether it has one colour.

    Raises
    ------
    DataError
        `read_image` would raise it.
    """
    if path.endswith(".npy"):
        image = read_image(path)
        return image.tobytes(), _is_flat(image)
    try:
        content = read_bytes(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    return content, _opened(path, lambda image: _is_flat(_decoded(image, path)), io.BytesIO(content))


def _decoded(image: Image.Image, path: str) -> Image.Image:
    """The pixels, of a JPEG an eighth as large, which reads the whole file too."""
    if image.format != "JPEG":
        return _rgb(image, path)
    image.draft(None, (1, 1))  # None keeps the mode
    image.load()
    return image


def _is_flat(image: Image.Image) -> bool:
    """Whether all pixels are the same, of more than one."""
    if image.width * image.height == 1:
        return False
    extrema = image.getextrema()
    pairs = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(low == high for low, high in pairs)


def squared(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """The evaluation transform: the whole frame as (size, size, 3), bilinear with antialiasing."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def mask_region(mask_path: str, image_path: str, size: int) -> Flags:
    """The object in a mask, (size, size), after the evaluation transform; at least one pixel if it has any."""
    mask, turned = _opened(
        mask_path, lambda image: (_values(ImageOps.exif_transpose(image), mask_path), _orientation(image) > 1)
    )
    (width, height), orientation = _upright_size(image_path)
    if mask.shape != (height, width):
        hint = "Export the mask at the size of the image"
        if orientation > 1 and mask.shape == (width, height):
            hint = f"The photo is turned by its EXIF orientation, {orientation}: turn the mask in the same way"
        raise DataError(
            f"A mask must have the size of its image {image_path}, {width} x {height} pixels. "
            f"Got {mask.shape[1]} x {mask.shape[0]} in {mask_path}. {hint}."
        )
    if not turned and (orientation in _SAME_SHAPE or (orientation > 1 and width == height)):
        _warn_about_turned("masks")
    inside = _object_pixels(mask, mask_path)
    region = np.array(Image.fromarray(inside).resize((size, size), Image.Resampling.NEAREST), dtype=bool)
    if inside.any() and not region.any():
        rows, columns = np.nonzero(inside)
        region[_spanned(rows, height, size), _spanned(columns, width, size)] = True
    return region


def box_region(box: tuple[float, float, float, float], image_path: str, size: int) -> Flags:
    """The area of a box (x, y, width, height), (size, size), after the evaluation transform.

    x and width count columns, y and height count rows of the upright image.
    """
    x, y, box_width, box_height = box
    (width, height), orientation = _upright_size(image_path)
    if orientation > 1:
        _warn_about_turned("boxes")
    inside = max(0.0, min(x + box_width, width) - max(x, 0)) * max(0.0, min(y + box_height, height) - max(y, 0))
    if inside > 0 and inside < box_width * box_height / 4:
        raise DataError(
            f"A box must lie in its image {image_path}, {width} x {height} pixels, but for its edges. "
            f"Got x {x:g}, y {y:g}, width {box_width:g}, height {box_height:g}, less than a quarter of it inside. "
            "Check that the last two are not the opposite corner, or in another unit."
        )
    if not inside:
        raise DataError(
            f"A box must overlap its image {image_path}, {width} x {height} pixels. "
            f"Got x {x:g}, y {y:g}, width {box_width:g}, height {box_height:g}. "
            "Use pixels, counted from the upper left corner."
        )
    if inside < _MOSTLY * box_width * box_height:
        warnings.warn(
            "Some boxes reach far beyond their photos. Check that the last two numbers are width and height, and not "
            "the opposite corner.",
            SlimWarning,
            stacklevel=3,
        )
    region = np.zeros((size, size), dtype=bool)
    region[_covered(y, box_height, height, size), _covered(x, box_width, width, size)] = True
    return region


def image_format(content: bytes) -> str:
    """The format of an image, in lower case; "damaged" for what is none, which whoever reads it is told about.

    Examples
    --------
    >>> image_format(b"<html>")
    'damaged'
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            return str(image.format).lower()
    except _UNREADABLE:
        return "damaged"


def _opened(path: str, use: Callable[[Image.Image], T], content: io.BytesIO | None = None) -> T:
    """The result of `use` on the opened file, or on its content, which is closed afterwards."""
    try:
        file = content or archived(path) or path
        with Image.fromarray(_array(file)) if path.endswith(".npy") else Image.open(file) as image:
            _warn_about_pages(image)
            return use(image)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> DataError:
    """The error of a file that is no image."""
    if isinstance(error, UnidentifiedImageError):
        error = ValueError("an empty file" if file_size(path) == 0 else "no format of images that is known")
    # The system's own words, without the number of the error and the path again.
    reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else first_line(error)
    advice = "Check the path" if isinstance(error, FileNotFoundError) else "Copy the file again"
    return DataError(f"{path} must be a readable image. Got: {reason}. {advice}, or leave the image out.")


def _array(file: str | io.BytesIO) -> npt.NDArray[Any]:
    """An array (h, w) of a file of numpy, in a type that Pillow knows."""
    array: npt.NDArray[Any] = np.load(file, allow_pickle=False)
    array = array.squeeze() if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]) else array
    if array.ndim != 2 or not array.size or not (array.dtype == bool or np.issubdtype(array.dtype, np.number)):
        raise ValueError(f"an array of {array.dtype} and shape {array.shape}, where numbers (height, width) are needed")
    if np.iscomplexobj(array):
        raise ValueError("an array of complex numbers")
    return array.astype(np.uint8 if array.dtype == bool else np.float32)


def _rgb(image: Image.Image, path: str) -> Image.Image:
    """An opened image of any mode as RGB, upright, and white where it is transparent."""
    deep, negative = _is_deep(image), _is_negative(image)  # known only before the pixels are decoded
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(255 - _grey(image, path) if negative else _grey(image, path))
    elif deep and np.asarray(image.convert("RGB")).max() <= _DARKEST:
        raise DataError(
            f"An image of 16 bits per colour must use all of them. Got only the lower 12, which are black, in {path}. "
            "Save it with 8 bits."
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = image.convert("RGB")
    pixels.info = {}
    return pixels


def _is_deep(image: Image.Image) -> bool:
    """Whether a file that is not decoded yet has 16 bits per colour, of which Pillow keeps the upper 8."""
    tiles = getattr(image, "tile", [])
    return ";16" in str(tiles) or any(tile[0] == "ppm" and max(_ints(tile[3])) > 255 for tile in tiles)


def _is_negative(image: Image.Image) -> bool:
    """Whether 0 is white in a TIFF file, which Pillow heeds only up to 8 bits."""
    return getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0


def _ints(values: object) -> list[int]:
    """The whole numbers among the arguments of a decoder."""
    return [0, *(value for value in (values if isinstance(values, tuple) else (values,)) if isinstance(value, int))]


def _grey(image: Image.Image, path: str) -> npt.NDArray[np.uint8]:
    """Grey values of any depth as bytes (h, w); Pillow would clip them at 255. NaN is black.

    Files do not tell the depth, so the largest value does: fractions up to 1, or else 8, 12 or 16 bits.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0)
    fractions = image.mode == "F" and values.min() >= -_OVERSHOOT and values.max() <= 1 + _OVERSHOOT
    values = values.clip(0, 1) if fractions else values
    low, high = values.min(), values.max()
    if low < 0 or high > _DEPTHS[-1]:
        raise DataError(
            f"Grey values must be from 0 to {_DEPTHS[-1]}. Got {low:g} to {high:g} in {path}. "
            "Scale them in the same way in every image, and save them with 8 bits."
        )
    if not fractions and 0 < high < _DARKEST:
        raise DataError(
            f"Grey values must fill 8, 12 or 16 bits. Got at most {high:g} in {path}, which is black. "
            "Scale them in the same way in every image, and save them with 8 bits."
        )
    largest = 1 if fractions else next(depth for depth in _DEPTHS if high <= depth)
    return np.asarray(values * 255 / largest, dtype=np.uint8)


def _upright_size(path: str) -> tuple[tuple[int, int], int]:
    """Width and height of the upright image, and its EXIF orientation, without decoding it."""
    (width, height), orientation = _opened(path, lambda image: (image.size, _orientation(image)))
    return ((height, width) if orientation >= 5 else (width, height)), orientation


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 = upright as stored, and from 5 on sideways."""
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _warn_about_pages(image: Image.Image) -> None:
    """Say that a TIFF file, which is opened but not decoded yet, has more than the page that is read."""
    if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
        warnings.warn(
            "Some TIFF files hold several pages, such as the slices of a stack: only the first page of each is read. "
            "Save the pages that you need as separate files.",
            SlimWarning,
            stacklevel=4,
        )


def _warn_about_turned(regions: str) -> None:
    """Say what cannot be told from sizes: the text is always the same, so that a run shows it once."""
    warnings.warn(
        f"Some photos are turned by their EXIF orientation, and their {regions} may belong to the photos as stored: "
        "SLIM applies them to the photos as shown. Look at a few, or save the photos upright.",
        SlimWarning,
        stacklevel=4,
    )


def _values(mask: Image.Image, path: str) -> Floats:
    """Pixels (h, w) of a mask, 0 to 255 even if the file has 16 bits; of a cut-out its opacity."""
    if mask.mode.startswith(("I", "F")):
        values = np.asarray(mask, dtype=np.float32)
        return values / np.float32(257) if values.max() > 255 else values
    if mask.has_transparency_data:
        opacity = mask.convert("RGBA").getchannel("A")
        if np.asarray(opacity).min() < 255:
            return np.asarray(opacity, dtype=np.float32)
    if mask.mode not in ("1", "L") and (coloured := _in_colours(mask.convert("RGB"), path)) is not None:
        return coloured
    return np.asarray(mask.convert("L"), dtype=np.float32)


def _in_colours(mask: Image.Image, path: str) -> Floats | None:
    """Pixels (h, w) of a mask of flat colours, above 0 on the object; None for a mask of greys or of many shades."""
    colours = np.array([colour for _, colour in mask.getcolors(_FLAT) or ()]).reshape(-1, 3)
    if not (np.ptp(colours, axis=1) > _GREYISH).any():
        return None
    if colours.any(axis=1).sum() > 1:
        raise DataError(
            f"A mask in colours must have one colour on black. Got {len(colours)} colours in {path}. "
            "Write the object as 255 and everything else as 0."
        )
    brightest: Floats = np.asarray(mask, dtype=np.float32).max(axis=2)
    return brightest


def _object_pixels(values: Floats, path: str) -> Flags:
    """The mask pixels of the object: the bright ones, or all above 0 if there is only one such value."""
    top = values.max()
    if top > _HALF:
        _check_levels(values, path)
        return values > _HALF
    if np.isin(values, (0, top)).all():
        return values > 0
    raise DataError(
        f"A mask must hold 0 and 1, or 0 and 255. Got several values up to {top:g} in {path}. "
        "Write the object as 255 and everything else as 0."
    )


def _check_levels(values: Floats, path: str) -> None:
    """Refuse a bright mask of few values, much of which is neither black nor the brightest: numbers of objects."""
    levels, counts = np.unique(values, return_counts=True)
    bright = levels > _NOISE
    between = bright & (levels < levels.max() - 8) & (levels % _VOTE != 0)
    several = counts[between].sum() > counts[bright].sum() / 3 and counts[between].sum() >= _LEAST
    if len(levels) <= _FEW_LEVELS and several:
        raise DataError(
            f"A mask must hold 0 and 1, or 0 and 255. Got {', '.join(f'{level:g}' for level in levels)} in {path}, "
            "which may number several objects. Write the object as 255 and everything else as 0."
        )


def _spanned(positions: Ints, frame: int, size: int) -> slice:
    """The pixels along one side from the first to the last of some positions; at least one."""
    return _covered(int(positions.min()), int(np.ptp(positions)) + 1, frame, size)


def _covered(start: float, length: float, frame: int, size: int) -> slice:
    """The pixels along one side whose centres are within the box; at least one."""
    scale = size / frame
    first = max(int(np.ceil(start * scale - 0.5)), 0)
    last = min(int(np.ceil((start + length) * scale - 0.5)), size)
    if last <= first:
        first = min(max(int((start + length / 2) * scale), 0), size - 1)
        last = first + 1
    return slice(first, last)
