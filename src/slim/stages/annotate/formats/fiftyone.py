"""Exchange with FiftyOne: a dataset of the whole pool in FiftyOne's own database."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from slim.data.archives import inside
from slim.errors import AnnotationError
from slim.optional import optional
from slim.stages.annotate.formats.records import AnsweredImage, AnswerRow, Sheet
from slim.stages.annotate.formats.tables import answer_row
from slim.stages.judgements import Place

_TAGS = ("query", "judged", "subset")


def _fiftyone() -> ModuleType:
    return optional("fiftyone", "fiftyone", "exchange judgements with it")


def write_fiftyone(sheet: Sheet, name: str) -> None:
    """Make a dataset with a sample for each image of the pool, with these fields.

    ``ground_truth`` and ``prediction`` (classifications), ``attention`` (heatmap), ``attention_score``, ``judgement``
    (the answer that counts, with its ``annotator``), ``answers`` (everybody's, with ``annotator``, ``seconds``,
    ``time`` and ``settles``), ``clicks`` (keypoints) and ``boxes`` (detections) that say where the object is, with
    ``annotator`` and ``settles`` of the answer that they belong to. Of later stages, where they are done: ``object``
    (heatmap), ``environment`` and ``core`` (classifications: the clusters that make a cell with the label), and
    ``copies`` (how often the curated subset has the image). Tags: ``query``, ``judged`` and ``subset``; each is also a
    saved view of that name, if it holds images.

    Raises
    ------
    SlimError
        FiftyOne is not installed.
    AnnotationError
        A dataset of that name exists, or a photo lies in a tar archive.
    """
    fo = _fiftyone()
    if fo.dataset_exists(name):
        raise AnnotationError(
            f"A FiftyOne dataset must have a new name. Got {name!r}, which exists. Choose another, or delete it: "
            f"fiftyone datasets delete {name}"
        )
    packed = next((path for path in sheet.pool.table.paths if inside(path)), None)
    if packed is not None:
        raise AnnotationError(
            f"FiftyOne opens the photos itself, and each must be a file of its own. Got {packed}, in a tar archive. "
            "Start a run from unpacked photos, or export to another program (--to)."
        )
    dataset = fo.Dataset(name)
    queried = {image.index: image for image in sheet}
    images = (queried.get(index) or sheet.image(index) for index in range(len(sheet.pool.table)))
    dataset.add_samples([_sample(fo, sheet, image, queried=image.index in queried) for image in images])
    for tag in _TAGS:
        if tag in dataset.distinct("tags"):
            dataset.save_view(tag, dataset.match_tags(tag))
    dataset.persistent = True  # last: FiftyOne drops an unfinished dataset with the process


def _sample(fo: ModuleType, sheet: Sheet, image: AnsweredImage, *, queried: bool) -> Any:
    found = sheet.found
    cell = None if found.cells is None else found.cells.iloc[image.index]
    holds = queried, image.judgement is not None, cell is not None and cell["copies"] > 0
    sample = fo.Sample(image.path, tags=[tag for tag, held in zip(_TAGS, holds, strict=True) if held])
    sample["ground_truth"] = fo.Classification(label=image.label)
    if image.prediction is not None:
        sample["prediction"] = fo.Classification(label=image.prediction, confidence=image.confidence)
    sample["attention"] = _heatmap(fo, sheet.pool.maps[image.index])
    if found.objects is not None:
        sample["object"] = _heatmap(fo, found.objects[image.index])
    if cell is not None:
        sample["core"] = fo.Classification(label=f"core {cell['core_cluster']}")
        sample["environment"] = fo.Classification(label=f"environment {cell['environment_cluster']}")
        sample["copies"] = int(cell["copies"])
    if image.score is not None:
        sample["attention_score"] = image.score
    if image.judgement is not None:
        # `exported` reveals a later change in FiftyOne.
        source = {"annotator": image.judged_by, "exported": image.judgement}
        sample["judgement"] = fo.Classification(label=image.judgement, **source)
    if image.answers:
        answers = [
            fo.Classification(
                label=one.answer, annotator=one.annotator, seconds=one.seconds, time=one.time, settles=one.settles
            )
            for one in image.answers
        ]
        sample["answers"] = fo.Classifications(classifications=answers)
        _add_places(fo, sample, image.answers)
    return sample


def _heatmap(fo: ModuleType, values: Any) -> Any:
    return fo.Heatmap(map=np.asarray(values, dtype=np.float32), range=[0, 1])


def _add_places(fo: ModuleType, sample: Any, answers: Sequence[AnswerRow]) -> None:
    """Add the fields ``clicks`` and ``boxes``, where there are any."""
    placed = [(one, one.place) for one in answers if one.place is not None]
    clicks = [_click(fo, one, place) for one, place in placed if not place.is_box]
    boxes = [_box(fo, one, place) for one, place in placed if place.is_box]
    if clicks:
        sample["clicks"] = fo.Keypoints(keypoints=clicks)
    if boxes:
        sample["boxes"] = fo.Detections(detections=boxes)


def _click(fo: ModuleType, one: AnswerRow, place: Place) -> Any:
    points = [[place.x, place.y]]
    return fo.Keypoint(label=one.answer, points=points, annotator=one.annotator, settles=one.settles)


def _box(fo: ModuleType, one: AnswerRow, place: Place) -> Any:
    corner = [place.x - place.width / 2, place.y - place.height / 2, place.width, place.height]
    return fo.Detection(label=one.answer, bounding_box=corner, annotator=one.annotator, settles=one.settles)


def read_fiftyone(name: str) -> list[tuple[str, AnswerRow]]:
    """The answers in a dataset that `write_fiftyone` made.

    A ``judgement`` that was changed in FiftyOne settles its image; one that was added there is an answer of its
    ``annotator``, by default "FiftyOne". A keypoint in ``clicks`` or a detection in ``boxes`` is the place of the
    answer that has its ``annotator`` and ``settles``.

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
        places = _places(sample)
        for one in _field(_field(sample, "answers"), "classifications") or []:
            rest = one["annotator"], one["seconds"], one["time"], one["settles"], where
            place = places.get((one["annotator"], one["settles"])) if one.label != "unsure" else None
            answers.append((sample.filepath, answer_row(one.label, *rest, place)))
        judgement = _field(sample, "judgement")
        if judgement is not None and judgement.label != (exported := _field(judgement, "exported")):
            annotator = (_field(judgement, "annotator") if exported is None else None) or "FiftyOne"
            settles = exported is not None
            place = places.get((annotator, settles)) if judgement.label != "unsure" else None
            row = answer_row(judgement.label, annotator, 0, "", settles, where, place)
            answers.append((sample.filepath, row))
    return answers


def _places(sample: Any) -> dict[tuple[str, bool], Place]:
    """The places in a sample, by the annotator and whether the answer settles."""
    places = {}
    for one in _field(_field(sample, "clicks"), "keypoints") or []:
        places[_owner(one)] = Place(*_inside(one.points[0]))
    for one in _field(_field(sample, "boxes"), "detections") or []:
        x, y, width, height = one.bounding_box
        places[_owner(one)] = Place(*_inside((x + width / 2, y + height / 2, width, height)))
    return places


def _owner(label: Any) -> tuple[str, bool]:
    """Whose place it is; one that was drawn in FiftyOne may say nothing about it."""
    return _field(label, "annotator") or "FiftyOne", bool(_field(label, "settles"))


def _inside(values: Sequence[float]) -> list[float]:
    """Values as far as they are in the photo, of which a box drawn by hand may stick out."""
    return [min(max(float(value), 0.0), 1.0) for value in values]


def _field(holder: Any, name: str) -> Any:
    """A field, or None if there is none."""
    return holder[name] if holder is not None and holder.has_field(name) else None
