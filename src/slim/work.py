"""What each stage does in a run folder: load what it reads, call its function, save what it finds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from slim import summary
from slim.annotation import (
    BrowserAnnotator,
    Judgements,
    Pool,
    Queries,
    Store,
    TerminalAnnotator,
    ask,
    choose_annotator,
    select_queries,
)
from slim.artifacts import file_digest, read_json, write_json, write_text
from slim.attention import attend
from slim.baselines import random_subset
from slim.curation import Subset, assign, curate
from slim.errors import AnnotationError, SettingsError
from slim.evaluation import Groups, evaluate, evaluate_heads
from slim.factors import Source
from slim.last_layer import Head, HeldOut, fit_head
from slim.live import LiveSpreading
from slim.models import Classifier, load_classifier, restore
from slim.propagation import Scores, answers_array, propagate
from slim.report import ModelKey, write_report
from slim.space import Space, embed
from slim.training import train
from slim.workspace import STAGES, Workspace

MODELS = tuple(summary.TITLES)
"""The models that every report compares."""


def _train(p: Workspace, folder: Path) -> None:
    names, settings = p.data.train.class_names, p.settings.train
    if p.reference is not None:
        replace(p.reference, class_names=names).save(folder)
    elif p.settings.checkpoint is not None:
        size, layer = settings.image_size, settings.layer
        restore(p.settings.checkpoint, settings.arch, names, image_size=size, layer=layer).save(folder)
    else:
        train(p.data.train, p.data.val, settings, seed=p.settings.seed, folder=folder)


def _attend(p: Workspace, folder: Path) -> None:
    for table in (p.data.train, p.data.val, p.data.test):
        attend(p.classifier, table, p.settings.attend, folder=folder / table.split)


def _embed(p: Workspace, folder: Path) -> None:
    attention = p.attention(p.settings.pool)
    features = attention.core, attention.environment, attention.contrast
    embed(*features, p.settings.embed, seed=p.settings.seed).save(folder)


def queries(p: Workspace) -> Queries:
    """Whom the run's settings ask about."""
    settings = p.settings.annotate
    return select_queries(
        Space.load(p.folder("embed")).of(settings.select),
        p.pool,
        p.attention(p.settings.pool).maps,
        budget=settings.budget,
        select=settings.select,
        candidates=settings.candidates,
        seed=p.settings.seed,
    )


def _annotate(p: Workspace, folder: Path) -> None:
    annotator = p.annotator or choose_annotator(p.settings.annotate, p.pool, folder, p.settings.seed)
    asked = queries(p)
    with judgement_store(p) as store:
        judgements = ask(asked, annotator, store, page_pool(p))
    if isinstance(annotator, TerminalAnnotator) and len(judgements) < len(asked):
        raise AnnotationError(
            f"All {len(asked)} queries must be answered. Got {len(judgements)}, which are kept. "
            f"Go on: slim annotate {p.run.folder}, or ask for fewer: --budget N"
        )
    save_judgements(judgements, folder, None if isinstance(annotator, BrowserAnnotator) else annotator.name)


def save_judgements(judgements: Judgements, folder: Path, name: str | None = None) -> None:
    """Write judgements and who gave them: all who answered where no name says it."""
    judgements.save(folder)
    people = " + ".join(sorted({name for names in judgements.frame["annotator"] for name in names.split(" + ")}))
    write_json(folder / "annotator.json", name or people)


@contextmanager
def judgement_store(p: Workspace) -> Iterator[Store]:
    """The store of the answers about the run's present maps; others are set aside."""
    folder = p.folder("annotate")
    folder.mkdir(parents=True, exist_ok=True)
    _set_aside_other_answers(folder, _asked_about(p))
    with Store(folder / "annotations.db") as store:
        yield store


def page_pool(p: Workspace) -> Pool:
    """Everything that the page of judgements shows."""
    attention, space = p.attention(p.settings.pool), Space.load(p.folder("embed"))
    settings = p.settings.propagate
    return Pool(
        p.pool,
        attention.maps,
        p.run.folder.name,
        attention.probabilities,
        space.core,
        space.components,
        LiveSpreading(space.of(settings.method), p.pool.y, settings, p.pool.class_names),
        attention.environment,
    )


def _asked_about(p: Workspace) -> str:
    """What identifies the images and maps that answers are about."""
    maps = file_digest(p.folder("attend") / p.settings.pool / "maps.npy")
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


def _propagate(p: Workspace, folder: Path) -> None:
    judged = Judgements.load(p.folder("annotate")).frame
    answers = answers_array(len(p.pool), judged["index"].to_numpy(), judged["answer"].tolist())
    settings = p.settings.propagate
    points = Space.load(p.folder("embed")).of(settings.method)
    propagate(points, p.pool.y, answers, settings, class_names=p.pool.class_names).save(folder)


def _curate(p: Workspace, folder: Path) -> None:
    attention, space = p.attention(p.settings.pool), Space.load(p.folder("embed"))
    curate(
        np.asarray(attention.core),
        np.asarray(attention.environment),
        (space.core, space.environment),
        Scores.load(p.folder("propagate")).values,
        p.pool.y,
        p.settings.curate,
        features=np.asarray(attention.features),
        mistakes=p.mistakes(),
        class_names=p.pool.class_names,
        seed=p.settings.seed,
    ).save(folder)


def _retrain(p: Workspace, folder: Path) -> None:
    subset = Subset.load(p.folder("curate"))
    drawn = random_subset(p.pool.y, len(subset), p.settings.seed)
    write_text(folder / "random_subset.csv", pd.DataFrame({"index": drawn}).to_csv(index=False))
    if subset.shortcut:
        cells = subset.cell(with_val=p.settings.fits_val)
        _retrained(p, subset.index, cells, subset.kept, folder, subset.balanced)
    else:
        p.classifier.save(folder)
    everywhere = np.ones(len(p.pool), bool)
    _retrained(p, drawn, np.zeros(len(p.pool), np.int64), everywhere, folder / "random-subset", "features")


def _retrained(
    p: Workspace,
    index: NDArray[np.int64],
    cells: NDArray[np.int64],
    tune_among: NDArray[np.bool_],
    folder: Path,
    balanced: Source,
) -> None:
    """Retrain on some images of the pool, by the run's settings, into a folder."""
    if p.settings.retrain.mode == "full":
        train_on_subset(p, index, folder)
        return
    fits_val = p.settings.fits_val
    head = fit_subset_head(p, index, cells, tune_among, balanced=balanced, fits_val=fits_val)
    p.classifier.with_head(torch.from_numpy(head.weight), torch.from_numpy(head.bias)).save(folder)
    write_json(folder / "head.json", {"strength": head.strength, "held_out_accuracy": head.held_out_accuracy})


def train_on_subset(p: Workspace, index: NDArray[np.int64], folder: Path) -> Classifier:
    """The whole network trained on some images of the pool, into a folder, by the run's settings."""
    settings = p.settings.retrain
    wanted = replace(p.settings.train, epochs=settings.epochs, lr=settings.lr or p.settings.train.lr)
    start = p.classifier if settings.start == "reference" or p.reference is not None else None
    return train(p.pool[index], p.data.val, wanted, seed=p.settings.seed, folder=folder, initial=start)


def fit_subset_head(
    p: Workspace,
    index: NDArray[np.int64],
    cells: NDArray[np.int64],
    tune_among: NDArray[np.bool_],
    *,
    balanced: Source = "features",
    fits_val: bool,
) -> Head:
    """A head fitted to some images of the pool, and to val where asked.

    Parameters
    ----------
    p
        With attention of the pool.
    index
        (size,) positions in the pool.
    cells
        (n,) cells of the whole pool.
    tune_among
        (n,) the images of which those that are not in the subset tune the head, where val does not.
    balanced
        What the cells are clusters of; val's images join the nearest.
    fits_val
        Whether val is fitted to.
    """
    attention, y, settings = p.attention(p.settings.pool), p.pool.y, p.settings.retrain
    p.classifier.linear  # noqa: B018 (refuses a network without a linear head)
    features, held_out, val = attention.features, None, None
    if fits_val:
        seen = p.attention("val")
        joined = assign(np.asarray(getattr(attention, balanced)), cells, np.asarray(getattr(seen, balanced)))
        val = HeldOut(np.asarray(seen.features), p.data.val.y, joined)
    elif settings.tune_on == "groups":
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
        val=val,
        n_classes=p.classifier.n_classes,
        seed=p.settings.seed,
    )


def _model(p: Workspace, name: ModelKey) -> Classifier:
    """One of the models that are compared."""
    if name == "reference":
        return p.classifier
    folder = p.folder("retrain") if name == "retrained" else p.folder("retrain") / "random-subset"
    module = deepcopy(p.reference.module) if p.reference is not None else None
    return load_classifier(folder, module).to(p.classifier.device)


def _groups(p: Workspace) -> Groups:
    """What test accuracies are reported over: the attribute's groups, or else label x curated cell."""
    table = p.data.test
    if table.groups is not None:
        return Groups.from_table(table)
    subset, pool, test = Subset.load(p.folder("curate")), p.attention(p.settings.pool), p.attention("test")
    known, others = (np.asarray(getattr(found, subset.balanced)) for found in (pool, test))
    cells = assign(known, subset.environment_cluster, others)
    n_cells = int(subset.environment_cluster.max()) + 1
    names = [f"{label}, environment {j}" for label in table.class_names for j in range(n_cells)]
    known = p.pool.y * n_cells + subset.environment_cluster
    shares = np.bincount(known, minlength=len(names)) / len(known)
    return Groups(table.y * n_cells + cells, names, shares, "label x curated cell")


def _evaluate(p: Workspace, folder: Path) -> None:
    table, groups, settings = p.data.test, _groups(p), p.settings.evaluate
    images = pd.DataFrame({"path": table.paths, "y": table.y, "group": groups.of})
    models: dict[str, Classifier] = {name: _model(p, name) for name in MODELS}
    if p.settings.retrain.mode == "last-layer":
        heads = {name: model.linear.state_dict() for name, model in models.items() if model is not p.classifier}
        models |= {name: p.classifier.with_head(**head) for name, head in heads.items()}
        results = evaluate_heads(models, table, settings, groups=groups)
    else:
        results = {name: evaluate(model, table, settings, groups=groups) for name, model in models.items()}
    for name, result in results.items():
        write_json(folder / f"{name}.json", result.as_dict())
        images[f"{name}_prediction"] = result.predictions
        images[f"{name}_confidence"] = result.confidence
        if result.inside is not None:
            images[f"{name}_inside"] = result.inside
    write_text(folder / "images.csv", images.to_csv(index=False))


def _report(p: Workspace, folder: Path) -> None:
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


USES_MODEL = ("train", "attend", "retrain", "evaluate", "report")
"""The stages whose result depends on the device that the model is on."""

WORK: dict[str, Callable[[Workspace, Path], None]] = {
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
"""What to do for a stage: takes the workspace and the folder to write in."""
