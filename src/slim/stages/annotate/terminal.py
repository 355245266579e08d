"""Asking a person at the terminal: pictures in a folder, one key per answer, or the cell where the object is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from slim.stages.annotate.annotator import Reply
from slim.stages.annotate.montage import GRID, PER_PAGE, montage
from slim.stages.annotate.queries import Query

KEYS: dict[str, Reply] = {
    "c": "core",
    "1": "core",
    "s": "spurious",
    "0": "spurious",
    "u": "unsure",
    " ": "unsure",
    "z": "undo",
    "q": "stop",
    **{cell.lower(): ("spurious", place) for cell, place in GRID.items()},
}
HELP = (
    "c core (on the object)   s spurious (beside it)   u unsure   z undo the last   q stop, continue later\n"
    "  or a cell of the grid, such as d5: spurious, and the object is there"
)
_COLUMNS = {cell[0].lower() for cell in GRID}


def read_key() -> str:
    """One key from a terminal, or the two that name a cell, or one line from a pipe; EOFError at the input's end."""
    if sys.stdin.isatty():
        key = click.getchar()
        if key.lower() not in _COLUMNS:
            return key
        click.echo(key.upper(), nl=False, err=True)
        return key + click.getchar()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


class TerminalAnnotator:
    """Asks a person: saves the queries as pictures of twenty each, and takes a key or a cell per answer.

    Parameters
    ----------
    folder
        Receives the pictures.
    name
        Name of the person, under which the answers are stored.
    read
        Returns the next key or cell, or raises EOFError at the end of the input; `read_key` by default.

    Notes
    -----
    Keys: c or 1 = core, s or 0 = spurious, u or space = unsure, z = undo the last, q = stop and continue later.
    A cell of the grid over the photo, such as d5, is a click on its centre: spurious, and the object is there. No
    column has the letter of an answer.
    """

    def __init__(self, folder: str | Path, name: str = "terminal", read: Callable[[], str] = read_key) -> None:
        self.folder = Path(folder)
        self.name = name
        self._read = read
        self._shown: Path | None = None

    def __repr__(self) -> str:
        return f"TerminalAnnotator({str(self.folder)!r}, name={self.name!r})"

    def answer(self, query: Query) -> Reply:
        """Ask about an image until a known key or cell is entered."""
        self._show(query)
        click.echo(f"  {query.position + 1}/{len(query.queries)} {query.class_name} > ", nl=False, err=True)
        while (key := self._key()) not in KEYS:
            click.echo(f"{key!r} is not an answer: c, s, u, z, q, or a cell such as d5 > ", nl=False, err=True)
        reply = KEYS[key]
        click.echo(f"{reply[0]}, object at {key.upper()}" if isinstance(reply, tuple) else reply, err=True)
        return reply

    def _key(self) -> str:
        key = self._read()
        return key if key == " " else key.strip().lower()

    def _show(self, query: Query) -> None:
        """Save the picture with this query and print its path, unless it is the one shown last."""
        page, n = query.position // PER_PAGE, len(query.queries)
        path = self.folder / f"queries-{page + 1}.png"
        if path == self._shown:
            return
        first = page * PER_PAGE
        queries = [query.queries[position] for position in range(first, min(first + PER_PAGE, n))]
        self.folder.mkdir(parents=True, exist_ok=True)
        montage(queries, "Does the model look at the object itself?", first + 1).save(path)
        click.echo(f"\nLook at {path.resolve()}\n  {HELP}", err=True)
        self._shown = path
