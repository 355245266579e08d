"""Exchange with FiftyOne: a dataset of the whole pool in FiftyOne's own database."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from slim.errors import AnnotationError, SlimError
from slim.stages.annotate.formats.records import AnsweredImage, AnswerRow, Sheet
from slim.stages.annotate.formats.tables import answer_row


def _fiftyone() -> ModuleType:
    try:
        import fiftyone
    except ImportError as error:
        raise SlimError(
            "FiftyOne must be installed to exchange judgements with it. Got no such package. "
            "Install it: pip install 'slim-vision[fiftyone]'"
        ) from error
    module: ModuleType = fiftyone
    return module


def write_fiftyone(sheet: Sheet, name: str) -> None:
    """Make a dataset with a sample for each image of the pool, with these fields.

    ``ground_truth`` and ``prediction`` (classifications), ``attention`` (heatmap), ``attention_score``, ``judgement``
    (the answer that counts, with its ``annotator``), ``answers`` (everybody's, with ``annotator``, ``seconds``,
    ``time`` and ``settles``). Tags: ``query`` and ``judged``.

    Raises
    ------
    SlimError
        FiftyOne is not installed.
    AnnotationError
        A dataset of that name exists.
    """
    fo = _fiftyone()
    if fo.dataset_exists(name):
        raise AnnotationError(
            f"A FiftyOne dataset must have a new name. Got {name!r}, which exists. Choose another, or delete it: "
            f"fiftyone datasets delete {name}"
        )
    dataset = fo.Dataset(name)
    queried = {image.index: image for image in sheet}
    images = (queried.get(index) or sheet.image(index) for index in range(len(sheet.pool.table)))
    dataset.add_samples([_sample(fo, sheet, image, queried=image.index in queried) for image in images])
    dataset.persistent = True  # last: FiftyOne drops an unfinished dataset with the process


def _sample(fo: ModuleType, sheet: Sheet, image: AnsweredImage, *, queried: bool) -> Any:
    tags = [tag for tag, holds in (("query", queried), ("judged", image.judgement is not None)) if holds]
    sample = fo.Sample(image.path, tags=tags)
    sample["ground_truth"] = fo.Classification(label=image.label)
    if image.prediction is not None:
        sample["prediction"] = fo.Classification(label=image.prediction, confidence=image.confidence)
    sample["attention"] = fo.Heatmap(map=np.asarray(sheet.pool.maps[image.index], dtype=np.float32), range=[0, 1])
    if image.score is not None:
        sample["attention_score"] = image.score
    if image.judgement is not None:
        # `exported` reveals a later change in FiftyOne.
        source = {"annotator": image.judged_by, "exported": image.judgement}
        sample["judgement"] = fo.Classification(label=image.judgement, **source)
        answers = [
            fo.Classification(
                label=one.answer, annotator=one.annotator, seconds=one.seconds, time=one.time, settles=one.settles
            )
            for one in image.answers
        ]
        sample["answers"] = fo.Classifications(classifications=answers)
    return sample


def read_fiftyone(name: str) -> list[tuple[str, AnswerRow]]:
    """The answers in a dataset that `write_fiftyone` made.

    A ``judgement`` that was changed in FiftyOne settles its image; one that was added there is an answer of its
    ``annotator``, by default "FiftyOne".

    Raises
    ------
    SlimError
        FiftyOne is not installed.
    AnnotationError
        The dataset does not exist.
    """
    fo = _fiftyone()
    if not fo.dataset_exists(name):
        raise AnnotationError(
            f"A FiftyOne dataset must exist to be imported. Got {name!r}. List them: fiftyone datasets list"
        )
    answers = []
    for sample in fo.load_dataset(name):
        where = f"{sample.filepath} of {name}"
        for one in _field(_field(sample, "answers"), "classifications") or []:
            rest = one["annotator"], one["seconds"], one["time"], one["settles"], where
            answers.append((sample.filepath, answer_row(one.label, *rest)))
        judgement = _field(sample, "judgement")
        if judgement is not None and judgement.label != (exported := _field(judgement, "exported")):
            annotator = (_field(judgement, "annotator") if exported is None else None) or "FiftyOne"
            row = answer_row(judgement.label, annotator, 0, "", exported is not None, where)
            answers.append((sample.filepath, row))
    return answers


def _field(holder: Any, name: str) -> Any:
    """A field, or None if there is none."""
    return holder[name] if holder is not None and holder.has_field(name) else None
