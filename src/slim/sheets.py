"""Pictures side by side under their titles, with a line of text, and several such rows as one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_GAP, _MARGIN = 6, 10
_LINE = 22  # pixels of a line of text
_PAPER, _INK, _QUIET = (255, 255, 255), (25, 25, 25), (110, 110, 110)


def row(panels: Sequence[tuple[str, Image.Image]], caption: str) -> Image.Image:
    """Pictures of one height side by side, each under its title, all under a caption.

    Parameters
    ----------
    panels
        Title and picture of each.
    caption
        A line of text; what does not fit in is cut off.

    Returns
    -------
    PIL.Image.Image
        RGB.

    Examples
    --------
    >>> grey = Image.new("RGB", (100, 80), "grey")
    >>> row([("photo", grey), ("attention", grey)], "cat").size
    (226, 144)
    """
    width = 2 * _MARGIN + sum(picture.width for _, picture in panels) + _GAP * (len(panels) - 1)
    height = 2 * _MARGIN + 2 * _LINE + max(picture.height for _, picture in panels)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), shortened(caption, width - 2 * _MARGIN), _INK, _font(14))
    left = _MARGIN
    for title, picture in panels:
        draw.text((left, _MARGIN + _LINE), shortened(title, picture.width, 12), _QUIET, _font(12))
        sheet.paste(picture, (left, _MARGIN + 2 * _LINE))
        left += picture.width + _GAP
    return sheet


def stacked(rows: Sequence[Image.Image], columns: int = 1) -> Image.Image:
    """Rows as one sheet, in columns, on white.

    Examples
    --------
    >>> stacked([Image.new("RGB", (20, 10)), Image.new("RGB", (30, 10))]).size
    (30, 20)
    """
    columns = min(columns, len(rows))
    width = max(one.width for one in rows)
    lines = [rows[start : start + columns] for start in range(0, len(rows), columns)]
    heights = [max(one.height for one in line) for line in lines]
    sheet = Image.new("RGB", (columns * width, sum(heights)), _PAPER)
    for i, line in enumerate(lines):
        for j, one in enumerate(line):
            sheet.paste(one, (j * width, sum(heights[:i])))
    return sheet


def shortened(text: str, width: int, size: int = 14) -> str:
    """A text in one line that is at most so many pixels wide.

    Examples
    --------
    >>> shortened("cat", 200), shortened("a long name of a class", 80)
    ('cat', 'a long na…')
    """
    text = " ".join(text.split())
    if _font(size).getlength(text) <= width:
        return text
    while text and _font(size).getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu, which matplotlib ships: it has letters beyond the Latin ones."""
    import matplotlib  # here: most commands that read this module draw nothing

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)
