"""A picture of queries: each photo beside its attention, numbered."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from slim.overlay import fitted_size, overlay
from slim.stages.annotate.queries import Query

TILE = 208  # longer side of a photo, in pixels
PER_PAGE = 20

_PAIRS_PER_ROW = 4
_GAP, _MARGIN, _LABEL, _HEADER = 4, 22, 28, 72
_PAPER, _INK, _QUIET, _FRAME = (255, 255, 255), (25, 25, 25), (110, 110, 110), (236, 236, 236)


def montage(queries: Sequence[Query], title: str, first_number: int = 1) -> Image.Image:
    """Draw queries as pairs of photo and attention, numbered, in rows of four.

    Parameters
    ----------
    queries
        At most `PER_PAGE` stay readable.
    title
        Heading of the picture.
    first_number
        Number of the first pair.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    columns = min(_PAIRS_PER_ROW, len(queries))
    rows = -(-len(queries) // columns)
    width, height = _cell()
    page = Image.new("RGB", (max(_MARGIN + columns * width, 640), _HEADER + rows * height), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, 12), title, _INK, ImageFont.load_default(24))
    draw.text((_MARGIN, 44), _LEGEND, _QUIET, ImageFont.load_default(14))
    for place, query in enumerate(queries):
        left, top = _MARGIN + place % columns * width, _HEADER + place // columns * height
        draw.text((left, top + 2), f"{first_number + place}", _INK, ImageFont.load_default(22))
        _paste_pair(page, query, left, top + _LABEL)
    return page


_LEGEND = (
    "Left: photo. Right: where the model looks, from clear (not at all) through purple and orange to yellow (most)."
)


def _cell() -> tuple[int, int]:
    """Width and height of a pair with its number and the space after it."""
    return 2 * TILE + _GAP + _MARGIN, TILE + _LABEL + _MARGIN // 2


def _paste_pair(page: Image.Image, query: Query, left: int, top: int) -> None:
    """Paste a photo and its overlay side by side, each centred in a square."""
    photo = query.photo()
    size = fitted_size(photo, TILE)
    for place, picture in enumerate((photo.resize(size, Image.Resampling.LANCZOS), overlay(photo, query.map, size))):
        x = left + place * (TILE + _GAP)
        page.paste(_FRAME, (x, top, x + TILE, top + TILE))
        page.paste(picture, (x + (TILE - size[0]) // 2, top + (TILE - size[1]) // 2))
