"""Errors that nobody foresaw: their traceback goes into a log, and the user sees one line."""

from __future__ import annotations

import tempfile
from pathlib import Path

from slim.runs.log import last_line, log_traceback

EXIT_CODE = 70
"""That of an internal error, as in ``sysexits.h``."""


def reported(error: Exception, folder: Path | None) -> str:
    """Write an error's traceback into a log, and say where that is, in one line.

    Parameters
    ----------
    error
        With its traceback.
    folder
        The run folder, whose log receives it if the folder exists; else one in the working folder does, or, where
        nothing can be written, one among temporary files.

    Examples
    --------
    >>> folder = Path(tempfile.mkdtemp())
    >>> reported(ZeroDivisionError("a bug"), folder).partition(" Its traceback")[0]
    'SLIM itself failed with ZeroDivisionError: a bug.'
    >>> (folder / "slim.log").read_text().splitlines()[-1]
    'ZeroDivisionError: a bug'
    """
    folders = [*([folder] if folder and folder.is_dir() else []), Path.cwd(), Path(tempfile.gettempdir())]
    path = log_traceback(error, folders)
    reason = last_line(error).rstrip(".")
    return f"SLIM itself failed with {reason}. Its traceback is in {path}. Report it with what slim doctor prints."
