"""The order of the stages and nothing else: what each reads, what it writes, and whether it is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import safetensors.torch

from slim.annotation import Annotator, BrowserAnnotator, choose_annotator
from slim.artifacts import Run, file_digest, read_json, write_text
from slim.datasets import Dataset, load_dataset
from slim.errors import ArtifactError, SettingsError, SlimError
from slim.models import Classifier, resolve_device
from slim.progress import announce
from slim.settings import FILE, Overrides, RunSettings, read_recipe
from slim.work import USES_MODEL, WORK
from slim.workspace import STAGES, Stage, Workspace

State = Literal["done", "stale", "missing"]


@dataclass(frozen=True)
class Pipeline(Workspace):
    """A run folder whose stages can be done, with what they are done from; takes what `Workspace` takes."""

    @cached_property
    def _reference_digest(self) -> str | None:
        """What identifies the caller's own classifier."""
        return None if self.reference is None else _classifier_digest(self.reference)

    def inputs(self, stage: Stage) -> dict[str, str]:
        """What identifies everything that a stage reads, as far as it is there; empty texts where a stage is not."""
        digests = {verb: self.run.digest(STAGES[verb].folder) or "" for verb in stage.reads}
        if stage.verb == "train":
            digests["data"] = self.data.fingerprint
            if self._reference_digest is not None:
                digests["reference"] = self._reference_digest
        files = {"train": self.settings.checkpoint, "annotate": self.settings.annotate.recorded}
        path = files.get(stage.verb)
        if path is not None and Path(path).is_file():
            digests["file"] = file_digest(Path(path))
        return digests

    def state(self, verb: str) -> State:
        """Whether a stage is done, stale (made from other settings or inputs) or missing.

        Raises
        ------
        ArtifactError
            Another version of SLIM made it.
        """
        stage = STAGES[verb]
        manifest = self.run.manifest(stage.folder)
        if manifest is None:
            return "missing"
        # Through JSON and back, as the manifest went.
        same = manifest.settings == _plain(self.settings.of(verb)) and manifest.seed == self.settings.seed
        # What is not there to be compared, such as a checkpoint since removed, has not changed.
        fresh = all(manifest.inputs.get(name) == digest for name, digest in self.inputs(stage).items())
        return "done" if same and fresh and self.lacking(verb) is None else "stale"

    def lacking(self, verb: str) -> str | None:
        """The first stage that must be done before this one can be, or None where it can."""
        for read in STAGES[verb].reads:
            if self.state(read) != "done":
                return self.lacking(read) or read
        return None

    def stage(self, verb: str) -> bool:
        """Do one stage, unless it is done already.

        Returns
        -------
        bool
            Whether there was anything to do.

        Raises
        ------
        ArtifactError
            A stage that it reads is not done.
        """
        self.check_ready(verb)
        if self.state(verb) == "done":
            self.settings.save(self.run.folder)
            return False
        self.do(verb, WORK[verb])
        return True

    def check_ready(self, verb: str) -> None:
        """Refuse a stage while one that it reads is not done.

        Raises
        ------
        ArtifactError
            As it says.
        """
        read = self.lacking(verb)
        if read is not None:
            got = "none" if self.state(read) == "missing" else "what other settings or images gave"
            raise ArtifactError(
                f"{self.run.folder} must have its {STAGES[read].result} up to date before {verb}. "
                f"Got {got}. Run: slim {read} {self.run.folder}"
            )

    def do(self, verb: str, work: Callable[[Workspace, Path], None]) -> None:
        """Do some work as a stage's, whether it is done already or not; what it writes becomes the stage's result."""
        stage = STAGES[verb]
        with (
            self._keeping_settings(),
            self.run.writing(
                stage.folder,
                verb,
                settings=self.settings.of(verb),
                seed=self.settings.seed,
                inputs=self.inputs(stage),
                device=str(resolve_device(self.settings.train.device)) if verb in USES_MODEL else "cpu",
                # An interrupted training goes on, and no answer is ever thrown away.
                keep=verb in ("train", "annotate"),
            ) as folder,
        ):
            work(self, folder)

    @contextmanager
    def _keeping_settings(self) -> Iterator[None]:
        """Keep the settings with the run; where they turn out to be a mistake, put back those that it had."""
        path = self.run.folder / FILE
        before = path.read_text(encoding="utf-8") if path.exists() else None
        self.settings.save(self.run.folder)
        try:
            yield
        except SlimError:
            if before is not None:
                write_text(path, before)
            raise

    def all_stages(self) -> None:
        """Do every stage that is not done, saying which."""
        _foresee(self)
        for number, stage in enumerate(STAGES.values(), 1):
            heading = f"[{number}/{len(STAGES)}] {stage.verb:<9} {stage.purpose}"
            if self.state(stage.verb) == "done":
                announce(f"{heading} · done already")
                continue
            announce(heading)
            self.stage(stage.verb)
        self.settings.save(self.run.folder)


def open_run(
    folder: str | Path,
    *,
    data: str | Path | pd.DataFrame | Dataset | None = None,
    recipe: str | Path | None = None,
    settings: Overrides | None = None,
    reference: Classifier | None = None,
    annotator: Annotator | BrowserAnnotator | None = None,
    load: dict[str, Any] | None = None,
    **run_settings: Any,
) -> Pipeline:
    """Open a run folder, or begin one.

    What was said when the run was begun still holds; a recipe, and then what is said now, come on top. All of it is
    kept in the run's ``settings.json``, from the next stage on that goes well where the run was begun before.

    Parameters
    ----------
    folder
        The run folder.
    data
        What `slim.load_dataset` takes, or a `Dataset`.
    recipe
        See `slim.settings.read_recipe`.
    settings
        Values by stage and name, for instance ``{"train": {"epochs": 3}}``.
    reference, annotator
        As in `Pipeline`.
    load
        More keywords for `slim.load_dataset`.
    **run_settings
        ``seed``, ``pool`` and ``checkpoint`` of `RunSettings`.

    Raises
    ------
    ArtifactError
        The folder is no run yet and no data came, or another version made it.
    """
    run = Run(Path(folder))
    if run.folder.exists() and not run.folder.is_dir():
        raise ArtifactError(f"{folder} must be a run folder. Got a file. Name another folder.")
    stored = RunSettings.load(folder) if data is None or (run.folder / FILE).exists() else None
    current = (stored or RunSettings()).updated(read_recipe(recipe) if recipe else {}).updated(settings or {})
    given = data if isinstance(data, Dataset) or data is None else load_dataset(data, **(load or {}))
    if given is not None:
        run_settings["data"] = dict(given.source)
    current = replace(current, **run_settings).anchored()
    pipeline = Pipeline(run, current, given, reference, annotator)
    pipeline.data  # noqa: B018 (bad data is refused before a folder is made)
    if stored is None:
        current.save(folder)
    return pipeline


def run(folder: str | Path, **options: Any) -> dict[str, Any]:
    """Do the whole method, stage by stage, in a run folder; go on where an earlier call stopped.

    Parameters
    ----------
    folder
        Receives a subfolder a stage; see ``docs/runs.md``.
    **options
        As for `open_run`: ``data, recipe, settings, reference, annotator, seed, pool, checkpoint, load``.

    Returns
    -------
    dict
        The content of ``8-report/metrics.json``.

    Examples
    --------
    ``slim.run("runs/pets", data="pets", settings={"train": {"epochs": 3}})``
    """
    pipeline = open_run(folder, **options)
    pipeline.all_stages()
    metrics: dict[str, Any] = read_json(pipeline.folder("report") / "metrics.json")
    return metrics


def status(pipeline: Pipeline) -> Iterator[tuple[Stage, State, float | None]]:
    """Each stage, its state, and how many seconds it took."""
    for stage in STAGES.values():
        manifest = pipeline.run.manifest(stage.folder)
        yield stage, pipeline.state(stage.verb), manifest.seconds if manifest else None


def _foresee(p: Pipeline) -> None:
    """Refuse now what a stage would refuse after hours of training."""
    if p.state("report") == "done":
        return
    budget, size, counts = (
        p.settings.annotate.budget,
        p.settings.curate.size,
        np.bincount(p.pool.y, minlength=p.pool.n_classes),
    )
    if p.annotator is None:
        choose_annotator(p.settings.annotate, p.pool, p.folder("annotate"), p.settings.seed)
    if budget > counts.min():
        raise SettingsError(
            f"The budget must not exceed the images of a class. Got budget {budget} for "
            f"{p.pool.class_names[int(counts.argmin())]!r}, which has {counts.min()} in {p.settings.pool}. "
            f"Try --annotate.budget {max(1, counts.min() // 2)}."
        )
    if size > len(p.pool):
        raise SettingsError(
            f"The subset must not be larger than the pool. Got size {size} for {len(p.pool)} images in "
            f"{p.settings.pool}. Try --curate.size {len(p.pool) // 4}."
        )


def _plain(values: Any) -> Any:
    """The values as they come back from JSON."""
    return json.loads(json.dumps(values))


def _classifier_digest(classifier: Classifier) -> str:
    """What identifies a network's values and what SLIM knows of it."""
    known = {name: value for name, value in vars(classifier).items() if name not in ("module", "class_names")}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.module.state_dict().items()}
    return hashlib.sha256(repr(known).encode() + safetensors.torch.save(tensors)).hexdigest()[:16]
