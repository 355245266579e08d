"""Progress on stderr: a bar where a person watches, one line per step elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from importlib.util import find_spec
from time import perf_counter
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")

_SHORT, _FIRST_LINE, _NEXT_LINE = 2.0, 10.0, 30.0
"""Without a terminal: seconds up to which nothing is said, until the first line, and from one line to the next."""

_quiet: ContextVar[bool] = ContextVar("slim_progress_quiet", default=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence every progress bar within the block.

    Examples
    --------
    >>> with quiet():
    ...     list(track([1, 2], "counting"))
    [1, 2]
    """
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def is_quiet() -> bool:
    """Whether nothing is said."""
    return _quiet.get()


def announce(text: str) -> None:
    """Print to stderr what starts now."""
    if not _quiet.get():
        _stderr().print(text, highlight=False, soft_wrap=True)


def _stderr() -> Console:
    """The console of progress; in a notebook, rich's bars need ipywidgets, and lines are printed without it."""
    console = Console(stderr=True, markup=False)  # a folder may be called birds[v2]
    if console.is_jupyter and not find_spec("ipywidgets"):
        # Not even colours: kernels set FORCE_COLOR, which rich takes for a terminal.
        return Console(stderr=True, markup=False, force_jupyter=False, force_terminal=False)
    return console


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` while a bar on stderr shows the progress and the time left.

    Without a terminal, and in a notebook without ipywidgets, a line every half minute says how far it is and how long
    the rest will take, and one at the end how many items took how many seconds, if that was more than two.

    Parameters
    ----------
    items
        What to iterate over.
    description
        What is happening, in a few words that a newcomer understands.
    total
        Number of items; taken from ``len(items)`` where it has one.
    """
    if _quiet.get():
        yield from items
        return
    if total is None and isinstance(items, Sized):
        total = len(items)
    console = _stderr()
    watched = console.is_terminal and console.file.isatty()  # FORCE_COLOR makes a terminal of a file
    if not (watched or console.is_jupyter):
        yield from _in_lines(items, description, total, console)
        return
    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        yield from bar.track(items, total=total, description=description)


def _in_lines(items: Iterable[T], description: str, total: int | None, console: Console) -> Iterator[T]:
    """Yield `items` and print lines, the first of them after ten seconds."""
    start, count = perf_counter(), 0
    due = start + _FIRST_LINE
    for count, item in enumerate(items, 1):
        yield item
        now = perf_counter()
        if now >= due and count != total:
            due = now + _NEXT_LINE
            left = "" if total is None else f" of {total}, about {remaining(now - start, count, total)} left"
            console.print(f"  {description}: {count}{left}", soft_wrap=True, highlight=False)
    seconds = perf_counter() - start
    if seconds >= _SHORT:
        console.print(f"  {description}: {count} in {seconds:.1f} s", soft_wrap=True, highlight=False)


def remaining(seconds: float, count: int, total: int) -> str:
    """How long the rest of some items will take, if they take as long as the first of them did.

    Parameters
    ----------
    seconds
        What the first `count` items took.
    count, total
        Number of items that are done, at least 1, and of all.

    Examples
    --------
    >>> remaining(10, 5, 20), remaining(60, 1, 61)
    ('0:00:30', '1:00:00')
    """
    return str(timedelta(seconds=round(seconds / count * (total - count))))
