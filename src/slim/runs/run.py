"""Runs: the stages in a folder; each is done once, and again only after its settings or inputs have changed.

What takes time to import is imported where it is needed, so that looking at a run does not wait for torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from slim import processes
from slim.arguments import checked
from slim.errors import ArtifactError, SlimError
from slim.files import write_text
from slim.progress import announce
from slim.runs.explained import load_explanation
from slim.runs.folder import RunFolder
from slim.runs.known_data import remember, versions
from slim.runs.lock import alone_in
from slim.runs.log import LOG, logged
from slim.runs.settings import FILE, Overrides, RunSettings, read_recipe
from slim.runs.stored import StoredRun
from slim.stages import STAGES, Stage

if TYPE_CHECKING:
    import pandas as pd
    from lightning_fabric.loggers.logger import Logger

    from slim.data import Dataset
    from slim.network.classifier import Classifier
    from slim.stages.annotate.annotator import Annotator
    from slim.stages.annotate.page.server import BrowserAnnotator
    from slim.stages.report.records import RunFacts

BadImages = Literal["stop", "skip"]


@dataclass(frozen=True, repr=False)
class Run(StoredRun):
    """A run folder together with its settings and images, in which stages can be run; parameters as for `StoredRun`."""

    def _save(self) -> None:
        """Save the settings, and which images they are about; of several processes, the first does it."""
        if not processes.first():
            return
        self.settings.save(self.folder.path)
        if self._has_read:
            remember(self.folder.path, self.settings.data, self._before, self.data.fingerprint)

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

    def stage(self, verb: str) -> bool:
        """Run one stage, unless it is done already.

        Returns
        -------
        bool
            Whether there was anything to do.

        Raises
        ------
        ArtifactError
            A stage that it reads is not done, or another command is using the folder.
        """
        with alone_in(self.folder.path), logged(self.folder.path):
            return self._make(verb)

    def _make(self, verb: str) -> bool:
        """Run one stage, unless it is done already, in a folder that is held."""
        if not processes.agreed(processes.first() and self._is_to_do(verb)):
            return False
        stage = STAGES[verb]
        LOG.info("%s started", verb)
        start = perf_counter()
        if processes.first():
            with self._writing(verb) as folder, nullcontext() if stage.shared else processes.alone():
                self._work(stage, folder).save(folder)
        elif stage.shared:
            self._work(stage, self.folder.work(stage.folder, keep=stage.resumes))
        processes.wait()
        LOG.info("%s done after %.1f s", verb, perf_counter() - start)
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
        record = stage(self.records(stage.reads), self.settings[stage.verb], self._context(folder))
        self._check_unchanged(stage)
        return record

    def _check_unchanged(self, stage: Stage) -> None:
        """Refuse a result of files that have changed since they were compared with what was written.

        Raises
        ------
        ArtifactError
            The message names the folder and the fault.
        """
        for verb in stage.before:
            if damaged := self.damage(verb, read=True):
                raise ArtifactError(
                    f"{self.stage_folder(verb)} must stay as it was while {stage.verb} reads it. Got a folder where "
                    f"{damaged}. Run the same command again, and find out what changes files there."
                )

    def replace(self, verb: str, record: Any) -> None:
        """Make a record that came from elsewhere the result of a stage; the folder must be locked."""
        with self._writing(verb) as folder:
            record.save(folder)

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
            Another command is using the folder.
        DataError
            There are such images, and they are not skipped.
        """
        with alone_in(self.folder.path), logged(self.folder.path):
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


@checked
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
    before = versions(data, **(load or {}))
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


@checked
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
