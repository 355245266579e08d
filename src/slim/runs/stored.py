"""What a run folder holds: the record and the state of each stage, the settings, and the images it was made from.

What takes time to import is imported where it is needed, so that looking at a run does not wait for torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from slim.errors import ArtifactError, SettingsError
from slim.files import file_digest
from slim.progress import track
from slim.runs.explained import explanation_digest
from slim.runs.folder import RunFolder
from slim.runs.known_data import Versions, check_tables, recall, versions
from slim.runs.outputs import described
from slim.runs.settings import RunSettings
from slim.stages import STAGES, Stage

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from lightning_fabric.loggers.logger import Logger

    from slim.data import Dataset
    from slim.network.classifier import Classifier
    from slim.stages.annotate.annotator import Annotator
    from slim.stages.annotate.page.server import BrowserAnnotator

State = Literal["done", "stale", "damaged", "missing"]


@dataclass(frozen=True)
class StoredRun:
    """A run folder together with its settings and images.

    Parameters
    ----------
    folder
        The run folder.
    settings
        Of its stages.
    given
        The images, where they come from Python and not from ``settings.data``.
    reference
        A classifier of your own to adopt as the reference model.
    annotator
        Who answers, instead of the annotator that the settings name.
    loggers
        Loggers of Lightning Fabric for the training of the reference model.
    before
        Versions of the files that `given` was read from, before it was read.
    """

    folder: RunFolder
    settings: RunSettings
    given: Dataset | None = None
    reference: Classifier | None = None
    annotator: Annotator | BrowserAnnotator | None = None
    loggers: Sequence[Logger] = ()
    before: Versions | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.folder.path)!r})"

    @cached_property
    def data(self) -> Dataset:
        """The images.

        Raises
        ------
        SettingsError
            The settings do not name them.
        DataError
            They cannot be read, or the table that they were read from is gone.
        """
        if self.given is not None:
            return self.given
        if not self.settings.data.get("source"):
            raise SettingsError(
                f"A run needs images. Got none for {self.folder.path}. Pass --data FOLDER, or data= in Python."
            )
        from slim.data import load_dataset

        check_tables(self.folder.path, self.settings.data)
        self._before  # noqa: B018 (they are not read before their versions are)
        return load_dataset(**self.settings.data)

    @cached_property
    def _before(self) -> Versions | None:
        """Versions of the files that the images were read from, before they were read."""
        return versions(**self.settings.data) if self.given is None else self.before

    @property
    def _has_read(self) -> bool:
        """Whether the images have been read."""
        return self.given is not None or "data" in vars(self)

    @cached_property
    def _recalled(self) -> str | None:
        return recall(self.folder.path, self.settings.data)

    @property
    def _fingerprint(self) -> str:
        """That of the images, which are read for it only where their files are not as they were."""
        return (None if self._has_read else self._recalled) or self.data.fingerprint

    def stage_folder(self, verb: str) -> Path:
        """A stage's folder."""
        return self.folder.stage(STAGES[verb].folder)

    def load(self, verb: str) -> Any:
        """The record that a stage left in its folder.

        Raises
        ------
        ArtifactError
            A file of it is missing or damaged.
        """
        damaged = self.damage(verb, read=True)
        if damaged:
            raise ArtifactError(
                f"{self.stage_folder(verb)} must be as it was written. Got a folder where {damaged}. "
                f"Run: slim {verb} {self.folder.path}"
            )
        load = STAGES[verb].record.load
        # A copy: it receives the saved tensors, and the caller's own network stays unchanged.
        options: dict[str, Any] = {}
        if "module" in signature(load).parameters:
            from slim.network.sharing import independent_copy

            options["module"] = None if self.reference is None else independent_copy(self.reference.module)
        record: Any = load(self.stage_folder(verb), **options)
        return record.to(self._device()) if verb == "train" else record

    def _device(self) -> torch.device:
        """The device of the run's networks."""
        from slim.network.devices import resolve_device

        return resolve_device(self.settings["train"].device)

    def records(self, reads: str) -> dict[str, Any]:
        """The data and the records of earlier stages, by noun."""
        verbs = {stage.noun: verb for verb, stage in STAGES.items()}
        return {noun: self.data if noun == "data" else self.load(verbs[noun]) for noun in reads.split()}

    @cached_property
    def _reference_digest(self) -> str | None:
        """What identifies the caller's own classifier."""
        return None if self.reference is None else self.reference.digest()

    def to_frame(self) -> pd.DataFrame:
        """What the run knows of each image of the pool, as far as its stages are done.

        Returns
        -------
        DataFrame
            One row per image, in the order of the split: ``path``, ``y``, and what else the data say of it;
            ``prediction``, ``confidence``, ``plane_x``, ``plane_y``, ``answer``, ``annotator``, ``score``,
            ``object_area``, ``core_cluster``, ``environment_cluster``, ``kept`` and ``copies`` in the curated subset.

        Raises
        ------
        ArtifactError
            The run has no attention space yet.

        Examples
        --------
        ``slim.open_run("runs/birds").to_frame().groupby(["y", "environment_cluster"])["score"].mean()``
        """
        from slim.runs.frame import pool_frame

        return pool_frame(self)

    def inputs(self, stage: Stage) -> dict[str, str]:
        """Digests of everything that a stage reads; empty where a stage is not done."""
        digests = {verb: self.folder.digest(STAGES[verb].folder) or "" for verb in stage.before}
        if "data" in stage.reads.split():
            digests["data"] = self._fingerprint
        if stage.verb == "train" and self._reference_digest is not None:
            digests["reference"] = self._reference_digest
        if stage.verb == "report" and (explained := explanation_digest(self)) is not None:
            digests["explanation"] = explained
        training = self.settings["train"]
        weights = None if training.weights == "imagenet" else training.weights
        files = {"train": {"file": training.checkpoint, "weights": weights}}
        files["annotate"] = {"file": self.settings["annotate"].recorded}
        for name, path in files.get(stage.verb, {}).items():
            file = None if path is None else Path(path) / "model.safetensors" if Path(path).is_dir() else Path(path)
            if file is not None and file.is_file():
                digests[name] = file_digest(file)
        return digests

    def damage(self, verb: str, *, read: bool = False) -> str:
        """What has been damaged in a stage's folder since the stage was done, in one line; empty where nothing was.

        With `read`, the content of every file is compared, once per process; else what is known without reading.
        """
        return described(self.folder.faults(STAGES[verb].folder, read=read))

    def verify(self) -> dict[str, str]:
        """Read every file of the run, and compare it with what its stage wrote.

        Returns
        -------
        dict
            By stage, what is damaged; empty where nothing is.

        Examples
        --------
        ``slim.open_run("runs/birds").verify()``
        """
        verbs = track(STAGES, "reading every file of the run")
        return {verb: damage for verb in verbs if (damage := self.damage(verb, read=True))}

    def state(self, verb: str) -> State:
        """Whether a stage is done, stale (made from other settings or inputs), damaged or missing.

        A damaged stage has files that are missing or not as the stage wrote them; see `verify`.

        Raises
        ------
        ArtifactError
            Another version of SLIM made it.
        """
        return self._state(verb, {})

    def _state(self, verb: str, known: dict[str, State]) -> State:
        """The state of a stage; those that were asked for on the way are added to the known ones."""
        if verb not in known:
            known[verb] = self._found_state(verb, known)
        return known[verb]

    def _found_state(self, verb: str, known: dict[str, State]) -> State:
        """The state of a stage, from its folder."""
        stage = STAGES[verb]
        manifest = self.folder.manifest(stage.folder)
        damaged = bool(self.damage(verb))
        if manifest is None:
            return "damaged" if damaged else "missing"
        # Through JSON and back, as the manifest went.
        plain = json.loads(json.dumps(self.settings.plain(verb)))
        same = manifest.settings == plain and manifest.seed == self.settings.seed
        # An input that is gone, such as a removed checkpoint, cannot be compared and counts as unchanged.
        fresh = all(manifest.inputs.get(name) == digest for name, digest in self.inputs(stage).items())
        if not same or not fresh:
            return "stale"
        return "damaged" if damaged else "done" if self._lacking(verb, known) is None else "stale"

    def lacking(self, verb: str) -> str | None:
        """The first stage that must be done before this one, or None where nothing is missing."""
        return self._lacking(verb, {})

    def _lacking(self, verb: str, known: dict[str, State]) -> str | None:
        for read in STAGES[verb].before:
            if self._state(read, known) != "done":
                return self._lacking(read, known) or read
        return None

    def check_ready(self, verb: str) -> None:
        """Refuse a stage while one that it reads is not done.

        Raises
        ------
        ArtifactError
            The message names the command that makes the first such stage.
        """
        for before in STAGES[verb].before:
            self.damage(before, read=True)
        read = self.lacking(verb)
        if read is not None:
            state = self.state(read)
            got = "none" if state == "missing" else "one from other settings or images"
            got = f"one where {self.damage(read)}" if state == "damaged" else got
            raise ArtifactError(
                f"{self.folder.path} must have its {STAGES[read].noun} up to date before {verb}. "
                f"Got {got}. Run: slim {read} {self.folder.path}"
            )

    def status(self) -> Iterator[tuple[Stage, State, float | None]]:
        """Each stage, its state, and how many seconds it took."""
        known: dict[str, State] = {}
        for stage in STAGES.values():
            manifest = self.folder.manifest(stage.folder)
            yield stage, self._state(stage.verb, known), manifest.seconds if manifest else None
