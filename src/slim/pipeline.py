"""The order of the stages and nothing else: what each reads, what it writes, and whether it is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from numpy.typing import NDArray

from slim import summary
from slim.annotation import (
    Annotator,
    Judgements,
    Queries,
    Store,
    TerminalAnnotator,
    annotate,
    choose_annotator,
    select_queries,
)
from slim.artifacts import Run, read_json, write_json, write_text
from slim.attention import Attention, attend
from slim.curation import Subset, assign, curate
from slim.datasets import Dataset, ImageTable, load_dataset
from slim.errors import AnnotationError, ArtifactError, SettingsError, SlimError
from slim.evaluation import Groups, evaluate
from slim.last_layer import Head, HeldOut, fit_head
from slim.models import Classifier, load_classifier, resolve_device, restore
from slim.progress import announce
from slim.propagation import Scores, answers_array, propagate
from slim.report import ModelKey, write_report
from slim.settings import FILE, Overrides, RunSettings, read_recipe
from slim.space import Space, embed
from slim.training import TrainSettings, train

State = Literal["done", "stale", "missing"]

MODELS = tuple(summary.TITLES)
"""The models that every report compares."""


@dataclass(frozen=True)
class Stage:
    """One step of the method.

    Attributes
    ----------
    verb
        Its command, for instance ``"attend"``.
    folder
        Its place in the run folder.
    reads
        Verbs of the stages whose results it uses.
    purpose
        What it does, in words a newcomer understands.
    result
        What it leaves behind, for messages.
    """

    verb: str
    folder: str
    reads: tuple[str, ...]
    purpose: str
    result: str


STAGES = {
    stage.verb: stage
    for stage in (
        Stage("train", "1-reference", (), "train the reference model, plainly", "reference model"),
        Stage("attend", "2-attention", ("train",), "compute where the model looks and what it sees", "attention maps"),
        Stage("embed", "3-space", ("attend",), "place images by what the model looks at", "attention space"),
        Stage("annotate", "4-annotation", ("attend", "embed"), "ask whether it looks at the right thing", "judgements"),
        Stage("propagate", "5-propagation", ("embed", "annotate"), "spread the judgements to every image", "scores"),
        Stage("curate", "6-curation", ("attend", "embed", "propagate"), "choose a small balanced subset", "subset"),
        Stage("retrain", "7-retrained", ("train", "attend", "curate"), "retrain on it", "retrained model"),
        Stage("evaluate", "8-evaluation", ("attend", "curate", "retrain"), "measure on the test split", "evaluation"),
        Stage(
            "report",
            "8-report",
            ("attend", "embed", "annotate", "propagate", "curate", "evaluate"),
            "write the report",
            "report",
        ),
    )
}


@dataclass(frozen=True)
class Pipeline:
    """A run folder together with its settings and images.

    Parameters
    ----------
    run
        The run folder.
    settings
        What its stages are to be made with.
    given
        The images, where they came from Python and not from ``settings.data``.
    reference
        A classifier of your own to take as the reference.
    annotator
        Who answers, in place of the one that the settings name.
    """

    run: Run
    settings: RunSettings
    given: Dataset | None = None
    reference: Classifier | None = None
    annotator: Annotator | None = field(default=None)

    @cached_property
    def data(self) -> Dataset:
        """The images.

        Raises
        ------
        SettingsError
            The run does not know where they are.
        """
        if self.given is not None:
            return self.given
        if not self.settings.data.get("source"):
            raise SettingsError(
                f"A run needs images. Got none for {self.run.folder}. Name them: --data FOLDER, or data= in Python."
            )
        return load_dataset(**self.settings.data)

    @property
    def pool(self) -> ImageTable:
        """The split that the subset comes from."""
        return self.data.train if self.settings.pool == "train" else self.data.val

    @cached_property
    def classifier(self) -> Classifier:
        """The reference model of stage 1."""
        # A copy, since the saved tensors go into it, and the caller's own network is his.
        module = deepcopy(self.reference.module) if self.reference is not None else None
        return load_classifier(self.folder("train"), module).to(resolve_device(self.settings.train.device))

    @cached_property
    def _reference_digest(self) -> str | None:
        """What identifies the caller's own classifier."""
        return None if self.reference is None else _classifier_digest(self.reference)

    def folder(self, verb: str) -> Path:
        """A stage's folder."""
        return self.run.stage_folder(STAGES[verb].folder)

    def attention(self, split: str) -> Attention:
        """What stage 2 found in a split."""
        return Attention.load(self.folder("attend") / split)

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
            digests["file"] = _file_digest(Path(path))
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
        stage = STAGES[verb]
        read = self.lacking(verb)
        if read is not None:
            got = "none" if self.state(read) == "missing" else "what other settings or images gave"
            raise ArtifactError(
                f"{self.run.folder} must have its {STAGES[read].result} up to date before {verb}. "
                f"Got {got}. Run: slim {read} {self.run.folder}"
            )
        if self.state(verb) == "done":
            self.settings.save(self.run.folder)
            return False
        with (
            self._keeping_settings(),
            self.run.writing(
                stage.folder,
                verb,
                settings=self.settings.of(verb),
                seed=self.settings.seed,
                inputs=self.inputs(stage),
                device=str(resolve_device(self.settings.train.device)) if verb in _USES_MODEL else "cpu",
                # An interrupted training goes on, and no answer is ever thrown away.
                keep=verb in ("train", "annotate"),
            ) as folder,
        ):
            _WORK[verb](self, folder)
        return True

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
    annotator: Annotator | None = None,
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


def _file_digest(path: Path) -> str:
    """What identifies a file's content."""
    now = path.stat()
    return _digest_of_version(path, now.st_mtime_ns, now.st_size)


@lru_cache(maxsize=16)
def _digest_of_version(path: Path, modified: int, size: int) -> str:
    """Read once as long as the file stays as it is: states are asked for often, and checkpoints are large."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _classifier_digest(classifier: Classifier) -> str:
    """What identifies a network's values and what SLIM knows of it."""
    known = {name: value for name, value in vars(classifier).items() if name not in ("module", "class_names")}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.module.state_dict().items()}
    return hashlib.sha256(repr(known).encode() + safetensors.torch.save(tensors)).hexdigest()[:16]


def _train(p: Pipeline, folder: Path) -> None:
    names, settings = p.data.train.class_names, p.settings.train
    if p.reference is not None:
        replace(p.reference, class_names=names).save(folder)
    elif p.settings.checkpoint is not None:
        size, layer = settings.image_size, settings.layer
        restore(p.settings.checkpoint, settings.arch, names, image_size=size, layer=layer).save(folder)
    else:
        train(p.data.train, p.data.val, settings, seed=p.settings.seed, folder=folder)


def _attend(p: Pipeline, folder: Path) -> None:
    for table in (p.data.train, p.data.val, p.data.test):
        attend(p.classifier, table, p.settings.attend, folder=folder / table.split)


def _embed(p: Pipeline, folder: Path) -> None:
    attention = p.attention(p.settings.pool)
    embed(attention.core, attention.environment, p.settings.embed, seed=p.settings.seed).save(folder)


def _queries(p: Pipeline) -> Queries:
    settings = p.settings.annotate
    return select_queries(
        Space.load(p.folder("embed")).core,
        p.pool,
        p.attention(p.settings.pool).maps,
        budget=settings.budget,
        candidates=settings.candidates,
        seed=p.settings.seed,
    )


def _annotate(p: Pipeline, folder: Path) -> None:
    annotator = p.annotator or choose_annotator(p.settings.annotate, p.pool, folder, p.settings.seed)
    _set_aside_other_answers(folder, _asked_about(p))
    queries = _queries(p)
    with Store(folder / "annotations.db") as store:
        judgements = annotate(queries, annotator, store)
    if isinstance(annotator, TerminalAnnotator) and len(judgements) < len(queries):
        raise AnnotationError(
            f"All {len(queries)} queries must be answered. Got {len(judgements)}, which are kept. "
            f"Go on: slim annotate {p.run.folder}, or ask for fewer: --budget N"
        )
    judgements.save(folder)
    write_json(folder / "annotator.json", annotator.name)


def _asked_about(p: Pipeline) -> str:
    """What identifies the images and maps that answers are about."""
    maps = _file_digest(p.folder("attend") / p.settings.pool / "maps.npy")
    return hashlib.sha256(f"{p.data.fingerprint} {p.settings.pool} {maps}".encode()).hexdigest()[:16]


def _set_aside_other_answers(folder: Path, about: str) -> None:
    """Rename a store whose answers are about other maps: they are kept, and used where the maps are these again."""
    marker = folder / "asked-about.json"
    before = read_json(marker) if marker.exists() else about
    if before != about:
        for old in folder.glob("annotations.db*"):
            old.rename(old.with_name(old.name.replace("annotations", f"annotations-{before}", 1)))
    write_json(marker, about)
    if not (folder / "annotations.db").exists():
        for same in folder.glob(f"annotations-{about}.db*"):
            same.rename(same.with_name(same.name.replace(f"annotations-{about}", "annotations", 1)))


def _propagate(p: Pipeline, folder: Path) -> None:
    judged = Judgements.load(p.folder("annotate")).frame
    answers = answers_array(len(p.pool), judged["index"].to_numpy(), judged["answer"].tolist())
    space = Space.load(p.folder("embed"))
    propagate(space.core, p.pool.y, answers, p.settings.propagate, class_names=p.pool.class_names).save(folder)


def _curate(p: Pipeline, folder: Path) -> None:
    attention, space = p.attention(p.settings.pool), Space.load(p.folder("embed"))
    curate(
        np.asarray(attention.core),
        np.asarray(attention.environment),
        (space.core, space.environment),
        Scores.load(p.folder("propagate")).values,
        p.pool.y,
        p.settings.curate,
        class_names=p.pool.class_names,
        seed=p.settings.seed,
    ).save(folder)


def random_subset(y: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Positions (size,) drawn without replacement, again until each class has an image: the baseline subset.

    Raises
    ------
    SettingsError
        A hundred draws missed a class.

    Examples
    --------
    >>> len(random_subset(np.array([0, 1] * 50), 10, seed=0))
    10
    """
    rng = np.random.default_rng((seed, 1))
    for _ in range(100):
        drawn = np.sort(rng.choice(len(y), size, replace=False))
        if len(np.unique(y[drawn])) == len(np.unique(y)):
            return drawn
    raise SettingsError(
        f"A random subset must hold an image of each class. Got none in 100 draws of {size}. Ask for a larger --size."
    )


def _retrain(p: Pipeline, folder: Path) -> None:
    subset = Subset.load(p.folder("curate"))
    drawn = random_subset(p.pool.y, len(subset), p.settings.seed)
    write_text(folder / "random_subset.csv", pd.DataFrame({"index": drawn}).to_csv(index=False))
    everywhere = np.ones(len(p.pool), bool)
    _retrained(p, subset.index, subset.cell, subset.kept, folder)
    _retrained(p, drawn, np.zeros(len(p.pool), np.int64), everywhere, folder / "random-subset")


def _retrained(
    p: Pipeline, index: NDArray[np.int64], cells: NDArray[np.int64], tune_among: NDArray[np.bool_], folder: Path
) -> None:
    """Retrain on some images of the pool, by the run's settings, into a folder."""
    settings = p.settings.retrain
    if settings.mode == "full":
        wanted = _full(p.settings.train, settings.epochs, settings.lr)
        start = p.classifier if settings.start == "reference" or p.reference is not None else None
        train(p.pool[index], p.data.val, wanted, seed=p.settings.seed, folder=folder, initial=start)
        return
    head = _head(p, index, cells, tune_among)
    p.classifier.with_head(torch.from_numpy(head.weight), torch.from_numpy(head.bias)).save(folder)
    write_json(folder / "head.json", {"strength": head.strength, "held_out_accuracy": head.held_out_accuracy})


def _full(settings: TrainSettings, epochs: int, lr: float | None) -> TrainSettings:
    return replace(settings, epochs=epochs, lr=lr or settings.lr)


def _head(p: Pipeline, index: NDArray[np.int64], cells: NDArray[np.int64], tune_among: NDArray[np.bool_]) -> Head:
    """A head fitted to the images at `index`, tuned on others of the pool, or on val's groups where asked."""
    features, y, settings = p.attention(p.settings.pool).features, p.pool.y, p.settings.retrain
    p.classifier.linear  # noqa: B018 (refuses a network without a linear head)
    if settings.tune_on == "groups":
        if p.data.val.groups is None:
            raise SettingsError("Tuning on groups needs a spurious attribute. Got data without. Use --tune-on cells.")
        held_out = HeldOut(np.asarray(p.attention("val").features), p.data.val.y, p.data.val.groups)
    else:
        others = np.setdiff1d(np.flatnonzero(tune_among), index)
        others = others if len(others) else index  # a subset of the whole pool leaves nothing else to tune on
        held_out = HeldOut(np.asarray(features[others]), y[others], cells[others])
    return fit_head(
        np.asarray(features[index]),
        y[index],
        cells[index],
        held_out,
        settings,
        n_classes=p.classifier.n_classes,
        seed=p.settings.seed,
    )


def _model(p: Pipeline, name: ModelKey) -> Classifier:
    """One of the models that are compared."""
    if name == "reference":
        return p.classifier
    folder = p.folder("retrain") if name == "retrained" else p.folder("retrain") / "random-subset"
    module = deepcopy(p.reference.module) if p.reference is not None else None
    return load_classifier(folder, module).to(p.classifier.device)


def _groups(p: Pipeline) -> Groups:
    """What test accuracies are reported over: the attribute's groups, or else label x curated cell."""
    table = p.data.test
    if table.groups is not None:
        return Groups.from_table(table)
    subset, pool, test = Subset.load(p.folder("curate")), p.attention(p.settings.pool), p.attention("test")
    cells = assign(np.asarray(pool.environment), subset.environment_cluster, np.asarray(test.environment))
    n_cells = int(subset.environment_cluster.max()) + 1
    names = [f"{label}, environment {j}" for label in table.class_names for j in range(n_cells)]
    known = p.pool.y * n_cells + subset.environment_cluster
    shares = np.bincount(known, minlength=len(names)) / len(known)
    return Groups(table.y * n_cells + cells, names, shares, "label x curated cell")


def _evaluate(p: Pipeline, folder: Path) -> None:
    table, groups = p.data.test, _groups(p)
    images = pd.DataFrame({"path": table.paths, "y": table.y, "group": groups.of})
    for name in MODELS:
        result = evaluate(_model(p, name), table, p.settings.evaluate, groups=groups)
        write_json(folder / f"{name}.json", result.as_dict())
        images[f"{name}_prediction"] = result.predictions
        images[f"{name}_confidence"] = result.confidence
        if result.inside is not None:
            images[f"{name}_inside"] = result.inside
    write_text(folder / "images.csv", images.to_csv(index=False))


def _report(p: Pipeline, folder: Path) -> None:
    seconds = {stage.verb: manifest.seconds for stage in STAGES.values() if (manifest := p.run.manifest(stage.folder))}
    heard = [text for stage in STAGES.values() if (m := p.run.manifest(stage.folder)) for text in m.warnings]
    write_report(
        folder,
        summary.report_input(
            data=p.data,
            pool=p.pool,
            settings=p.settings,
            models={name: _model(p, name) for name in MODELS},
            evaluations={name: read_json(p.folder("evaluate") / f"{name}.json") for name in MODELS},
            images=pd.read_csv(p.folder("evaluate") / "images.csv"),
            maps=p.attention(p.settings.pool).maps,
            space=Space.load(p.folder("embed")),
            judgements=Judgements.load(p.folder("annotate")),
            annotator=read_json(p.folder("annotate") / "annotator.json"),
            scores=Scores.load(p.folder("propagate")),
            subset=Subset.load(p.folder("curate")),
            title=p.run.folder.name,
            seconds=seconds,
            warnings=list(dict.fromkeys(heard)),
        ),
    )


# The stages whose result depends on the device that the model is on.
_USES_MODEL = ("train", "attend", "retrain", "evaluate", "report")

_WORK: dict[str, Callable[[Pipeline, Path], None]] = {
    "train": _train,
    "attend": _attend,
    "embed": _embed,
    "annotate": _annotate,
    "propagate": _propagate,
    "curate": _curate,
    "retrain": _retrain,
    "evaluate": _evaluate,
    "report": _report,
}
