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


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


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
        return _digest(path) if path.exists() else None

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
        """Give a stage its folder, and write the manifest once the block has ended without an error.

        The old manifest goes first, so that whatever interrupts the stage leaves a folder that is not done.
        With `keep` the other old files stay, for a stage that resumes from them.
        """
        folder = self.stage_folder(name)
        (folder / "manifest.json").unlink(missing_ok=True)
        if folder.exists() and not keep:
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
