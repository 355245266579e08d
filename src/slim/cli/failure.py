"""Errors that nobody foresaw: their traceback goes into a file, and the user sees one line."""

from __future__ import annotations

import platform
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from slim.files import NAMES, VERSION

FILE = "slim-error.log"
EXIT_CODE = 70
"""That of an internal error, as in ``sysexits.h``."""

_MAX_BYTES = 1_000_000


def reported(error: Exception, folder: Path | None) -> str:
    """Write an error's traceback into a file, and say where that is, in one line.

    Parameters
    ----------
    error
        With its traceback.
    folder
        The run folder, which receives the file if it exists; else the working folder does, or, where nothing can be
        written, one for temporary files.

    Examples
    --------
    >>> folder = Path(tempfile.mkdtemp())
    >>> reported(ZeroDivisionError("a bug"), folder).partition(" Its traceback")[0]
    'SLIM itself failed with ZeroDivisionError: a bug.'
    >>> (folder / FILE).read_text().splitlines()[-1]
    'ZeroDivisionError: a bug'
    """
    lines = traceback.format_exception(error)
    head = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} slim {VERSION}, Python {platform.python_version()}\n"
    path = _kept(head + "".join(lines), [*([folder] if folder and folder.is_dir() else []), Path.cwd()])
    reason = " ".join(traceback.format_exception_only(error)[-1].split()).rstrip(".")
    return f"SLIM itself failed with {reason}. Its traceback is in {path}. Report it with what slim doctor prints."


def _kept(text: str, folders: list[Path]) -> Path:
    """Append the text to the file in the first folder that can be written to; a long file makes way for a new one."""
    for folder in [*folders, Path(tempfile.gettempdir())]:
        path = folder / FILE
        try:
            if path.exists() and path.stat().st_size > _MAX_BYTES:
                path.replace(path.with_name(f"{FILE}.1"))
            with path.open("a", encoding="utf-8", errors=NAMES) as stream:
                stream.write(text)
        except OSError:
            continue
        return path
    return Path(FILE)
