"""Judgements for Label Studio, and back.

A file of tasks in Label Studio's JSON (https://labelstud.io/guide/task_format), photos and maps within it, and beside
it the labelling configuration, with the same name and the ending .xml. Whoever answered stands in a text field of each
annotation, since Label Studio takes only its own users as authors.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from slim.annotation.exchange.records import SCORES, Asked, Given, Sheet
from slim.annotation.exchange.text import given
from slim.annotation.recorded import WORDS
from slim.artifacts import read_json, write_json, write_text
from slim.errors import AnnotationError
from slim.overlay import fitted_size, overlay

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
  <TextArea name="annotator" toName="image" maxSubmissions="1" rows="1" placeholder="Your name"/>
</View>
"""
_SHOWN = {"Right: on the object": "core", "Wrong: beside it": "spurious"}


def write_label_studio(sheet: Sheet, target: Path) -> None:
    """A task for each image that was asked about: people's answers as annotations, oracles' and scores as predictions.

    An answer that settles what people differ about is marked as ground truth.
    """
    write_json(target, [_task(sheet, image) for image in sheet])
    write_text(target.with_suffix(".xml"), CONFIG)


def _task(sheet: Sheet, image: Asked) -> dict[str, Any]:
    photo = sheet.pool.table.image(image.index)
    size = fitted_size(photo, SIDE) if max(photo.size) > SIDE else photo.size
    says = "" if image.prediction is None else f" · the model says {image.prediction} ({image.confidence:.0%})"
    data = {
        "image": _embedded(photo.resize(size, Image.Resampling.LANCZOS)),
        "attention": _embedded(overlay(photo, np.asarray(sheet.pool.maps[image.index]), size)),
        "path": image.path,
        "label": image.label,
        "facts": f"Label {image.label}{says}",
        "answers": [vars(one) for one in image.answers],  # tells what was changed there from what only came back
    }
    predictions = [
        {"model_version": one.annotator, "score": 1.0, "result": [_choice(one.answer)]}
        for one in image.answers
        if one.by_oracle
    ]
    if image.score is not None:
        kind = "core" if image.score >= 0.5 else "spurious"
        sure = max(image.score, 1 - image.score)
        predictions.append({"model_version": SCORES, "score": sure, "result": [_choice(kind)]})
    people = [one for one in image.answers if not one.by_oracle]
    return {"data": data, "predictions": predictions, "annotations": [_annotation(one) for one in people]}


def _choice(answer: str) -> dict[str, Any]:
    return {
        "id": "judgement",
        "from_name": "judgement",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [answer]},
    }


def _annotation(one: Given) -> dict[str, Any]:
    who = {"id": "annotator", "from_name": "annotator", "to_name": "image", "type": "textarea"}
    result = [_choice(one.answer), {**who, "value": {"text": [one.annotator]}}]
    return {"result": result, "lead_time": one.seconds, "ground_truth": one.settles, "was_cancelled": False}


def _embedded(photo: Image.Image) -> str:
    """An image as an address that holds it."""
    buffer = io.BytesIO()
    photo.convert("RGB").save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def read_label_studio(source: Path) -> list[tuple[str, Given]]:
    """The answers in Label Studio's JSON export of a project that `write_label_studio`'s file was imported into.

    Whoever left the field for his name empty is called by his address or number there. Skipped tasks and predictions
    are no answers.
    """
    tasks = read_json(source)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "data" in task for task in tasks):
        raise AnnotationError(f"{source} must hold Label Studio's tasks. Got something else. Export them as JSON.")
    found = []
    for number, task in enumerate(tasks, 1):
        path, where = task["data"].get("path"), f"task {number} of {source}"
        if not path:
            raise AnnotationError(
                f'Tasks must say which image they are of in "path". Got none in {where}. Begin with slim export.'
            )
        before = [given(**one, where=where) for one in task["data"].get("answers", [])]
        for annotation in task.get("annotations", []):
            if not annotation.get("was_cancelled") and (one := _answer(annotation, before, where)):
                found.append((str(path), one))
    return found


def _answer(annotation: dict[str, Any], before: list[Given], where: str) -> Given | None:
    """What an annotation says; as it was exported, where nobody has changed it."""
    values = {part.get("from_name"): part.get("value", {}) for part in annotation.get("result", [])}
    said = next(iter(values.get("judgement", {}).get("choices", [])), None)
    if said is None:
        return None
    names = [name.strip() for name in values.get("annotator", {}).get("text", []) if name.strip()]
    who = names[0] if names else _user(annotation.get("completed_by"))
    answer = _SHOWN.get(said, said)
    settles = bool(annotation.get("ground_truth"))
    same = (one for one in before if (one.answer, one.annotator, one.settles) == (WORDS.get(answer), who, settles))
    time = annotation.get("updated_at") or annotation.get("created_at")
    return next(same, None) or given(answer, who, annotation.get("lead_time"), time, settles, where)


def _user(user: Any) -> str:
    """What to call an author of Label Studio's."""
    if isinstance(user, dict):
        return str(user.get("email") or user.get("username") or f"Label Studio {user.get('id', 'user')}")
    return "Label Studio" if user is None else f"Label Studio {user}"
