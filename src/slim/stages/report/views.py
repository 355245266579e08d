"""What the page shows: texts, numbers and pictures, ready for the template."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from slim.overlay import overlay
from slim.pages import data_uri
from slim.stages.judgements import Place
from slim.stages.report.examples import SAMPLE
from slim.stages.report.figure import colours, draw_space
from slim.stages.report.findings import evaluations, headline, measure, notices
from slim.stages.report.records import MODEL_KEYS, SPLIT_NAMES, THUMBNAIL, Example, QueryCard, ReportInput
from slim.stages.report.summary import summary
from slim.stages.report.wording import plain
from slim.stages.retrain.choices import ModelKey

MAX_POINTS = 20_000  # of the attention space on the page; more would only make the file larger
VISIBLE_QUERIES = 12  # the others are folded away
_RING = 7  # pixels from a click to its ring
MEASURES = {
    "inside_fraction": ("Inside fraction", "share of the strong attention (0.8 or more) that falls on the object"),
    "energy_inside": ("Energy inside", "share of all attention that falls on the object"),
    "iou": ("IoU", "overlap of the attention map with the object’s mask"),
    "aiou": ("AIoU", "IoU of the label’s map relative to the best IoU of another class’s map"),
    "pointing_game": ("Pointing game", "share of the images whose strongest point lies on the object"),
}


def _thumbnail(photo: Image.Image) -> Image.Image:
    """A small copy of the whole frame."""
    small = photo.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return small


def _example_view(example: Example, titles: Mapping[ModelKey, str]) -> dict[str, Any]:
    """The photograph, and the attention and prediction of each model shown."""
    photo = _thumbnail(example.photo)
    keys: list[ModelKey] = [key for key in ("reference", "retrained") if key in example.maps]
    looks = [
        {
            "key": key,
            "title": titles[key],
            "image": data_uri(overlay(photo, example.maps[key], photo.size)),
            "prediction": example.predictions[key][0],
            "confidence": plain(example.predictions[key][1]),
            "right": example.predictions[key][0] == example.label,
        }
        for key in keys
    ]
    shown = {"label": example.label, "group": example.group, "moved": example.moved}
    return {"photo": data_uri(photo), "looks": looks, **shown}


def _query_view(query: QueryCard) -> dict[str, str]:
    """The judged image under its map, and the answer."""
    photo = _thumbnail(query.photo)
    picture = overlay(photo, query.map, photo.size)
    if query.place is not None:
        _mark(picture, query.place)
    return {"image": data_uri(picture), "label": query.label, "answer": query.answer}


def _mark(picture: Image.Image, place: Place) -> None:
    """Draw where the object is: a ring at a click, or the box, white with dark edges."""
    width, height = picture.size
    half = (place.width * width / 2, place.height * height / 2) if place.is_box else (_RING, _RING)
    x, y = place.x * width, place.y * height
    corners = (x - half[0], y - half[1], x + half[0], y + half[1])
    draw = ImageDraw.Draw(picture)
    shape = draw.rectangle if place.is_box else draw.ellipse
    for colour, line in (("black", 5), ("white", 2)):
        grown = (line - 2) / 2
        shape((corners[0] - grown, corners[1] - grown, corners[2] + grown, corners[3] + grown), None, colour, line)


def _aspect(photos: Sequence[Image.Image]) -> float:
    """Width over height of the frames on the page: the photographs' own where most agree, never extreme."""
    return min(max(median([photo.width / photo.height for photo in photos] or [1.0]), 0.75), 4 / 3)


def _group_views(report: ReportInput, evaluated: Mapping[ModelKey, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per group with every model's accuracy, the rarest group in training first."""
    counts = {group["name"]: group["train"] for group in report.data.groups}
    lines = {key: {g["name"]: g for g in evaluation["groups"]} for key, evaluation in evaluated.items()}
    names = list(dict.fromkeys(name for of_model in lines.values() for name in of_model))
    views = []
    for name in names:
        points = {key: of_model[name] for key, of_model in lines.items() if name in of_model}
        first = next(iter(points.values()))
        worst = {key: evaluated[key]["worst_group"] == name for key in points}
        share = first.get("training_share")
        views.append(
            {"name": name, "n": first["n"], "share": share, "train": counts.get(name), "points": points, "worst": worst}
        )
    return sorted(views, key=_rarest_first)


def _rarest_first(view: Mapping[str, Any]) -> tuple[float, float]:
    """Sort key: share of the training images, then the reference model's accuracy; unknown ones last."""
    accuracy = view["points"].get("reference", {}).get("accuracy")
    return (math.inf if view["share"] is None else view["share"], math.inf if accuracy is None else accuracy)


def _measure_views(evaluated: Mapping[ModelKey, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per measure of attention quality; none without masks or boxes."""
    views = []
    for name, (title, meaning) in MEASURES.items():
        taken = {key: measure(evaluation, name) for key, evaluation in evaluated.items()}
        points = {key: point for key, point in taken.items() if point.get("value") is not None}
        if points:
            first = next(iter(points.values()))
            same = {"n": first["n"], "uniform": first["uniform"]}  # for every model
            views.append({"title": title, "meaning": meaning, "points": points, **same})
    return views


def _cell_views(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The cells of each class as a grid: core clusters down, environment clusters across."""
    largest = max((cell["size"] for cell in cells), default=0) or 1
    views = []
    for name in dict.fromkeys(cell["class"] for cell in cells):
        own = [cell for cell in cells if cell["class"] == name]
        at = {(cell["core_cluster"], cell["environment_cluster"]): cell for cell in own}
        down, across = (sorted({place[axis] for place in at}) for axis in (0, 1))
        grid = [[at.get((i, j)) for j in across] for i in down]
        views.append({"class": name, "down": down, "across": across, "grid": grid, "largest": largest})
    return views


def _space_view(report: ReportInput) -> dict[str, Any] | None:
    """The picture of the attention space, and how many images it shows: a seeded sample of a large one."""
    scatter = report.scatter
    if scatter is None or not len(scatter.coordinates):
        return None
    total = len(scatter.coordinates)
    shown = np.arange(total)
    if total > MAX_POINTS:
        shown = np.sort(np.random.default_rng(report.seed).choice(total, MAX_POINTS, replace=False))
    picture = draw_space(scatter, shown)
    legends = {"Label": colours(report.data.class_names)}
    if scatter.a is not None:
        legends["Spurious attribute"] = colours(report.data.attribute_names)
    counts = {"shown": len(shown), "total": total, "judged": len(scatter.queries)}
    return {
        "image": data_uri(picture, "PNG"),
        "width": picture.width,
        "height": picture.height,
        "legends": legends,
        **counts,
    }


def _object_view(report: ReportInput) -> dict[str, Any] | None:
    """The picture of the object maps, and how far to trust them."""
    card = report.objects
    if card is None:
        return None
    sheet = card.sheet
    size = {"width": sheet.width, "height": sheet.height}
    return {"image": data_uri(sheet), "source": card.source, "trust": plain(card.trust), **size}


def page_view(report: ReportInput) -> dict[str, Any]:
    """Everything that the template shows."""
    evaluated = evaluations(report)
    titles = {row.key: row.title for row in report.rows}
    return {
        "report": report,
        "headline": headline(report),
        "notices": notices(report),
        "models": sorted(report.rows, key=lambda row: MODEL_KEYS.index(row.key)),
        "evaluated": evaluated,
        "titles": titles,
        "groups": _group_views(report, evaluated),
        "groups_are": evaluated["reference"].get("groups_are", "label x attribute").replace(" x ", " × "),
        "examples": [_example_view(example, titles) for example in report.examples],
        "moved": [_example_view(example, titles) for example in report.moved],
        "sample": SAMPLE,
        "summary": summary(report),
        "queries": [_query_view(query) for query in report.queries],
        "visible_queries": VISIBLE_QUERIES,
        "aspect": _aspect([example.photo for example in report.examples] + [query.photo for query in report.queries]),
        "judgements": {"seconds": 0.0, "places": 0, **plain(report.judgements)},
        "pool": SPLIT_NAMES[report.judgements["pool"]],
        "trust": plain(report.trust),
        "cells": _cell_views(plain(report.subset)),
        "repeats": any(cell["size"] > cell["available"] for cell in report.subset),
        "measures": _measure_views(evaluated),
        "space": _space_view(report),
        "objects": _object_view(report),
        "total": sum(stage["seconds"] for stage in report.stages),
        "slowest": max((stage["seconds"] for stage in report.stages), default=0) or 1,
    }
