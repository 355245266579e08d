"""Photos and maps as the page gets them: fitted, without the file's own notes, and only those of the pool."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image

from slim.annotation.session import Pool
from slim.overlay import fitted_size

PHOTO, THUMBNAIL = 1280, 256  # pixels of the longer side


class Pictures:
    """The pictures of a pool; what was asked for lately is kept in memory.

    Parameters
    ----------
    pool
        Whose pictures.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._kept = lru_cache(maxsize=512)(self._jpeg)

    def photo(self, index: int, *, small: bool = False) -> bytes:
        """An image as JPEG, at most 1280 pixels wide or high, or 256 where `small`; never larger than it is.

        Raises
        ------
        DataError
            The file cannot be read.
        """
        return self._kept(index, THUMBNAIL if small else PHOTO)

    def map(self, index: int) -> bytes:
        """An attention map, h * w bytes from 0 to 255, row by row."""
        levels = np.asarray(self._pool.maps[index], dtype=np.float32)
        return (levels.clip(0, 1) * 255).round().astype(np.uint8).tobytes()

    def _jpeg(self, index: int, longer_side: int) -> bytes:
        photo = self._pool.table.image(index)
        if max(photo.size) > longer_side:
            photo = photo.resize(fitted_size(photo, longer_side), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        photo.save(buffer, "JPEG", quality=90)
        return buffer.getvalue()
