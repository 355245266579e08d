"""Progress on stderr: a bar where a person watches, one line per step elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
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


def announce(text: str) -> None:
    """Print to stderr what starts now."""
    if not _quiet.get():
        Console(stderr=True).print(text, highlight=False, soft_wrap=True)


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` while a bar on stderr shows the progress and the time left.

    Without a terminal, one line at the end says how many items took how many seconds.

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
    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        start, count = perf_counter(), 0
        for count, item in enumerate(items, 1):  # noqa: B007 (count is read after the loop)
            yield item
        console.print(f"  {description}: {count} in {perf_counter() - start:.1f} s", soft_wrap=True)
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        yield from bar.track(items, total=total, description=description)
