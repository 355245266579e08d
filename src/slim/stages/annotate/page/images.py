"""Photos and the attention layers over them, as files that the page shows: resized, without the metadata."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from threading import Lock

import numpy as np
import torch
from PIL import Image

from slim.arrays import Floats
from slim.matting import SIDE, object_maps
from slim.overlay import fitted_size, outlined
from slim.stages.annotate.page.session import Pool

PHOTO, THUMBNAIL = 1280, 256  # longer side of a photo in pixels
LAYER, SMALL_LAYER = 400, 160  # and of a layer: attention is smooth, so that the browser can enlarge it
OUTLINED = 320  # of a photo with an outline, which the page shows at half that size
_RECENT = 16  # decoded photos in memory, at most 5 MB each
_RECENT_SMALL = 64  # to be outlined, at most 0.3 MB each

Layer = Callable[[Floats, tuple[int, int], float], Image.Image]  # draws a map at a size, with a threshold


class Pictures:
    """The pictures of a pool; the photos used last stay in memory.

    Parameters
    ----------
    pool
        The images and their attention maps.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._recent = lru_cache(maxsize=_RECENT)(self._read)
        self._recent_small = lru_cache(maxsize=_RECENT_SMALL)(self._read_small)
        self._lock = Lock()

    def photo(self, index: int, *, small: bool = False) -> bytes:
        """An image as JPEG, at most 1280 pixels wide or high, or 256 where `small`; never enlarged.

        Raises
        ------
        DataError
            The file cannot be read.
        """
        photo = self._photo(index)
        return _encoded(_shrunk(photo, THUMBNAIL) if small else photo, "JPEG", quality=90)

    def layer(self, index: int, draw: Layer, threshold: float, *, small: bool = False) -> bytes:
        """A layer to lay over a photo, such as `colour_layer`, as PNG with an alpha channel.

        Raises
        ------
        DataError
            The photo, which sets the layer's proportions, cannot be read.
        """
        size = fitted_size(self._photo(index), SMALL_LAYER if small else LAYER)
        return _encoded(draw(self._pool.maps[index], size, threshold), "PNG", compress_level=1)

    def outline(self, index: int, scores: Floats, cut: float) -> bytes:
        """An image as JPEG, 320 pixels wide or high, with the outline of the object by the (g, g) scores of its places.

        As `slim.matting.object_maps` takes them.

        Raises
        ------
        DataError
            The file cannot be read.
        """
        photo = self._recent_small(index)  # without the lock: what a person waits for is read by `_photo`
        square = np.array(photo.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        found = object_maps(scores[None], torch.from_numpy(square).permute(2, 0, 1)[None], cut)[0]
        return _encoded(outlined(photo, found, photo.size), "JPEG", quality=85)

    def _photo(self, index: int) -> Image.Image:
        """An image at no more than 1280 pixels; the browser asks for it and its layers at the same time."""
        with self._lock:
            return self._recent(index)

    def _read(self, index: int) -> Image.Image:
        return _shrunk(self._pool.table.image(index), PHOTO)

    def _read_small(self, index: int) -> Image.Image:
        photo = self._pool.table.image(index, OUTLINED)
        return photo.resize(fitted_size(photo, OUTLINED), Image.Resampling.LANCZOS)


def _shrunk(photo: Image.Image, longer_side: int) -> Image.Image:
    """A photo whose longer side is at most so many pixels."""
    if max(photo.size) <= longer_side:
        return photo
    return photo.resize(fitted_size(photo, longer_side), Image.Resampling.LANCZOS)


def _encoded(picture: Image.Image, kind: str, **options: int) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
