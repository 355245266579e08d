"""Gathers the records of the stages into the plain values that the report shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from PIL import Image

from slim.arrays import Floats
from slim.data import Dataset, ImageTable
from slim.data.sheet import recomposed_sheet
from slim.files import VERSION
from slim.network.classifier import Classifier
from slim.network.devices import resolve_precision
from slim.stages.attend import Attention
from slim.stages.curate.subset import Subset
from slim.stages.embed import Space
from slim.stages.evaluate.evaluation import Evaluations
from slim.stages.judgements import PLACE_COLUMNS, Judgements, Place
from slim.stages.locate.object_maps import ObjectMaps
from slim.stages.propagate.scores import Scores
from slim.stages.report.examples import examples, moved_examples
from slim.stages.report.recipe import command, recipe_text
from slim.stages.report.records import (
    SHOWN_QUERIES,
    THUMBNAIL,
    TITLES,
    DataSummary,
    ModelRow,
    ObjectCard,
    QueryCard,
    ReportInput,
    RunFacts,
    Scatter,
)
from slim.stages.retrain.choices import Images, ModelKey
from slim.stages.retrain.retrained import Retrained
from slim.stages.settings import plain_settings

_RECOMPOSED = 12


def report_input(
    data: Dataset,
    reference: Classifier,
    attention: Attention,
    space: Space,
    judgements: Judgements,
    scores: Scores,
    objects: ObjectMaps,
    subset: Subset,
    retrained: Retrained,
    evaluations: Evaluations,
    facts: RunFacts,
) -> ReportInput:
    """Gather a report from the stages' records."""
    pool, models = data.split(space.pool), retrained.models(reference)
    measured = {key: evaluations[key].as_dict() for key in TITLES}
    counts = judgements.frame["answer"].value_counts()
    answers = {answer: int(counts.get(answer, 0)) for answer in ("core", "spurious", "unsure")}
    n, recipe = len(judgements), recipe_text(facts.settings)
    if retrained.images == "none":
        models["retrained"] = reference  # the same weights, whose maps are known
    looks = models, attention.test, facts.settings["attend"]
    tested = data.test, evaluations.images, measured["reference"], *looks
    return ReportInput(
        title=facts.title,
        data=_data_summary(data, measured["reference"]),
        rows=[_row(key, measured[key], data, subset, retrained.images, facts.settings, judgements) for key in TITLES],
        judgements={
            "judged": n,
            **answers,
            "pool": space.pool,
            "share_of_pool": n / len(pool),
            "annotator": judgements.annotator,
            "seconds": float(judgements.frame["seconds"].sum()),
            "places": int(judgements.frame["place_x"].notna().sum()),
        },
        subset_size=len(subset),
        seed=facts.seed,
        version=VERSION,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        device=str(reference.device),
        arithmetic=_arithmetic(facts.settings, reference.device),
        trust=[asdict(trust) for trust in scores.trust],
        scatter=Scatter(
            coordinates=space.plane,
            y=pool.y,
            scores=scores.values,
            queries=judgements.frame["index"].to_numpy(),
            answers=judgements.frame["answer"].tolist(),
            a=pool.a,
        ),
        subset=_cells(subset, pool.class_names),
        examples=examples(*tested),
        moved=moved_examples(*tested),
        queries=_query_cards(pool, attention.split(space.pool).maps, judgements),
        objects=_object_card(pool, objects, space.pool, facts),
        method=facts.settings["propagate"].method,
        retrained=retrained.mode,
        fits_val=facts.settings["retrain"].fits_val(subset.pool),
        images=retrained.images,
        reliance=retrained.reliance,
        uses_val=retrained.uses_val,
        stages=[{"stage": stage, "seconds": value} for stage, value in facts.seconds.items()],
        settings={stage: plain_settings(one) for stage, one in facts.settings.items() if one is not None},
        recipe=recipe,
        command=command(data.source, recipe, facts.seed),
        warnings=facts.warnings,
    )


def _arithmetic(settings: Mapping[str, Any], device: torch.device) -> str:
    """Threads and precision, in words."""
    threads = torch.get_num_threads()
    names = {"32-true": "float32", "bf16-mixed": "bfloat16", "16-mixed": "float16"}
    used = [names[resolve_precision(settings[verb].precision, device)] for verb in ("train", "attend", "evaluate")]
    return f"{threads} {'thread' if threads == 1 else 'threads'}, {' and '.join(dict.fromkeys(used))}"


def _data_summary(data: Dataset, evaluation: Mapping[str, Any]) -> DataSummary:
    """Names and counts; the groups' training counts follow from their shares."""
    n = len(data.train)
    shares = [(group["name"], group["training_share"]) for group in evaluation["groups"]]
    return DataSummary(
        name=data.name,
        splits={table.split: len(table) for table in (data.train, data.val, data.test)},
        class_names=data.train.class_names,
        attribute_names=data.train.attribute_names,
        groups=[{"name": name, "train": round(share * n)} for name, share in shares if share is not None],
        fingerprint=data.fingerprint,
    )


def _row(
    key: ModelKey,
    evaluation: Mapping[str, Any],
    data: Dataset,
    subset: Subset,
    images: Images,
    settings: Mapping[str, Any],
    judgements: Judgements,
) -> ModelRow:
    """A model's row in the comparison, with the supervision that it used."""
    training, retraining = settings["train"], settings["retrain"]
    is_reference = key == "reference" or (key == "retrained" and images == "none")
    recomposed = key == "retrained" and images == "recomposed"
    full = retraining.mode == "full" and not is_reference
    last_layer = retraining.mode == "last-layer" and not is_reference
    joins_val = last_layer and retraining.fits_val(subset.pool)
    on_val = joins_val or (not is_reference and subset.pool == "val")
    supervision = ["class labels of train and val" if on_val else "class labels"]
    if key == "retrained":
        supervision.append(f"{len(judgements)} judgements ({judgements.annotator})")
    if recomposed and settings["locate"].source != "answers":
        supervision.append(f"{settings['locate'].source} of train and val")
    # A reference model that was trained elsewhere selects no epoch, but a full retraining does.
    if training.select_by == "worst-group" and ((full and not recomposed) or training.checkpoint is None):
        supervision.append("val group labels (choice of epoch)")
    if last_layer and not recomposed and retraining.tune_on == "groups" and retraining.strength is None:
        supervision.append("val group labels (tuning)")
    trained_on = len(data.split(subset.pool)) if recomposed else len(subset)
    n = len(data.train) if is_reference else trained_on + (len(data.val) if joins_val else 0)
    return ModelRow(key, TITLES[key], " + ".join(supervision), n, evaluation)


def _cells(subset: Subset, class_names: Sequence[str]) -> list[dict[str, Any]]:
    rows = json.loads(subset.cells.to_json(orient="records"))
    return [{"class": class_names[row["y"]], **row} for row in rows]


def _object_card(pool: ImageTable, objects: ObjectMaps, split: str, facts: RunFacts) -> ObjectCard:
    """A few images with their objects, and how far the maps can be trusted."""
    sheet = recomposed_sheet(pool, objects.split(split), _RECOMPOSED, facts.seed)
    trust = None if objects.trust is None else asdict(objects.trust)
    return ObjectCard(sheet, objects.source, trust)


def _query_cards(pool: ImageTable, maps: Floats, judgements: Judgements) -> list[QueryCard]:
    rows = judgements.frame[["index", "answer", *PLACE_COLUMNS]].head(SHOWN_QUERIES).itertuples(index=False)
    return [
        QueryCard(
            _small(pool.image(i)),
            np.asarray(maps[i]),
            pool.class_names[pool.y[i]],
            answer,
            Place.from_columns(*place),
        )
        for i, answer, *place in rows
    ]


def _small(photo: Image.Image) -> Image.Image:
    """A copy no larger than the page shows, so that many photographs do not fill the memory."""
    photo.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return photo
