"""The run folder: one subfolder a stage, a manifest in each, written last.

A stage's `manifest.json` says which settings, inputs and version made the folder. It appears by atomic
rename after everything else is on disk, so that its existence means that the stage is done.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from slim.errors import ArtifactError, SlimWarning

VERSION = version("slim-vision")


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either the old one or the whole new one, never a part.

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
    """Write JSON atomically; NaN is refused, since no other reader would take it."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; one that does not parse is an `ArtifactError` that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ArtifactError(
            f"{path} must hold JSON. Got a file that stops making sense at line {error.lineno}. "
            "Remove it and run the stage again."
        ) from error


@dataclass(frozen=True)
class Manifest:
    """What made a stage's folder.

    Attributes
    ----------
    stage
        The stage's verb, for instance ``"attend"``.
    version
        The version of SLIM that wrote it.
    settings
        The stage's settings as plain values.
    seed
        The run's seed.
    inputs
        For each stage that was read, the digest of its manifest.
    seconds
        Wall time of the stage.
    device
        Where it ran, for instance ``"cpu"``.
    warnings
        What the stage warned of; whoever reads its result should know.
    """

    stage: str
    version: str
    settings: Mapping[str, Any]
    seed: int
    inputs: Mapping[str, str]
    seconds: float
    device: str
    warnings: tuple[str, ...] = ()


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
    """Read once as long as the file stays as it is: states are asked for often, and checkpoints are large."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _same_version(made_by: str) -> bool:
    return made_by.split(".")[:2] == VERSION.split(".")[:2]


@contextmanager
def _collecting() -> Iterator[list[str]]:
    """Note the texts of the warnings that users are meant to see, and let every warning pass as before."""
    texts: list[str] = []
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SlimWarning)
            yield texts
    finally:  # after an error too, which they may explain
        for warning in caught:
            if issubclass(warning.category, SlimWarning):
                texts.append(str(warning.message))
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


@dataclass(frozen=True)
class Run:
    """A run folder.

    Parameters
    ----------
    folder
        Where the stages' folders lie. It need not exist yet.
    """

    folder: Path

    def stage_folder(self, name: str) -> Path:
        """The folder of a stage, for instance ``runs/demo/2-attention``."""
        return self.folder / name

    def manifest(self, name: str) -> Manifest | None:
        """The manifest in a stage's folder, or None where the stage is not done.

        Raises
        ------
        ArtifactError
            Another version of SLIM, whose artifacts this one may misread, made the stage.
        """
        path = self.stage_folder(name) / "manifest.json"
        if not path.exists():
            return None
        values = read_json(path)
        if not isinstance(values, dict) or "version" not in values:
            raise ArtifactError(f"{path} must be a manifest of SLIM. Got something else. Use another run folder.")
        if not _same_version(values["version"]):
            raise ArtifactError(
                f"{self.folder} must be made by SLIM {'.'.join(VERSION.split('.')[:2])}.x to be read by it. "
                f"Got a run of version {values['version']}. Use a new run folder, or install that version."
            )
        return Manifest(**{**values, "warnings": tuple(values["warnings"])})

    def digest(self, name: str) -> str | None:
        """What identifies a stage's present result, or None where the stage is not done."""
        path = self.stage_folder(name) / "manifest.json"
        return file_digest(path) if path.exists() else None

    @contextmanager
    def writing(
        self,
        name: str,
        stage: str,
        *,
        settings: Mapping[str, Any],
        seed: int,
        inputs: Mapping[str, str],
        device: str = "cpu",
        keep: bool = False,
    ) -> Iterator[Path]:
        """Give a stage a folder to write in, and make it the stage's result once the block has ended without an error.

        The result appears by a rename, its manifest inside, so that whatever interrupts the stage leaves the old
        result as it was. With `keep`, for a stage that resumes from its own files, the stage writes into its folder
        itself: the old manifest goes first, and an interrupted stage is not done.
        """
        final = self.stage_folder(name)
        folder = final if keep else final.with_name(f"{name}.partial")
        if keep:
            (folder / "manifest.json").unlink(missing_ok=True)
        elif folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        start = perf_counter()
        with _collecting() as heard:
            yield folder
        manifest = Manifest(
            stage=stage,
            version=VERSION,
            settings=dict(settings),
            seed=seed,
            inputs=dict(inputs),
            seconds=round(perf_counter() - start, 3),
            device=device,
            warnings=tuple(heard),
        )
        write_json(folder / "manifest.json", vars(manifest))
        if not keep:
            _take_place(folder, final)


def _take_place(new: Path, final: Path) -> None:
    """Put a finished folder where an old one may be; at no moment does a part of either look finished."""
    (final / "manifest.json").unlink(missing_ok=True)
    if final.exists():
        shutil.rmtree(final)
    new.rename(final)
