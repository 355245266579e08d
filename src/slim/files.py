"""Files that are either complete or absent: text and JSON written atomically, and digests of their content."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from slim.errors import ArtifactError

VERSION = version("slim-vision")


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
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN is refused, since other readers would not accept it."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; for one that does not parse, the `ArtifactError` names file and line."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ArtifactError(
            f"{path} must hold JSON. Got a file that is invalid JSON at line {error.lineno}. "
            "Remove it and run the stage again."
        ) from error


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
