"""What the stages found, gathered into what the report shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from slim.annotation import Judgements
from slim.artifacts import VERSION
from slim.curation import Subset
from slim.datasets import Dataset, ImageTable, image_batches
from slim.gradcam import GradCam
from slim.models import Classifier
from slim.propagation import Scores
from slim.report import DataSummary, Example, ModelKey, ModelRow, QueryCard, ReportInput, Scatter
from slim.settings import RunSettings
from slim.space import Space

Floats = NDArray[np.floating]

TITLES: dict[ModelKey, str] = {
    "reference": "Reference model",
    "random_subset": "Random subset",
    "retrained": "SLIM",
}
"""How the report calls the models that it compares."""

_EXAMPLES = 6


def report_input(
    *,
    data: Dataset,
    pool: ImageTable,
    settings: RunSettings,
    models: Mapping[ModelKey, Classifier],
    evaluations: Mapping[ModelKey, Mapping[str, Any]],
    images: pd.DataFrame,
    maps: Floats,
    space: Space,
    judgements: Judgements,
    annotator: str,
    scores: Scores,
    subset: Subset,
    title: str,
    seconds: Mapping[str, float],
    warnings: Sequence[str],
) -> ReportInput:
    """Gather a report from the stages' results.

    Parameters
    ----------
    data, pool
        The images, and the split that was judged.
    settings
        The run's.
    models, evaluations
        By key: the classifiers, and what `slim.evaluate` measured as plain values.
    images
        One row a test image: ``path, y, group`` and ``<model>_prediction``, ``<model>_confidence``.
    maps
        (n, h, w) the pool's attention maps.
    space, judgements, scores, subset
        The stages' records about the pool.
    annotator, title, seconds, warnings
        Who answered; the run's name; each stage's wall time; what the stages warned of.
    """
    counts = judgements.frame["answer"].value_counts()
    answers = {answer: int(counts.get(answer, 0)) for answer in ("core", "spurious", "unsure")}
    asked = len(judgements)
    return ReportInput(
        title=title,
        data=_data_summary(data, evaluations["reference"]),
        rows=[_row(key, evaluations[key], data, subset, settings, asked) for key in TITLES],
        judgements={"asked": asked, **answers, "share_of_train": asked / len(data.train), "annotator": annotator},
        subset_size=len(subset),
        seed=settings.seed,
        version=VERSION,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        device=str(models["reference"].device),
        trust=[asdict(trust) for trust in scores.trust],
        scatter=Scatter(
            coordinates=space.core,
            y=pool.y,
            scores=scores.values,
            queries=judgements.frame["index"].to_numpy(),
            answers=judgements.frame["answer"].tolist(),
            a=pool.a,
        ),
        subset=_cells(subset, pool.class_names),
        examples=_examples(data.test, images, models, evaluations["reference"]),
        queries=_query_cards(pool, maps, judgements),
        shortcut=subset.shortcut,
        stages=[{"stage": stage, "seconds": value} for stage, value in seconds.items()],
        settings={stage: settings.of(stage) for stage in seconds},
        warnings=warnings,
    )


def _data_summary(data: Dataset, evaluation: Mapping[str, Any]) -> DataSummary:
    """Names and counts; training counts of groups follow from their shares."""
    n = len(data.train)
    shares = [(group["name"], group["training_share"]) for group in evaluation["groups"]]
    return DataSummary(
        name=data.name,
        splits={table.split: len(table) for table in (data.train, data.val, data.test)},
        class_names=data.train.class_names,
        attribute_names=data.train.attribute_names,
        groups=[{"name": name, "train": round(share * n)} for name, share in shares if share is not None],
    )


def _row(
    key: ModelKey,
    evaluation: Mapping[str, Any],
    data: Dataset,
    subset: Subset,
    settings: RunSettings,
    asked: int,
) -> ModelRow:
    """A model, with everything that it was told."""
    is_reference = key == "reference" or (key == "retrained" and not subset.shortcut)
    joins_val = settings.fits_val and not is_reference
    told = ["class labels of train and val" if joins_val else "class labels"]
    if key == "retrained":
        told.append(f"{asked} judgements")
    if settings.train.select_by == "worst-group" and settings.checkpoint is None:
        told.append("val group labels (which epoch)")
    if key != "reference" and settings.retrain.mode == "last-layer" and settings.retrain.tune_on == "groups":
        told.append("val group labels (tuning)")
    n = len(data.train) if is_reference else len(subset) + (len(data.val) if joins_val else 0)
    return ModelRow(key, TITLES[key], " + ".join(told), n, evaluation)


def _cells(subset: Subset, class_names: Sequence[str]) -> list[dict[str, Any]]:
    rows = json.loads(subset.cells.to_json(orient="records"))
    return [{"class": class_names[row["y"]], **row} for row in rows]


def _query_cards(pool: ImageTable, maps: Floats, judgements: Judgements) -> list[QueryCard]:
    rows = judgements.frame[["index", "answer"]].itertuples(index=False)
    return [QueryCard(pool.image(i), np.asarray(maps[i]), pool.class_names[pool.y[i]], answer) for i, answer in rows]


def _examples(
    test: ImageTable,
    images: pd.DataFrame,
    models: Mapping[ModelKey, Classifier],
    evaluation: Mapping[str, Any],
) -> list[Example]:
    """Test images drawn evenly from the groups, the worst first; how they were classified plays no part."""
    groups = evaluation["groups"]
    order = sorted((g for g in range(len(groups)) if groups[g]["n"]), key=lambda g: groups[g]["accuracy"])
    rng = np.random.default_rng(0)
    drawn = {g: rng.permutation(np.flatnonzero(images["group"] == g))[:_EXAMPLES] for g in order}
    places = [(rank, g) for rank in range(_EXAMPLES) for g in order if rank < len(drawn[g])][:_EXAMPLES]
    index = np.array([drawn[g][rank] for rank, g in places])
    shown: tuple[ModelKey, ...] = ("reference", "retrained")
    maps = {key: _label_maps(models[key], test[index]) for key in shown}
    return [
        Example(
            photo=test.image(int(i)),
            maps={key: maps[key][n] for key in shown},
            label=test.class_names[test.y[i]],
            predictions={
                key: (test.class_names[images[f"{key}_prediction"][i]], float(images[f"{key}_confidence"][i]))
                for key in shown
            },
            group=groups[images["group"][i]]["name"],
        )
        for n, i in enumerate(index)
    ]


def _label_maps(model: Classifier, table: ImageTable) -> Floats:
    """Attention maps (n, h, w) of a few images, for their labels."""
    with GradCam(model) as cam:
        parts = []
        for pixels, y, _ in image_batches(table, model.image_size, len(table)):
            seen = cam(pixels)
            parts.append(seen.maps(y.to(torch.int64).to(seen.logits.device)).detach().cpu().numpy())
    return np.concatenate(parts)
