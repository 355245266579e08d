"""Attention maps as a person sees them: upsampled smoothly, laid over the photo or cut out of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import from_numpy
from torch.nn.functional import interpolate

Floats = NDArray[np.floating[Any]]

# From black over purple and orange to light yellow: lightness rises all the way, so that order survives
# colour blindness and grey printing.
COLOURS = np.array(
    [
        (0, 0, 4),
        (40, 11, 84),
        (101, 21, 110),
        (159, 42, 99),
        (212, 72, 66),
        (245, 125, 21),
        (250, 193, 39),
        (252, 255, 164),
    ]
)
_OPAQUE = 0.7  # how much of the strongest attention's pixel is colour; the rest is photo
_HIDDEN = np.array([24.0, 24.0, 24.0])  # what the spotlight does not reach
_DARK, _LIT = 0.35, 0.65  # the spotlight fades in between these levels of attention


def upsample(maps: Floats, size: int | tuple[int, int]) -> NDArray[np.float32]:
    """Bring attention maps to a larger size, bilinearly, and each to the whole of [0, 1] again.

    Parameters
    ----------
    maps
        (n, h, w) attention maps in [0, 1].
    size
        Height and width in pixels, or one number for a square.

    Returns
    -------
    ndarray of shape (n, height, width)
        In [0, 1]; 1 = the strongest attention of that image. A flat map becomes zero everywhere.

    Examples
    --------
    >>> upsample(np.array([[[0.0, 1.0]]]), (1, 4)).round(2)
    array([[[0.  , 0.25, 0.75, 1.  ]]], dtype=float32)
    >>> upsample(np.full((1, 2, 2), 0.7), 3).max()
    np.float32(0.0)
    """
    coarse = from_numpy(np.array(maps, dtype=np.float32)[:, None])
    smooth: NDArray[np.float32] = interpolate(coarse, size=size, mode="bilinear", align_corners=False)[:, 0].numpy()
    low, high = smooth.min((1, 2), keepdims=True), smooth.max((1, 2), keepdims=True)
    # Interpolating a constant may leave rounding noise, which must not be blown up to the full range.
    flat = high - low <= 1e-6 * np.abs(high)
    return np.where(flat, 0, (smooth - low) / np.where(flat, 1, high - low)).astype(np.float32)


def overlay(photo: Image.Image, attention_map: Floats, size: int | tuple[int, int]) -> Image.Image:
    """The photo with its attention in colour: clear where the model does not look, glowing where it does.

    Parameters
    ----------
    photo
        The whole frame, any size and mode.
    attention_map
        (h, w) in [0, 1]; 1 = the strongest attention.
    size
        Width and height of the result in pixels, or the length of its longer side.

    Returns
    -------
    PIL.Image.Image
        RGB.

    Examples
    --------
    >>> grey = Image.new("RGB", (4, 2), (100, 100, 100))
    >>> result = overlay(grey, np.array([[0.0, 1.0]]), 8)
    >>> result.size, result.getpixel((0, 0)), result.getpixel((7, 0))
    ((8, 4), (100, 100, 100), (206, 208, 145))
    """
    pixels, level = _aligned(photo, attention_map, size)
    return _blend(pixels, _colour(level), _OPAQUE * level)


def spotlight(photo: Image.Image, attention_map: Floats, size: int | tuple[int, int]) -> Image.Image:
    """The photo where the model looks, and nearly black elsewhere, with a soft edge.

    Parameters
    ----------
    photo, attention_map, size
        As for `overlay`.

    Returns
    -------
    PIL.Image.Image
        RGB. A flat map leaves nothing to see.

    Examples
    --------
    >>> grey = Image.new("RGB", (4, 2), (100, 100, 100))
    >>> result = spotlight(grey, np.array([[0.0, 1.0]]), 8)
    >>> result.getpixel((0, 0)), result.getpixel((7, 0))
    ((24, 24, 24), (100, 100, 100))
    """
    pixels, level = _aligned(photo, attention_map, size)
    edge = np.clip((level - _DARK) / (_LIT - _DARK), 0, 1)
    seen = edge * edge * (3 - 2 * edge)
    return _blend(pixels, np.broadcast_to(_HIDDEN, pixels.shape), 1 - seen)


def fitted_size(photo: Image.Image, longer_side: int) -> tuple[int, int]:
    """Width and height of a photo whose longer side becomes so many pixels.

    Examples
    --------
    >>> fitted_size(Image.new("RGB", (400, 300)), 200)
    (200, 150)
    """
    scale = longer_side / max(photo.size)
    return max(1, round(photo.width * scale)), max(1, round(photo.height * scale))


def _aligned(photo: Image.Image, attention_map: Floats, size: int | tuple[int, int]) -> tuple[Floats, Floats]:
    """The photo's pixels (h, w, 3) in 0..255 and its attention (h, w, ) in [0, 1], both at the same size."""
    width, height = fitted_size(photo, size) if isinstance(size, int) else size
    pixels = np.asarray(photo.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), dtype=np.float64)
    return pixels, upsample(attention_map[None], (height, width))[0]


def _colour(level: Floats) -> Floats:
    """The colour (h, w, 3) of each level of attention (h, w)."""
    anchors = np.linspace(0, 1, len(COLOURS))
    return np.stack([np.interp(level, anchors, channel) for channel in COLOURS.T], axis=-1)


def _blend(below: Floats, above: Floats, opacity: Floats) -> Image.Image:
    """Lay one picture (h, w, 3) over another, with the opacity (h, w) of each pixel."""
    weight = opacity[..., None]
    return Image.fromarray((below * (1 - weight) + above * weight).round().clip(0, 255).astype(np.uint8))
