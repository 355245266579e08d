"""Asking a person at the terminal: pictures in a folder, one key per answer."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import click

from slim.stages.annotate.annotator import Reply
from slim.stages.annotate.montage import PER_PAGE, montage
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
}
HELP = "c core (on the object)   s spurious (beside it)   u unsure   z undo the last   q stop, continue later"


def read_key() -> str:
    """One key from a terminal, or one line from a pipe; EOFError at the end of the input."""
    if sys.stdin.isatty():
        return click.getchar()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


class TerminalAnnotator:
    """Asks a person: saves the queries of each class as numbered pictures, and takes one key per answer.

    Parameters
    ----------
    folder
        Receives the pictures.
    name
        Name of the person, under which the answers are stored.
    read
        Returns the next key, or raises EOFError at the end of the input; `read_key` by default.

    Notes
    -----
    Keys: c or 1 = core, s or 0 = spurious, u or space = unsure, z = undo the last, q = stop and continue later.
    """

    def __init__(self, folder: str | Path, name: str = "terminal", read: Callable[[], str] = read_key) -> None:
        self.folder = Path(folder)
        self.name = name
        self._read = read
        self._shown: Path | None = None

    def __repr__(self) -> str:
        return f"TerminalAnnotator({str(self.folder)!r}, name={self.name!r})"

    def answer(self, query: Query) -> Reply:
        """Ask about an image until a known key is pressed."""
        siblings = query.queries.of_class(query.y)
        place = query.position - siblings[0].position
        self._show(query, siblings, place)
        click.echo(f"  {query.class_name} {place + 1}/{len(siblings)} > ", nl=False, err=True)
        while (key := self._key()) not in KEYS:
            click.echo(f"{key!r} is not an answer: c, s, u, z or q > ", nl=False, err=True)
        reply = KEYS[key]
        click.echo(reply, err=True)
        return reply

    def _key(self) -> str:
        key = self._read()
        return key if key == " " else key.strip().lower()

    def _show(self, query: Query, siblings: list[Query], place: int) -> None:
        """Save the picture with this query and print its path, unless it is the one shown last."""
        page = place // PER_PAGE
        name = re.sub(r"[^\w-]+", "_", query.class_name)  # a class may be called "n/a"
        path = self.folder / f"{query.y}-{name}-{page + 1}.png"
        if path == self._shown:
            return
        first = page * PER_PAGE
        title = f"{query.class_name}: does the model look at the object itself?"
        self.folder.mkdir(parents=True, exist_ok=True)
        montage(siblings[first : first + PER_PAGE], title, first + 1).save(path)
        click.echo(f"\nLook at {path.resolve()}\n  {HELP}", err=True)
        self._shown = path
