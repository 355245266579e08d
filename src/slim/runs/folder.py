"""The run folder: one subfolder per stage, with a manifest that is written last.

A stage's `manifest.json` says which settings, inputs and version made the folder. It appears by atomic
rename after everything else is on disk, so that its existence means that the stage is done.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from slim.errors import ArtifactError, SlimWarning
from slim.files import VERSION, file_digest, read_json, write_json


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
        Warnings of the stage, which readers of its result should know.
    """

    stage: str
    version: str
    settings: Mapping[str, Any]
    seed: int
    inputs: Mapping[str, str]
    seconds: float
    device: str
    warnings: tuple[str, ...] = ()


def check_version(folder: Path, version: object) -> None:
    """Refuse a run that another version of SLIM made, whose records this one may misread."""
    series = VERSION.split(".")[:2]
    if str(version).split(".")[:2] != series:
        raise ArtifactError(
            f"{folder} must be a run of SLIM version {'.'.join(series)}. Got version {version}. "
            "Use a new run folder, or install that version."
        )


@contextmanager
def collecting_warnings() -> Iterator[list[str]]:
    """Collect the texts of the warnings that are meant for users, and let every warning pass as before."""
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
class RunFolder:
    """A run folder.

    Parameters
    ----------
    path
        Holds the stages' folders. It need not exist yet.
    """

    path: Path

    def stage(self, name: str) -> Path:
        """The folder of a stage, for instance ``runs/demo/02-attention``."""
        return self.path / name

    def manifest(self, name: str) -> Manifest | None:
        """The manifest in a stage's folder, or None where the stage is not done.

        Raises
        ------
        ArtifactError
            Another version of SLIM made the stage.
        """
        path = self.stage(name) / "manifest.json"
        if not path.exists():
            return None
        values = read_json(path)
        if not isinstance(values, dict) or "version" not in values:
            raise ArtifactError(f"{path} must be a manifest of SLIM. Got other JSON. Use a new run folder.")
        check_version(self.path, values["version"])
        return Manifest(**{**values, "warnings": tuple(values["warnings"])})

    def digest(self, name: str) -> str | None:
        """What identifies a stage's current result, or None where the stage is not done."""
        path = self.stage(name) / "manifest.json"
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
        """Give a stage a folder to write to, which becomes its result once the block has ended without an error.

        The result, manifest included, appears by a rename, so that an interrupted stage leaves the old result as it
        was. With `keep`, for a stage that resumes from its own files, the stage writes directly to its folder: the old
        manifest is removed first, so that an interrupted stage is not done.
        """
        final = self.stage(name)
        folder = final if keep else final.with_name(f"{name}.partial")
        if keep:
            (folder / "manifest.json").unlink(missing_ok=True)
        elif folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        start = perf_counter()
        with collecting_warnings() as texts:
            yield folder
        manifest = Manifest(
            stage=stage,
            version=VERSION,
            settings=dict(settings),
            seed=seed,
            inputs=dict(inputs),
            seconds=round(perf_counter() - start, 3),
            device=device,
            warnings=tuple(dict.fromkeys(texts)),
        )
        write_json(folder / "manifest.json", vars(manifest))
        if not keep:
            _take_place(folder, final)


def _take_place(new: Path, final: Path) -> None:
    """Replace the old folder by the finished one; at no moment does a part of either look finished."""
    (final / "manifest.json").unlink(missing_ok=True)
    if final.exists():
        shutil.rmtree(final)
    new.rename(final)
