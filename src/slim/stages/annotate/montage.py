"""A picture of queries: each photo beside its attention, numbered and with its class, under a grid of named cells."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from slim.overlay import fitted_size, overlay
from slim.stages.annotate.queries import Query
from slim.stages.judgements import Place

TILE = 208  # longer side of a photo, in pixels
PER_PAGE = 20

# Without C, S, U, Z and Q, which are keys for answers.
_COLUMNS, _ROWS = "ABDEFGHI", "12345678"
GRID = {
    f"{column}{row}": Place((i + 0.5) / len(_COLUMNS), (j + 0.5) / len(_ROWS))
    for i, column in enumerate(_COLUMNS)
    for j, row in enumerate(_ROWS)
}
"""The centre of each cell of the grid over a photo."""

_PAIRS_PER_ROW = 4
_GAP, _MARGIN, _LABEL, _HEADER = 4, 22, 28, 72
_NAMES = 14  # pixels for the names of the grid's columns above a photo, and of its rows to its left
_LIGHT, _DARK = (255, 255, 255, 70), (0, 0, 0, 70)
_LONGEST = 36  # letters of a class
_BOLD = ImageFont.load_default(22)
_PAPER, _INK, _QUIET, _FRAME = (255, 255, 255), (25, 25, 25), (110, 110, 110), (236, 236, 236)


def montage(queries: Sequence[Query], title: str, first_number: int = 1) -> Image.Image:
    """Draw queries as pairs of photo and attention in rows of four, with number and class; over photos lies the `GRID`.

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
        number = f"{first_number + place} "
        draw.text((left, top + _LABEL), number, _INK, _BOLD, anchor="ls")
        name = query.class_name[:_LONGEST]
        draw.text((left + _BOLD.getlength(number), top + _LABEL), name, _QUIET, ImageFont.load_default(16), anchor="ls")
        _paste_pair(page, query, left + _NAMES, top + _LABEL + _NAMES)
    return page


_LEGEND = (
    "Left: photo. Right: where the model looks, from clear (not at all) through purple and orange to yellow (most)."
)


def _cell() -> tuple[int, int]:
    """Width and height of a pair with its number and the space after it."""
    return _NAMES + 2 * TILE + _GAP + _MARGIN, TILE + _NAMES + _LABEL + _MARGIN // 2


def _paste_pair(page: Image.Image, query: Query, left: int, top: int) -> None:
    """Paste a photo and its overlay side by side, each centred in a square."""
    photo = query.photo()
    size = fitted_size(photo, TILE)
    small = photo.resize(size, Image.Resampling.LANCZOS)
    for place, picture in enumerate((_with_grid(small), overlay(photo, query.map, size))):
        x = left + place * (TILE + _GAP)
        page.paste(_FRAME, (x, top, x + TILE, top + TILE))
        page.paste(picture, (x + (TILE - size[0]) // 2, top + (TILE - size[1]) // 2))
    _name_cells(page, left + (TILE - size[0]) // 2, top + (TILE - size[1]) // 2, size)


def _with_grid(photo: Image.Image) -> Image.Image:
    """A photo under the lines of the grid, each light and dark, so that it shows on any photo."""
    lines = Image.new("RGBA", photo.size)
    draw = ImageDraw.Draw(lines)
    width, height = photo.size
    for i in range(1, len(_COLUMNS)):
        x = round(i * width / len(_COLUMNS))
        draw.line((x - 1, 0, x - 1, height), _DARK)
        draw.line((x, 0, x, height), _LIGHT)
    for j in range(1, len(_ROWS)):
        y = round(j * height / len(_ROWS))
        draw.line((0, y - 1, width, y - 1), _DARK)
        draw.line((0, y, width, y), _LIGHT)
    return Image.alpha_composite(photo.convert("RGBA"), lines).convert("RGB")


def _name_cells(page: Image.Image, left: int, top: int, size: tuple[int, int]) -> None:
    """Write the names of the columns above a photo and those of the rows to its left."""
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    for i, column in enumerate(_COLUMNS):
        draw.text((left + (i + 0.5) * size[0] / len(_COLUMNS), top - 2), column, _QUIET, font, anchor="mb")
    for j, row in enumerate(_ROWS):
        draw.text((left - 4, top + (j + 0.5) * size[1] / len(_ROWS)), row, _QUIET, font, anchor="rm")
