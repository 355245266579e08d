"""Runs: the stages in a folder; each is done once, and again only after its settings or inputs have changed.

What takes time to import is imported where it is needed, so that looking at a run does not wait for torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from slim import processes
from slim.errors import ArtifactError, SettingsError, SlimError
from slim.files import file_digest, write_text
from slim.progress import announce, track
from slim.runs.explained import explanation_digest, load_explanation
from slim.runs.folder import RunFolder
from slim.runs.known_data import Versions, recall, remember, versions
from slim.runs.lock import alone_in
from slim.runs.outputs import described
from slim.runs.settings import FILE, Overrides, RunSettings, read_recipe
from slim.stages import STAGES, Stage

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from lightning_fabric.loggers.logger import Logger

    from slim.data import Dataset
    from slim.network.classifier import Classifier
    from slim.stages.annotate.annotator import Annotator
    from slim.stages.annotate.page.server import BrowserAnnotator
    from slim.stages.report.records import RunFacts

State = Literal["done", "stale", "damaged", "missing"]
BadImages = Literal["stop", "skip"]


@dataclass(frozen=True)
class Run:
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
        """
        if self.given is not None:
            return self.given
        if not self.settings.data.get("source"):
            raise SettingsError(
                f"A run needs images. Got none for {self.folder.path}. Pass --data FOLDER, or data= in Python."
            )
        from slim.data import load_dataset

        self._before  # noqa: B018 (they are not read before their versions are)
        return load_dataset(**self.settings.data)

    @cached_property
    def _before(self) -> Versions | None:
        """Versions of the files that the images were read from, before they were read."""
        return versions(self.settings.data.get("source")) if self.given is None else self.before

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

    def _save(self) -> None:
        """Save the settings, and which images they are about; of several processes, the first does it."""
        if not processes.first():
            return
        self.settings.save(self.folder.path)
        if self._has_read:
            remember(self.folder.path, self.settings.data, self._before, self.data.fingerprint)

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

    def _context(self, folder: Path) -> dict[str, Any]:
        """What stages may use besides records and their own settings."""
        return {
            "seed": self.settings.seed,
            "folder": folder,
            "reference": self.reference,
            "annotator": self.annotator,
            "loggers": self.loggers,
            "training": self.settings["train"],
            "propagation": self.settings["propagate"],
            "facts": self._facts(),
        }

    def _facts(self) -> RunFacts:
        """What the report says about the run itself."""
        from slim.stages.report.records import RunFacts

        manifests = {verb: self.folder.manifest(stage.folder) for verb, stage in STAGES.items()}
        done = {verb: manifest for verb, manifest in manifests.items() if manifest is not None}
        return RunFacts(
            title=self.folder.path.name,
            seed=self.settings.seed,
            settings={verb: self.settings[verb] for verb in STAGES},
            seconds={verb: manifest.seconds for verb, manifest in done.items()},
            warnings=list(dict.fromkeys(text for manifest in done.values() for text in manifest.warnings)),
            explanation=load_explanation(self),
        )

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
        files = {"train": self.settings["train"].checkpoint, "annotate": self.settings["annotate"].recorded}
        path = files.get(stage.verb)
        file = None if path is None else Path(path) / "model.safetensors" if Path(path).is_dir() else Path(path)
        if file is not None and file.is_file():
            digests["file"] = file_digest(file)
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

    def stage(self, verb: str) -> bool:
        """Run one stage, unless it is done already.

        Returns
        -------
        bool
            Whether there was anything to do.

        Raises
        ------
        ArtifactError
            A stage that it reads is not done, or another command is at work in the folder.
        """
        with alone_in(self.folder.path):
            return self._make(verb)

    def _make(self, verb: str) -> bool:
        """Run one stage, unless it is done already, in a folder that is held."""
        if not processes.agreed(processes.first() and self._is_to_do(verb)):
            return False
        stage = STAGES[verb]
        if processes.first():
            with self._writing(verb) as folder, nullcontext() if stage.shared else processes.alone():
                self._work(stage, folder).save(folder)
        elif stage.shared:
            self._work(stage, self.folder.work(stage.folder, keep=stage.resumes))
        processes.wait()
        return True

    def _is_to_do(self, verb: str) -> bool:
        """Whether a stage is to be run; refused where it cannot be."""
        self.damage(verb, read=True)  # its state then tells what was found
        self.check_ready(verb)
        if self.state(verb) != "done":
            return True
        self._save()
        return False

    def _work(self, stage: Stage, folder: Path) -> Any:
        """A stage's record, by its function."""
        processes.wait()  # until the folder is there
        return stage(self.records(stage.reads), self.settings[stage.verb], self._context(folder))

    def replace(self, verb: str, record: Any) -> None:
        """Make a record that came from elsewhere the result of a stage, in a folder that is held."""
        with self._writing(verb) as folder:
            record.save(folder)

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

    @contextmanager
    def _writing(self, verb: str) -> Iterator[Path]:
        """A folder that becomes a stage's result once the block has ended without an error."""
        stage = STAGES[verb]
        on_device = verb == "train" or "reference" in stage.reads
        if "data" in stage.reads.split():
            self.data  # noqa: B018 (the manifest tells of the images that are read now)
        with (
            self._keeping_settings(),
            self.folder.writing(
                stage.folder,
                verb,
                settings=self.settings.plain(verb),
                seed=self.settings.seed,
                inputs=self.inputs(stage),
                device=str(self._device()) if on_device else "cpu",
                # An interrupted training continues, and no answer is ever thrown away.
                keep=stage.resumes,
            ) as folder,
        ):
            yield folder

    @contextmanager
    def _keeping_settings(self) -> Iterator[None]:
        """Save the settings with the run; where they turn out to be a mistake, restore the earlier ones."""
        path = self.folder.path / FILE
        before = path.read_text(encoding="utf-8") if path.exists() else None
        self._save()
        try:
            yield
        except SlimError:
            if before is not None:
                write_text(path, before)
            raise

    def all_stages(self, bad_images: BadImages = "stop") -> None:
        """Read what is there, run every stage that is not done, and announce it.

        Parameters
        ----------
        bad_images
            What to do about images that cannot be read, or whose mask or box does not fit, which are looked for first:
            "stop", or "skip" them. Either way they are listed in ``bad-images.csv``.

        Raises
        ------
        ArtifactError
            Another command is at work in the folder.
        DataError
            There are such images, and they are not skipped.
        """
        with alone_in(self.folder.path):
            self._make_all(bad_images)

    def _usable(self, bad_images: BadImages) -> Run:
        """The run without images that cannot be used; of several processes, the first looks for them."""
        without = None
        if processes.first() and self.state("report") != "done":
            from slim.runs.foresight import with_usable_images

            data = with_usable_images(self.data, self.folder.path, bad_images)
            without = None if data is self.data else data.source["without"]
        without = processes.agreed(without)
        if without is None:
            return self
        from slim.data import load_dataset

        data = load_dataset(**{**self.data.source, "without": without})
        return replace(self, given=data, settings=replace(self.settings, data=dict(data.source)))

    def _make_all(self, bad_images: BadImages) -> None:
        """Run every stage that is not done, in a folder that is held."""
        self.verify()
        usable = self._usable(bad_images)
        if usable is not self:
            return usable._make_all("stop")
        if processes.first() and self.state("report") != "done":
            from slim.runs.foresight import foresee

            foresee(self.data, self.settings, self.stage_folder("annotate"), self.annotator)
        for number, stage in enumerate(STAGES.values(), 1):
            heading = f"[{number}/{len(STAGES)}] {stage.verb:<9} {stage.purpose}"
            if processes.agreed(self.state(stage.verb)) == "done":
                announce(f"{heading} · done already")
                continue
            damage = self.damage(stage.verb)
            announce(heading + (f" · again, since {damage}" if damage else ""))
            self._make(stage.verb)
        self._save()

    def status(self) -> Iterator[tuple[Stage, State, float | None]]:
        """Each stage, its state, and how many seconds it took."""
        known: dict[str, State] = {}
        for stage in STAGES.values():
            manifest = self.folder.manifest(stage.folder)
            yield stage, self._state(stage.verb, known), manifest.seconds if manifest else None


def open_run(
    folder: str | Path,
    *,
    data: str | Path | pd.DataFrame | Dataset | None = None,
    recipe: str | Path | None = None,
    settings: Overrides | None = None,
    seed: int | None = None,
    reference: Classifier | None = None,
    annotator: Annotator | BrowserAnnotator | None = None,
    loggers: Sequence[Logger] = (),
    load: dict[str, Any] | None = None,
) -> Run:
    """Open a run folder, or start a new one.

    Options of earlier calls still hold; a recipe overrides them, and the options of this call override both. They are
    saved in the run's ``settings.json``; for an existing run, with the next stage that succeeds.

    Parameters
    ----------
    folder
        The run folder.
    data
        What `slim.load_dataset` takes, or a `Dataset`.
    recipe
        See `slim.runs.settings.read_recipe`.
    settings
        Values by stage and name, for instance ``{"train": {"epochs": 3}}``.
    seed
        Random seed.
    reference, annotator, loggers
        See `Run`.
    load
        More keywords for `slim.load_dataset`.

    Raises
    ------
    ArtifactError
        The folder is no run yet and `data` is None, or another version of SLIM made it.
    """
    run_folder = RunFolder(Path(folder))
    if run_folder.path.exists() and not run_folder.path.is_dir():
        raise ArtifactError(f"{folder} must be a run folder. Got a file. Name another folder.")
    stored = RunSettings.load(folder) if data is None or (run_folder.path / FILE).exists() else None
    current = (stored or RunSettings()).updated(read_recipe(recipe) if recipe else {}).updated(settings or {})
    before = versions(data)
    given = None if data is None else _loaded(data, load or {})
    if given is not None:
        current = replace(current, data=dict(given.source))
    if seed is not None:
        current = replace(current, seed=seed)
    run = Run(run_folder, current.anchored(), given, reference, annotator, loggers, before)
    if stored is None:
        run.data  # noqa: B018 (bad data is refused before a folder is created)
        run._save()
    return run


def run(folder: str | Path, *, bad_images: BadImages = "stop", **options: Any) -> dict[str, Any]:
    """Run all stages in a folder; continue where an earlier call stopped.

    Parameters
    ----------
    folder
        Receives a subfolder per stage; see ``docs/runs.md``.
    bad_images
        What to do about images that cannot be used: see `Run.all_stages`.
    **options
        As for `open_run`: ``data, recipe, settings, seed, reference, annotator, loggers, load``.

    Returns
    -------
    dict
        The metrics of the report.

    Examples
    --------
    ``slim.run("runs/pets", data="pets", settings={"train": {"epochs": 3}})``
    """
    opened = open_run(folder, **options)
    opened.all_stages(bad_images)
    metrics: dict[str, Any] = opened.load("report").metrics
    return metrics


def _loaded(data: str | Path | pd.DataFrame | Dataset, load: dict[str, Any]) -> Dataset:
    """The images that a caller names or gives."""
    from slim.data import Dataset, load_dataset

    return data if isinstance(data, Dataset) else load_dataset(data, **load)
