"""The log of a run, ``slim.log`` in its folder: commands, starts and ends of stages, warnings and errors.

It belongs to no stage. It names no folder but by what it is to the run, so that it can be shown to others.
"""

from __future__ import annotations

import logging
import platform
import re
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from logging.handlers import RotatingFileHandler
from pathlib import Path

from slim import processes
from slim.errors import SlimError
from slim.files import NAMES, VERSION, read_json

FILE = "slim.log"
LOG = logging.getLogger("slim")
LOG.addHandler(logging.NullHandler())  # else Python prints warnings where there is no log

command: ContextVar[str] = ContextVar("slim_command", default="called from Python")
"""What the user called."""

_MAX_BYTES, _OLDER = 1_000_000, 2
_FOLDERS = re.compile(r"(?<![\w~.:/\\…])(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\]+)+[/\\]")


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Write what is logged within the block to a run's log; of several processes, the first does it.

    A log that cannot be written is left out: it is no reason to stop.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with logged(folder):
    ...     LOG.info("embed started")
    >>> (folder / FILE).read_text().splitlines()[1].partition("Z ")[2]
    'INFO    embed started'
    """
    handler = _handler(folder) if processes.first() else None
    if handler is None:
        yield
        return
    level = LOG.level
    LOG.setLevel(logging.INFO)
    LOG.addHandler(handler)
    LOG.info("%s: %s", _versions(), command.get())
    try:
        yield
    except BaseException as error:
        LOG.error("stopped by %s", last_line(error))
        raise
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
        handler.close()


def log_traceback(error: Exception, folders: Iterable[Path]) -> Path:
    """Write an error's traceback to the log in the first of some folders that can be written to.

    Of several processes, each has a file of its own for it.

    Returns
    -------
    Path
        The file.
    """
    name = FILE if processes.first() else f"slim.{processes.number()}.log"
    for folder in folders:
        handler = _handler(folder, name)
        if handler is None:
            continue
        text = f"{_versions()}: {command.get()}"
        where = (type(error), error, error.__traceback__)
        handler.handle(logging.LogRecord("slim", logging.ERROR, __file__, 0, text, None, where))
        handler.close()
        if not handler.failed:
            break
    return folder / name


def last_line(error: BaseException) -> str:
    """An error's type and message, in one line."""
    return " ".join(traceback.format_exception_only(error)[-1].split())


class _Handler(RotatingFileHandler):
    """Writes to a file of limited size, and never fails."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (named by logging)
        self.failed = True

    def close(self) -> None:
        with suppress(OSError):  # such as a full disk
            super().close()


class _Formatter(logging.Formatter):
    """Lines without names of folders; those of the code stay, below the user's own folder."""

    converter = staticmethod(time.gmtime)

    def __init__(self, names: dict[str, str]) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self.names = names

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(self._private(line) for line in super().format(record).splitlines())

    def _private(self, line: str) -> str:
        for folder, name in self.names.items():
            line = re.sub(rf"{re.escape(folder)}(?![^\s/\\.,:;'\")])", name, line)
        return line if line.startswith('  File "') else _FOLDERS.sub("…/", line)


def _handler(folder: Path, name: str = FILE) -> _Handler | None:
    """A handler for a log; None where it cannot be written."""
    try:
        handler = _Handler(folder / name, maxBytes=_MAX_BYTES, backupCount=_OLDER, encoding="utf-8", errors=NAMES)
    except OSError:
        return None
    handler.setFormatter(_Formatter(_names(folder)))
    return handler


def _names(folder: Path) -> dict[str, str]:
    """What the log calls some folders, the innermost first."""
    names = {str(folder.absolute()): "RUN", str(Path.home()): "~"}
    with suppress(SlimError, AttributeError, KeyError, TypeError):
        source = read_json(folder / "settings.json")["data"]["source"]
        if Path(source).is_absolute():
            names[str(source)] = "DATA"
    return dict(sorted(names.items(), key=lambda item: -len(item[0])))


def _versions() -> str:
    return f"slim {VERSION}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
