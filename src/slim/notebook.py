"""Pictures and tables in notebooks."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from slim.pages import data_uri

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image


def in_notebook() -> bool:
    """Whether this runs in a notebook, which shows pages and pictures below the cell."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    # Those of Colab and others are derived from it.
    return any(base.__name__ == "ZMQInteractiveShell" for base in type(get_ipython()).__mro__)


def show(picture: Image.Image) -> None:
    """Show a picture: in a notebook below the cell, elsewhere in the system's viewer."""
    if in_notebook():
        from IPython.display import display

        display(picture)
    else:
        picture.show()


def picture_html(picture: Image.Image, description: str) -> str:
    """A picture as HTML that holds it."""
    address = data_uri(picture)  # a notebook keeps it, and PNG would be five times larger
    return f'<img src="{address}" alt="{escape(description)}" style="max-width:100%">'


def table_html(frame: pd.DataFrame, title: str, rows: int = 20) -> str:
    """A table as HTML under a title, its texts escaped; it only counts rows beyond the first.

    Examples
    --------
    >>> import pandas as pd
    >>> html = table_html(pd.DataFrame({"class": ["<b>"], "score": [0.123456]}), "Scores")
    >>> "&lt;b&gt;" in html, "0.123" in html, "0.1234" in html
    (True, True, False)
    """
    shown = frame.head(rows).to_html(index=False, border=0, na_rep="–", float_format="{:.3f}".format)
    more = f"<p>and {len(frame) - rows:,} more rows</p>" if len(frame) > rows else ""
    return f"<p><b>{escape(title)}</b></p>{shown}{more}"
