"""The run folder: one subfolder per stage, with a manifest that is written last.

A stage's `manifest.json` says which settings, inputs and version made the folder, and which files with which content
are in it. It appears by atomic rename after everything else is on disk, so that its existence means that the stage is
done, unless a file was damaged since.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

from slim.errors import ArtifactError, SlimWarning
from slim.files import (
    VERSION,
    Version,
    check_seal,
    file_digest,
    file_version,
    read_json,
    sync,
    sync_names,
    write_sealed,
)
from slim.runs.log import LOG
from slim.runs.outputs import MANIFEST, Output, faults, is_of_record, lost_answers, written


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
        For each stage that was read, the digest of its result.
    seconds
        Wall time of the stage.
    device
        Where it ran, for instance ``"cpu"``.
    warnings
        Warnings of the stage, which readers of its result should know.
    outputs
        The files that the stage wrote; None in a manifest that an earlier version wrote.
    """

    stage: str
    version: str
    settings: Mapping[str, Any]
    seed: int
    inputs: Mapping[str, str]
    seconds: float
    device: str
    warnings: tuple[str, ...] = ()
    outputs: Mapping[str, Output] | None = None

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Manifest:
        """A manifest from the values of its file.

        Raises
        ------
        ValueError, TypeError
            They are not those of a manifest.
        """
        wrong = [name for name, kind in _KINDS.items() if name in values and not isinstance(values[name], kind)]
        if wrong:
            raise TypeError(f"{wrong[0]} of another type")
        outputs = values.get("outputs")
        plain = {**values, "warnings": tuple(values["warnings"]) if "warnings" in values else ()}
        if outputs is not None:
            plain["outputs"] = {name: Output(**output) for name, output in outputs.items()}
        return cls(**plain)

    def digest(self) -> str:
        """What identifies the stage's result: what made it, and the content of the files that later stages read."""
        files = {name: output.digest for name, output in (self.outputs or {}).items() if is_of_record(name)}
        parts = [self.stage, self.settings, self.seed, self.inputs, files]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


_KINDS: dict[str, type | tuple[type, ...]] = {
    "stage": str,
    "version": str,
    "settings": dict,
    "seed": int,
    "inputs": dict,
    "seconds": (int, float),
    "device": str,
    "warnings": list,
    "outputs": dict,
}


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
        for text in dict.fromkeys(texts):
            LOG.warning("%s", text)
        for warning in caught:
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
        """The manifest in a stage's folder, or None where there is none that can be read.

        Raises
        ------
        ArtifactError
            Another version of SLIM made the stage.
        """
        read = self._read_manifest(name)
        return read if isinstance(read, Manifest) else None

    def _read_manifest(self, name: str) -> Manifest | str | None:
        """The manifest, or what is wrong with it; None where there is none."""
        path = self.stage(name) / MANIFEST
        return _read(path, file_version(path)) if path.exists() else None

    def faults(self, name: str, *, read: bool = False) -> dict[str, str]:
        """What has been damaged in a stage's folder since the stage was done, by the files' names.

        Parameters
        ----------
        name
            The stage's folder.
        read
            Whether to compare the content of every file, each once per process. Otherwise the files' presence and
            sizes are compared, and the content only of those that this process has read.
        """
        manifest = self._read_manifest(name)
        if isinstance(manifest, str):
            return {MANIFEST: manifest}
        if manifest is None or manifest.outputs is None:
            return {}
        return faults(self.stage(name), manifest.outputs, read=read)

    def digest(self, name: str) -> str | None:
        """What identifies a stage's current result, or None where the stage is not done."""
        manifest = self.manifest(name)
        if manifest is None:
            return None
        # Without its outputs, as the version that wrote the manifest did it.
        return file_digest(self.stage(name) / MANIFEST) if manifest.outputs is None else manifest.digest()

    @contextmanager
    def changing(self, name: str) -> Iterator[None]:
        """Let a stage's files change outside of the stage, which is not done meanwhile.

        Afterwards the stage is done again if its files are as they were, or if `writing` was called meanwhile.

        Raises
        ------
        ArtifactError
            Answers have been damaged since the stage was done.
        """
        manifest = self.stage(name) / MANIFEST
        aside = manifest.with_name(f"{MANIFEST}.partial")
        self._check_answers(name)
        before = self.manifest(name)
        outputs = None if before is None else before.outputs
        if manifest.exists():
            manifest.replace(aside)
        try:
            yield
        finally:
            unchanged = outputs is None or not faults(self.stage(name), outputs, read=True)
            if aside.exists() and not manifest.exists() and unchanged:
                aside.replace(manifest)
            aside.unlink(missing_ok=True)

    def _check_answers(self, name: str) -> None:
        """Refuse to go on with answers that have been damaged since the stage was done."""
        folder, manifest = self.stage(name), self.manifest(name)
        outputs = manifest.outputs or {} if manifest is not None else {}
        lost = lost_answers(folder, outputs)
        if lost is not None:
            fault = faults(folder, {lost: outputs[lost]}, read=True).get(lost, "has another content")
            raise ArtifactError(
                f"{folder / lost} must be as it was written, since it holds answers. Got a file that {fault}. Restore "
                f"it from a backup; or move {folder} elsewhere, run the stage again, and import its judgements.csv."
            )

    def work(self, name: str, *, keep: bool) -> Path:
        """The folder that `writing` gives to a stage."""
        return self.stage(name) if keep else self.path / f"{name}.partial"

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
        manifest is removed first, so that an interrupted stage is not done, and so is every damaged file. Everything
        is on the disk itself before the manifest appears.

        Raises
        ------
        ArtifactError
            Answers have been damaged, which are never removed.
        """
        final, folder = self.stage(name), self.work(name, keep=keep)
        if keep:
            self._check_answers(name)
            for damaged in self.faults(name, read=True):
                (folder / damaged).unlink(missing_ok=True)
            (folder / MANIFEST).unlink(missing_ok=True)
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
            outputs=written(folder),
        )
        sync(folder)
        write_sealed(folder / MANIFEST, asdict(manifest))
        sync_names(folder)
        if not keep:
            _take_place(folder, final)


@lru_cache(maxsize=256)
def _read(path: Path, version: Version) -> Manifest | str:
    """A manifest, or what is wrong with it: read once per version of the file, since states are queried often."""
    try:
        values = read_json(path)
    except ArtifactError:
        return "is no JSON"
    made_by = values.get("version") if isinstance(values, dict) else None
    if not isinstance(made_by, str):
        return "is no manifest"
    check_version(path.parent.parent, made_by)
    try:
        return Manifest.from_plain(check_seal(path, values))
    except ArtifactError:
        return "has another content"
    except (TypeError, ValueError):
        return "is no manifest"


def _take_place(new: Path, final: Path) -> None:
    """Replace the old folder by the finished one; at no moment does a part of either look finished."""
    (final / MANIFEST).unlink(missing_ok=True)
    if final.exists():
        shutil.rmtree(final)
    new.rename(final)
    sync_names(final.parent)
