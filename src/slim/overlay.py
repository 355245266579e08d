"""Attention maps as people see them: upsampled smoothly, laid over the photo or lighting a part of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import from_numpy
from torch.nn.functional import interpolate

Floats = NDArray[np.floating[Any]]

# From black through purple and orange to light yellow. Lightness increases throughout, so that the order survives
# colour blindness and grey printing.
_COLOURS = np.array(
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
_OPAQUE = 0.7  # opacity of the colour where attention is strongest
_HIDDEN = 24.0  # grey level outside the spotlight
_THRESHOLD = 0.5  # attention above this level counts as attended
_EDGE = 0.15  # the spotlight fades in over this distance on either side of the threshold
_LINE = 0.9  # opacity of the outline
_BACKGROUND = 0.6  # of the light that is left outside of an object
_BORDER, _RIM = 1 / 80, 1 / 160  # of the longer side: width of an object's border, and of the dark lines along it
_FLAT = 1e-6  # relative range below which a map is flat, up to rounding


def upsample(maps: Floats, size: int | tuple[int, int]) -> NDArray[np.float32]:
    """Resize attention maps bilinearly, and rescale each to [0, 1].

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
    flat = high - low <= _FLAT * np.abs(high)
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
    photo = _resized(photo, size)
    level = _levels(attention_map, photo.size)
    return _laid_over(photo, _rgba(_colour(level), _OPAQUE * level))


def heat_map(attention_map: Floats, size: tuple[int, int]) -> Image.Image:
    """The attention alone, in the colours of `overlay`.

    Parameters
    ----------
    attention_map
        (h, w) in [0, 1]; 1 = the strongest attention.
    size
        Width and height of the result in pixels.

    Returns
    -------
    PIL.Image.Image
        RGB.

    Examples
    --------
    >>> result = heat_map(np.array([[0.0, 1.0]]), (8, 4))
    >>> result.getpixel((0, 0)), result.getpixel((7, 0))
    ((0, 0, 4), (252, 255, 164))
    """
    return Image.fromarray(_bytes(_colour(_levels(attention_map, size))))


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
    photo = _resized(photo, size)
    return _laid_over(photo, spotlight_layer(attention_map, photo.size))


def colour_layer(attention_map: Floats, size: tuple[int, int], threshold: float = _THRESHOLD) -> Image.Image:
    """The colours of `overlay` without the photo, and a white outline around the attended region.

    Parameters
    ----------
    attention_map
        (h, w) in [0, 1]; 1 = the strongest attention.
    size
        Width and height of the layer in pixels.
    threshold
        The outline follows this level of attention, in (0, 1).

    Returns
    -------
    PIL.Image.Image
        RGBA; the alpha channel is the attention itself, so that a viewer chooses the overall opacity.

    Examples
    --------
    >>> layer = colour_layer(np.array([[0.0, 1.0]]), (8, 4))
    >>> layer.getpixel((0, 0)), layer.getpixel((7, 0))
    ((0, 0, 4, 0), (252, 255, 164, 255))
    """
    level = _levels(attention_map, size)
    line = _outline(level, threshold)
    colours = _colour(level) * (1 - line[..., None]) + 255 * line[..., None]
    return _rgba(colours, np.maximum(level, line))


def spotlight_layer(attention_map: Floats, size: tuple[int, int], threshold: float = _THRESHOLD) -> Image.Image:
    """The darkness of `spotlight` without the photo.

    Parameters
    ----------
    attention_map, size
        As for `colour_layer`.
    threshold
        Level of attention, in (0, 1), at which half of the photo shows through.

    Returns
    -------
    PIL.Image.Image
        RGBA: dark grey, transparent over the attended region.

    Examples
    --------
    >>> layer = spotlight_layer(np.array([[0.0, 1.0]]), (8, 4))
    >>> layer.getpixel((0, 0)), layer.getpixel((7, 0))
    ((24, 24, 24, 255), (24, 24, 24, 0))
    """
    edge = np.clip((_levels(attention_map, size) - threshold) / (2 * _EDGE) + 0.5, 0, 1)
    return _rgba(np.full((*edge.shape, 3), _HIDDEN), 1 - edge * edge * (3 - 2 * edge))


def outlined(photo: Image.Image, object_map: NDArray[np.uint8], size: int | tuple[int, int]) -> Image.Image:
    """The photo with a light border with dark edges around the object, and a little darker elsewhere.

    Parameters
    ----------
    photo
        The whole frame, any size and mode.
    object_map
        (h, w); above 127 = the object.
    size
        Width and height of the result in pixels, or the length of its longer side.

    Returns
    -------
    PIL.Image.Image
        RGB.

    Examples
    --------
    >>> grey, right = Image.new("RGB", (320, 160), (100, 100, 100)), np.array([[0, 255]], np.uint8)
    >>> result = outlined(grey, right, 320)
    >>> [result.getpixel((x, 80))[0] for x in (0, 156, 159, 160, 163, 319)]
    [60, 6, 230, 230, 10, 100]
    """
    photo = _resized(photo, size)
    inside = np.asarray(Image.fromarray(object_map).resize(photo.size, Image.Resampling.BILINEAR)) > 127
    longer = max(photo.size)
    pixels = np.asarray(photo) * np.where(inside, 1, _BACKGROUND)[..., None]
    if inside.any() and not inside.all():
        away = np.where(inside, distance_transform_edt(inside), distance_transform_edt(~inside)) - 0.5  # from the edge
        for shade, half in ((0.0, _BORDER / 2 + _RIM), (255.0, _BORDER / 2)):
            opacity = _LINE * np.clip(longer * half - away + 0.5, 0, 1)[..., None]
            pixels = pixels * (1 - opacity) + shade * opacity
    return Image.fromarray(_bytes(pixels))


def colour_scale(width: int) -> Image.Image:
    """The colours of `overlay` from no attention (left) to the strongest (right), as an RGB image one pixel high.

    Examples
    --------
    >>> scale = colour_scale(64)
    >>> scale.size, scale.getpixel((0, 0)), scale.getpixel((63, 0))
    ((64, 1), (0, 0, 4), (252, 255, 164))
    """
    return Image.fromarray(_bytes(_colour(np.linspace(0, 1, width)[None])))


def is_flat(attention_map: Floats) -> bool:
    """Whether an attention map (h, w) is the same everywhere, so that there is nothing to draw.

    Examples
    --------
    >>> is_flat(np.full((7, 7), 0.3)), is_flat(np.eye(7))
    (True, False)
    """
    low, high = attention_map.min(), attention_map.max()
    return bool(high - low <= _FLAT * abs(high))


def fitted_size(photo: Image.Image, longer_side: int) -> tuple[int, int]:
    """Width and height of a photo whose longer side becomes so many pixels.

    Examples
    --------
    >>> fitted_size(Image.new("RGB", (400, 300)), 200)
    (200, 150)
    """
    scale = longer_side / max(photo.size)
    return max(1, round(photo.width * scale)), max(1, round(photo.height * scale))


def _resized(photo: Image.Image, size: int | tuple[int, int]) -> Image.Image:
    """The photo in RGB at a size, given as for `overlay`."""
    whole = fitted_size(photo, size) if isinstance(size, int) else size
    return photo.convert("RGB").resize(whole, Image.Resampling.LANCZOS)


def _laid_over(photo: Image.Image, layer: Image.Image) -> Image.Image:
    """The photo with an RGBA layer of its size over it."""
    return Image.alpha_composite(photo.convert("RGBA"), layer).convert("RGB")


def _levels(attention_map: Floats, size: tuple[int, int]) -> NDArray[np.float32]:
    """The attention (height, width) in [0, 1] at a size given as width and height."""
    width, height = size
    level: NDArray[np.float32] = upsample(attention_map[None], (height, width))[0]
    return level


def _colour(level: Floats) -> Floats:
    """The colour (h, w, 3) of each level of attention (h, w)."""
    anchors = np.linspace(0, 1, len(_COLOURS))
    return np.stack([np.interp(level, anchors, channel) for channel in _COLOURS.T], axis=-1)


def _outline(level: Floats, threshold: float) -> Floats:
    """Opacity (h, w) of a line about a pixel wide where the attention crosses a threshold."""
    slope = np.hypot(np.diff(level, axis=1, append=level[:, -1:]), np.diff(level, axis=0, append=level[-1:]))
    distance = np.abs(level - threshold) / np.maximum(1.2 * slope, 1e-9)  # in pixels, to first order
    opacity: Floats = _LINE * np.clip(1 - distance, 0, 1)
    return opacity


def _rgba(colours: Floats, alpha: Floats) -> Image.Image:
    """An image from its colours (h, w, 3) in 0..255 and its opacity (h, w) in [0, 1]."""
    return Image.fromarray(_bytes(np.dstack([colours, 255 * alpha])))


def _bytes(values: Floats) -> NDArray[np.uint8]:
    return values.round().clip(0, 255).astype(np.uint8)
