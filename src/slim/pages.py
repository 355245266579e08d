"""What HTML pages share: templates in which every text is escaped, and pictures as addresses that hold them."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jinja2 import Environment
    from PIL import Image


def templates(package: str) -> Environment:
    """The templates of a package, from its folder ``templates``."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # here: notebooks show pictures without templates

    return Environment(
        loader=PackageLoader(package), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def data_uri(image: Image.Image, kind: Literal["JPEG", "PNG"] = "JPEG") -> str:
    """An image as an address that holds it.

    Examples
    --------
    >>> from PIL import Image
    >>> data_uri(Image.new("RGB", (2, 2)), "PNG")[:30]
    'data:image/png;base64,iVBORw0K'
    """
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=85, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
