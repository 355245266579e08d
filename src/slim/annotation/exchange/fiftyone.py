"""Judgements for FiftyOne, and back: a dataset of the whole pool in FiftyOne's own database."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from slim.annotation.exchange.records import Asked, Given, Sheet
from slim.annotation.exchange.text import given
from slim.errors import AnnotationError, SlimError


def _fiftyone() -> ModuleType:
    try:
        import fiftyone
    except ImportError as error:
        raise SlimError(
            "FiftyOne must be installed to exchange judgements with it. Got no package of that name. "
            "Install it: pip install 'slim-vision[fiftyone]'"
        ) from error
    module: ModuleType = fiftyone
    return module


def write_fiftyone(sheet: Sheet, name: str) -> None:
    """Make a dataset: each image of the pool a sample, with these fields.

    ``ground_truth`` and ``prediction`` (classifications), ``attention`` (heatmap), ``attention_score``, ``judgement``
    (the answer of record, with its ``annotator``), ``answers`` (everybody's, with ``annotator``, ``seconds``, ``time``
    and ``settles``). Tags: ``query`` for what was asked about, ``judged`` for what has an answer.

    Raises
    ------
    SlimError
        FiftyOne is not installed.
    AnnotationError
        There is a dataset of that name.
    """
    fo = _fiftyone()
    if fo.dataset_exists(name):
        raise AnnotationError(
            f"A FiftyOne dataset must have a new name. Got {name!r}, which exists. Name another, or remove it: "
            f"fiftyone datasets delete {name}"
        )
    dataset = fo.Dataset(name)
    asked = {image.index: image for image in sheet}
    images = (asked.get(index) or sheet.image(index) for index in range(len(sheet.pool.table)))
    dataset.add_samples([_sample(fo, sheet, image, queried=image.index in asked) for image in images])
    dataset.persistent = True  # last: what was left half-made goes with the process


def _sample(fo: ModuleType, sheet: Sheet, image: Asked, *, queried: bool) -> Any:
    tags = [tag for tag, holds in (("query", queried), ("judged", image.judgement is not None)) if holds]
    sample = fo.Sample(image.path, tags=tags)
    sample["ground_truth"] = fo.Classification(label=image.label)
    if image.prediction is not None:
        sample["prediction"] = fo.Classification(label=image.prediction, confidence=image.confidence)
    sample["attention"] = fo.Heatmap(map=np.asarray(sheet.pool.maps[image.index], dtype=np.float32), range=[0, 1])
    if image.score is not None:
        sample["attention_score"] = image.score
    if image.judgement is not None:
        # `exported` tells what somebody has changed there since.
        who = {"annotator": image.judged_by, "exported": image.judgement}
        sample["judgement"] = fo.Classification(label=image.judgement, **who)
        answers = [
            fo.Classification(
                label=one.answer, annotator=one.annotator, seconds=one.seconds, time=one.time, settles=one.settles
            )
            for one in image.answers
        ]
        sample["answers"] = fo.Classifications(classifications=answers)
    return sample


def read_fiftyone(name: str) -> list[tuple[str, Given]]:
    """The answers in a dataset that `write_fiftyone` made.

    A ``judgement`` that was changed there settles its image; one that an image was given there is an answer of its
    ``annotator``. Whoever has no name is "FiftyOne".

    Raises
    ------
    SlimError
        FiftyOne is not installed.
    AnnotationError
        There is no such dataset.
    """
    fo = _fiftyone()
    if not fo.dataset_exists(name):
        raise AnnotationError(
            f"A FiftyOne dataset must exist to be imported. Got {name!r}. Look at: fiftyone datasets list"
        )
    found = []
    for sample in fo.load_dataset(name):
        where = f"{sample.filepath} of {name}"
        for one in _field(_field(sample, "answers"), "classifications") or []:
            rest = one["annotator"], one["seconds"], one["time"], one["settles"], where
            found.append((sample.filepath, given(one.label, *rest)))
        judgement = _field(sample, "judgement")
        if judgement is not None and judgement.label != (exported := _field(judgement, "exported")):
            who = (_field(judgement, "annotator") if exported is None else None) or "FiftyOne"
            found.append((sample.filepath, given(judgement.label, who, 0, "", exported is not None, where)))
    return found


def _field(holder: Any, name: str) -> Any:
    """A field, or None where there is none."""
    return holder[name] if holder is not None and holder.has_field(name) else None
