"""One command at a time works in a run folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slim import processes
from slim.errors import ArtifactError

if sys.platform != "win32":
    import fcntl

_held: set[int] = set()
"""Descriptors of the folders that this process holds."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made where there is none, for this process alone.

    No file is written for it: the system itself remembers who holds the folder, and forgets it when the process ends,
    however it ends. Where the system cannot, on Windows and on some network disks, nothing is held.

    Raises
    ------
    ArtifactError
        Another process, or another thread of this one, holds the folder.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with alone_in(folder):
    ...     sorted(folder.iterdir())
    []
    """
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32" or not processes.first():
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    _held.add(descriptor)
    try:
        _hold(descriptor, folder)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _hold(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ArtifactError(
            f"A run folder must be used by one command at a time. Got {folder}, which another command is using. Wait "
            "until it has ended, or stop it."
        ) from error
    except OSError:  # a disk that knows no locks
        return


def _let_go_in_child() -> None:
    """A forked worker must not hold the folder, which it would for as long as it outlives a killed parent."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_let_go_in_child)
