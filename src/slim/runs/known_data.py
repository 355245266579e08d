"""Which images a run was made from, kept in ``data.json``: a look at the run need not read their table again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slim.errors import ArtifactError, DataError
from slim.files import MALFORMED, VERSION, check_seal, file_version, read_json, write_sealed

FILE = "data.json"

_ARCHIVES = (".tar", ".parquet", ".arrow")
"""Endings of files with many images in them."""

Versions = dict[str, list[int]]
"""Of files and folders, by their paths; see `slim.files.file_version`."""


def versions(source: object, mask: object = None, without: object = None, **_: object) -> Versions | None:
    """Versions of what decides which images a data set has: its tables, or the folders of its tree and its archives.

    Whether the images themselves are still there is not looked at.

    Parameters
    ----------
    source, mask, without, **_
        As for `slim.load_dataset`, whose other arguments change nothing here.

    Returns
    -------
    dict or None
        None where this cannot be said from files: for a DataFrame, a benchmark by its name, a tree with links.
    """
    if not isinstance(source, str | Path) or not Path(source).exists():
        return None
    path = Path(source).absolute()
    table = path / "metadata.csv" if path.is_dir() else path
    parts = [table, table.with_name("boxes.csv")] if table.exists() else _folders(path)
    if not parts:
        return None
    parts += [
        Path(file).absolute() for file in (mask, without) if isinstance(file, str | Path) and Path(file).is_file()
    ]
    return {str(part): list(file_version(part)) for part in parts if part.exists()}


def _folders(root: Path) -> list[Path]:
    """A folder, those in it, whose versions change with the names in them, and archives; empty where one is a link."""
    found: list[Path] = []
    for folder, inner, files in os.walk(root):
        found += [Path(folder), *(Path(folder, name) for name in files if name.endswith(_ARCHIVES))]
        if any(os.path.islink(os.path.join(folder, name)) for name in inner):
            return []
    return found


def remember(folder: Path, source: Mapping[str, Any], before: Versions | None, fingerprint: str) -> None:
    """Keep the fingerprint of images in a run folder, with the versions before they were read."""
    if before is not None:
        write_sealed(folder / FILE, _fact(source, before, fingerprint))


def check_tables(folder: Path, source: Mapping[str, Any]) -> None:
    """Refuse to read the images of a run again whose table is gone: its folder would be taken for a tree of classes.

    Raises
    ------
    DataError
        The message names the table.
    """
    try:
        kept = check_seal(folder / FILE, read_json(folder / FILE))
        tables = [
            Path(file) for file in kept["files"] if file.endswith("metadata.csv") and kept["data"] == dict(source)
        ]
    except (ArtifactError, *MALFORMED):  # it is missing or damaged, and no loss
        return
    for table in tables:
        if table.parent.exists() and not table.exists():
            raise DataError(
                f"The table that a run was made from must stay where it was. Got none at {table}. Put it back, or use "
                "a new run folder for other images."
            )


def recall(folder: Path, source: Mapping[str, Any]) -> str | None:
    """The fingerprint that `remember` kept, if what decides which images there are is as it was; else None.

    Examples
    --------
    >>> import tempfile
    >>> run = Path(tempfile.mkdtemp())
    >>> table = run / "table.csv"
    >>> _ = table.write_text("filename,y")
    >>> source = {"source": str(table)}
    >>> remember(run, source, versions(table), "0123456789abcdef")
    >>> recall(run, source)
    '0123456789abcdef'
    >>> _ = table.write_text("filename,y,split")
    >>> recall(run, source) is None
    True
    """
    path = folder / FILE
    try:
        kept = check_seal(path, read_json(path))
    except (ArtifactError, AttributeError):  # it is missing or damaged, and no loss
        return None
    fingerprint, now = kept.get("fingerprint"), versions(**source)
    return fingerprint if now is not None and kept == _fact(source, now, fingerprint) else None


def _fact(source: Mapping[str, Any], files: Versions, fingerprint: Any) -> dict[str, Any]:
    return {"version": VERSION, "data": dict(source), "files": files, "fingerprint": fingerprint}
