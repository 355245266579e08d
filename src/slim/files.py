"""Files that are either complete or absent: text and JSON written atomically, tables, and digests of their content."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim.errors import ArtifactError

if TYPE_CHECKING:
    import pandas as pd

VERSION = version("slim-vision")
NAMES = "surrogateescape"
"""How text keeps the names of files that are not in UTF-8: byte for byte."""


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: it holds either the old text or all of the new one.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> write_text(target, "whole")
    >>> target.read_text()
    'whole'
    """
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8", errors=NAMES) as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN is refused, since other readers would not accept it."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file in any Unicode encoding; for any other file, an `ArtifactError` names the fault."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path} must hold JSON. Got: {error.strerror}. Check its name.") from error
    except ValueError as error:
        place = f"at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "in its encoding"
        raise ArtifactError(
            f"{path} must hold JSON. Got a file that is invalid JSON {place}. Remove it and run the stage again."
        ) from error


def read_cells(path: Path, **options: Any) -> pd.DataFrame:
    """A CSV table with every value as text, so that an image named 007 keeps its name.

    Commas, semicolons or tabs separate values, whichever the first line has most of; a byte-order mark and spaces at
    the start of values and around the names of columns are left out.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is empty, ragged or not in UTF-8.

    Examples
    --------
    >>> import tempfile
    >>> table = Path(tempfile.mkdtemp()) / "table.csv"
    >>> write_text(table, "name; y\\na.png;1\\n")
    >>> read_cells(table).to_dict("list")
    {'name': ['a.png'], 'y': ['1']}
    """
    import pandas as pd  # here: every command imports this module, few read a table

    with path.open(encoding="utf-8-sig", errors=NAMES) as stream:
        head = stream.readline()
    options = {"sep": max(",;\t", key=head.count), "dtype": str, "keep_default_na": False, **options}
    frame: pd.DataFrame = pd.read_csv(path, encoding="utf-8-sig", skipinitialspace=True, **options)
    return frame.rename(columns=lambda name: str(name).strip())


def file_digest(path: Path) -> str:
    """What identifies a file's content: 16 hexadecimal digits.

    Examples
    --------
    >>> import tempfile
    >>> note = Path(tempfile.mkdtemp()) / "note.txt"
    >>> write_text(note, "whole")
    >>> file_digest(note)
    '5d5766cf2d787016'
    """
    now = path.stat()
    return _digest_of_version(path, now.st_mtime_ns, now.st_size)


@lru_cache(maxsize=64)
def _digest_of_version(path: Path, modified: int, size: int) -> str:
    """Computed once per version of a file: states are queried often, and checkpoints are large."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
