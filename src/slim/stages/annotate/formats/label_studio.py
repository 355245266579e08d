"""Exchange with Label Studio.

An export is a file of tasks in Label Studio's JSON format (https://labelstud.io/guide/task_format), with photos and
maps embedded, and beside it the labelling configuration under the same name with the suffix .xml. A text field of each
annotation names its annotator, since Label Studio accepts only its own users as authors. A click is a key point
(https://labelstud.io/tags/keypointlabels) and a box a rectangle (https://labelstud.io/tags/rectanglelabels), in percent
of the image; a rectangle is named by its upper left corner.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from slim.errors import AnnotationError, SlimWarning
from slim.files import read_json, write_json, write_text
from slim.overlay import fitted_size, overlay
from slim.pages import data_uri
from slim.stages.annotate.formats.records import SCORES, AnsweredImage, AnswerRow, Sheet, same_place, well_formed
from slim.stages.annotate.formats.tables import answer_row
from slim.stages.annotate.recorded import WORDS
from slim.stages.judgements import Place

SIDE = 512  # pixels of the longer side
CONFIG = """<View>
  <Header value="Does the model look at the object itself?"/>
  <Text name="facts" value="$facts"/>
  <View style="display: grid; grid-template-columns: 1fr 1fr; gap: 12px">
    <Image name="image" value="$image"/>
    <Image name="attention" value="$attention"/>
  </View>
  <Choices name="judgement" toName="image" choice="single" required="true" showInline="true">
    <Choice value="Right: on the object" alias="core" hotkey="c"/>
    <Choice value="Wrong: beside it" alias="spurious" hotkey="s"/>
    <Choice value="Unsure" alias="unsure" hotkey="u"/>
  </Choices>
  <View style="display: flex; gap: 12px">
    <KeyPointLabels name="click" toName="image">
      <Label value="Click on the object" background="#0aa"/>
    </KeyPointLabels>
    <RectangleLabels name="box" toName="image" canRotate="false">
      <Label value="Box around the object" background="#0aa"/>
    </RectangleLabels>
  </View>
  <TextArea name="annotator" toName="image" maxSubmissions="1" rows="1" placeholder="Your name"/>
</View>
"""
_CLICK, _BOX = "Click on the object", "Box around the object"
_POINT = 1.0  # size of a key point, in percent of the image
_SHOWN = {"Right: on the object": "core", "Wrong: beside it": "spurious"}


def write_label_studio(sheet: Sheet, target: Path) -> None:
    """Write a task for each image, with people's answers as annotations, oracles' answers and scores as predictions.

    An answer that settles a disagreement is marked as ground truth.
    """
    write_json(target, [_task(sheet, image) for image in sheet])
    write_text(target.with_suffix(".xml"), CONFIG)


def _task(sheet: Sheet, image: AnsweredImage) -> dict[str, Any]:
    photo = sheet.pool.table.image(image.index)
    size = fitted_size(photo, SIDE) if max(photo.size) > SIDE else photo.size
    predicted = "" if image.prediction is None else f" · predicted {image.prediction} ({image.confidence:.0%})"
    data = {
        "image": data_uri(photo.resize(size, Image.Resampling.LANCZOS).convert("RGB")),
        "attention": data_uri(overlay(photo, np.asarray(sheet.pool.maps[image.index]), size)),
        "path": image.path,
        "label": image.label,
        "facts": f"Label {image.label}{predicted}",
        "answers": [
            asdict(one) for one in image.answers
        ],  # to distinguish what changes there from what only comes back
    }
    predictions = [
        {"model_version": one.annotator, "score": 1.0, "result": [_choice(one.answer), *_region(one.place, size)]}
        for one in image.answers
        if one.by_oracle
    ]
    if image.score is not None:
        kind = "core" if image.score >= 0.5 else "spurious"
        confidence = max(image.score, 1 - image.score)
        predictions.append({"model_version": SCORES, "score": confidence, "result": [_choice(kind)]})
    people = [one for one in image.answers if not one.by_oracle]
    return {"data": data, "predictions": predictions, "annotations": [_annotation(one, size) for one in people]}


def _choice(answer: str) -> dict[str, Any]:
    return {
        "id": "judgement",
        "from_name": "judgement",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [answer]},
    }


def _region(place: Place | None, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The key point or rectangle of a place, on an image of this width and height; none without a place."""
    if place is None:
        return []
    image = {"to_name": "image", "original_width": size[0], "original_height": size[1], "image_rotation": 0}
    x, y, width, height = (100 * value for value in place.columns)
    if not place.is_box:
        value: dict[str, Any] = {"x": x, "y": y, "width": _POINT, "keypointlabels": [_CLICK]}
        return [{"id": "click", "from_name": "click", "type": "keypointlabels", **image, "value": value}]
    corner = {"x": x - width / 2, "y": y - height / 2, "width": width, "height": height, "rotation": 0}
    box = {"id": "box", "from_name": "box", "type": "rectanglelabels", **image}
    return [{**box, "value": {**corner, "rectanglelabels": [_BOX]}}]


def _annotation(one: AnswerRow, size: tuple[int, int]) -> dict[str, Any]:
    name = {"id": "annotator", "from_name": "annotator", "to_name": "image", "type": "textarea"}
    result = [_choice(one.answer), {**name, "value": {"text": [one.annotator]}}, *_region(one.place, size)]
    return {"result": result, "lead_time": one.seconds, "ground_truth": one.settles, "was_cancelled": False}


def read_label_studio(source: Path) -> list[tuple[str, AnswerRow]]:
    """The answers in Label Studio's JSON export of a project made from the file of `write_label_studio`.

    An annotator who left the name field empty is named by their email address or user number in Label Studio. Skipped
    tasks and predictions do not count as answers. Of several key points and rectangles, the last one is the place; an
    unsure answer has none. Warns of annotations without a judgement.
    """
    tasks = read_json(source)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "data" in task for task in tasks):
        raise AnnotationError(f"{source} must hold Label Studio's tasks. Got something else. Export them as JSON.")
    answers, left_out = [], []
    for number, task in enumerate(tasks, 1):
        with well_formed(source):
            found, tags = _of_task(task, f"task {number} of {source}")
        answers += found
        left_out += tags
    if left_out:
        _tell_left_out(left_out, source, some=bool(answers))
    return answers


def _of_task(task: dict[str, Any], where: str) -> tuple[list[tuple[str, AnswerRow]], list[str]]:
    """The answers in a task, and the tags of annotations without one."""
    answers, left_out = [], []
    data = task["data"] or {}
    path = data.get("path")
    if not path:
        raise AnnotationError(
            f'Tasks must name their image in "path". Got none in {where}. Start from a file that slim export wrote.'
        )
    before = [answer_row(**one, where=where) for one in data.get("answers") or []]
    for annotation in task.get("annotations") or []:
        if annotation.get("was_cancelled") or not annotation.get("result"):
            continue
        if one := _answer(annotation, before, where):
            answers.append((str(path), one))
        else:
            left_out.append(", ".join(sorted({str(part.get("from_name")) for part in annotation["result"]})))
    return answers, left_out


def _tell_left_out(tags: list[str], source: Path, some: bool) -> None:
    """Warn of annotations without a judgement, by their tags; refuse a file in which no annotation has one."""
    got = f"{len(tags)} annotations without one in {source}, but with {' or '.join(sorted(set(tags)))}"
    if not some:
        raise AnnotationError(
            f'Annotations must have a choice in the tag "judgement". Got {got}. '
            "Give the tag its name back in the labelling interface, and export again."
        )
    text = f'Annotations must have a choice in the tag "judgement". Got {got}. They are left out.'
    warnings.warn(text, SlimWarning, stacklevel=3)


def _answer(annotation: dict[str, Any], before: list[AnswerRow], where: str) -> AnswerRow | None:
    """The answer in an annotation, as it was exported if it has not changed; None if it has no judgement."""
    values = {part.get("from_name"): part.get("value") or {} for part in annotation["result"]}
    choices = values.get("judgement", {}).get("choices") or []
    if len(choices) > 1:
        raise AnnotationError(
            f"An annotation must have one judgement. Got {', '.join(choices)} in {where}. Keep one of them."
        )
    if not choices:
        return None
    (choice,) = choices
    texts = values.get("annotator", {}).get("text") or []
    names = [name.strip() for name in ([texts] if isinstance(texts, str) else texts) if name and name.strip()]
    annotator = names[0] if names else _user(annotation.get("completed_by"))
    answer = _SHOWN.get(choice, choice)
    settles = bool(annotation.get("ground_truth"))
    content = (WORDS.get(answer), annotator, settles)
    place = _place(annotation["result"]) if content[0] != "unsure" else None
    same = (one for one in before if (one.answer, one.annotator, one.settles) == content)
    unchanged = next((one for one in same if same_place(one.place, place)), None)
    time = annotation.get("updated_at") or annotation.get("created_at")
    return unchanged or answer_row(answer, annotator, annotation.get("lead_time"), time, settles, where, place)


def _place(result: list[dict[str, Any]]) -> Place | None:
    """The last key point or rectangle of an annotation, as far as it is in the image."""
    kinds = ("keypointlabels", "rectanglelabels")
    regions = [part["value"] for part in result if part.get("type") in kinds and part.get("value")]
    if not regions:
        return None
    x, y, width, height = (float(regions[-1].get(name) or 0) / 100 for name in ("x", "y", "width", "height"))
    if "keypointlabels" in regions[-1]:
        width = height = 0.0
    return Place(*(min(max(value, 0.0), 1.0) for value in (x + width / 2, y + height / 2, width, height)))


def _user(user: Any) -> str:
    """The name of a Label Studio user."""
    if isinstance(user, dict):
        return str(user.get("email") or user.get("username") or f"Label Studio {user.get('id', 'user')}")
    return "Label Studio" if user is None else f"Label Studio {user}"
