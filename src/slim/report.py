"""The last stage: what a run found, as one page for people and one `metrics.json` for programs.

The page is one file that asks the network for nothing: styles, scripts, photographs and Plotly are inside it, and
its content security policy forbids the rest. Numbers come in; this module words, draws and embeds them, and it
words a result that is no success as plainly as one that is.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from plotly.colors import hex_to_rgb, sequential
from plotly.offline import get_plotlyjs
from rich import box
from rich.table import Table
from rich.text import Text

from slim.artifacts import write_json, write_text
from slim.errors import ArtifactError

ModelKey = Literal["reference", "random_subset", "retrained"]
Verdict = Literal["helped", "near_random", "within_error", "no_better_than_random", "did_not_help"]
MODEL_KEYS: tuple[ModelKey, ...] = ("reference", "random_subset", "retrained")
MAX_POINTS = 20_000  # of the attention space on the page; more only makes the file heavy
THUMBNAIL = 200  # pixels of a photograph's longer side
VISIBLE_QUERIES = 12  # the others lie behind a fold
NO_VALUE = "–"


@dataclass(frozen=True)
class DataSummary:
    """What the models were trained and tested on.

    Attributes
    ----------
    name
        The data set's name.
    splits
        Number of images of each split: ``{"train": 4795, "val": 1199, "test": 5794}``. ``"train"`` must be there.
    class_names
        Name of each label.
    attribute_names
        Name of each value of the spurious attribute; empty without one.
    groups
        ``{"name": str, "train": int}`` for each group, where the training counts are known.
    """

    name: str
    splits: Mapping[str, int]
    class_names: Sequence[str]
    attribute_names: Sequence[str] = ()
    groups: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class ModelRow:
    """One model's line in the comparison.

    Attributes
    ----------
    key
        Which of the three models it is.
    title
        Its name for readers, for instance ``"Reference model"``.
    supervision
        What it was told, for instance ``"class labels + 40 judgements"``.
    train_images
        How many images it was trained on.
    evaluation
        ``worst_group_accuracy``, ``worst_group``, ``average_accuracy``, ``adjusted_average_accuracy`` (or None),
        ``group_mean_accuracy``, ``groups`` (``name``, ``n``, ``correct``, ``accuracy``, ``low``, ``high``,
        ``training_share`` or None), ``groups_are``, ``missing_groups``, ``predicts_one_class`` and ``attention``:
        None without masks, else ``value``, ``uniform`` and ``n`` of each measure. Accuracies are fractions in [0, 1].
    """

    key: ModelKey
    title: str
    supervision: str
    train_images: int
    evaluation: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Example:
    """One photograph as several models see it.

    Attributes
    ----------
    photo
        The whole frame, of any size.
    maps
        Each model's attention map of it, (h, w) in [0, 1].
    label
        Name of its class.
    predictions
        Each model's predicted class name, and its confidence in [0, 1].
    group
        Name of its group.
    """

    photo: Image.Image
    maps: Mapping[ModelKey, np.ndarray]
    label: str
    predictions: Mapping[ModelKey, tuple[str, float]]
    group: str


@dataclass(frozen=True, eq=False)
class QueryCard:
    """One image that was shown for judging, its attention map (h, w), and the answer: core, spurious or unsure."""

    photo: Image.Image
    map: np.ndarray
    label: str
    answer: str


@dataclass(frozen=True, eq=False)
class Scatter:
    """The attention space.

    Attributes
    ----------
    coordinates
        (n, 2) place of each training image.
    y
        (n,) labels.
    scores
        (n,) attention scores in [0, 1]; 1 = looks at the core.
    queries
        (m,) rows that were judged.
    answers
        The m answers, in the order of `queries`.
    a
        (n,) spurious attribute, or None.
    """

    coordinates: np.ndarray
    y: np.ndarray
    scores: np.ndarray
    queries: np.ndarray
    answers: Sequence[str]
    a: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class ReportInput:
    """Everything that a report says.

    Attributes
    ----------
    title
        The run's name.
    data
        What the models were trained and tested on.
    rows
        The models; the reference and the retrained one must be among them.
    judgements
        ``asked``, ``core``, ``spurious``, ``unsure`` (counts), ``share_of_train`` (a fraction) and ``annotator``.
    subset_size
        Number of images in the subset.
    seed, version, created, device
        What made the run, when and where.
    trust
        For each class: ``class_name``, ``auc``, ``low``, ``high`` (None where undefined), ``verdict``, ``n_core``,
        ``n_spurious`` and ``n_unsure``.
    scatter
        The attention space, or None to leave it out.
    subset
        For each cell: ``class``, ``core_cluster``, ``environment_cluster``, ``available``, ``share`` and ``size``.
    examples, queries
        Photographs to show; may be empty.
    stages
        ``stage`` and ``seconds`` of each.
    settings
        Each stage's settings.
    warnings
        What a reader must know before trusting the numbers.

    Raises
    ------
    ArtifactError
        The reference or the retrained model is not among the rows.
    """

    title: str
    data: DataSummary
    rows: Sequence[ModelRow]
    judgements: Mapping[str, Any]
    subset_size: int
    seed: int
    version: str
    created: str
    device: str = "cpu"
    trust: Sequence[Mapping[str, Any]] = ()
    scatter: Scatter | None = None
    subset: Sequence[Mapping[str, Any]] = ()
    examples: Sequence[Example] = ()
    queries: Sequence[QueryCard] = ()
    stages: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def __post_init__(self) -> None:
        keys = {row.key for row in self.rows}
        if not {"reference", "retrained"} <= keys:
            raise ArtifactError(
                "A report must compare the reference with the retrained model. "
                f"Got rows for: {', '.join(sorted(keys)) or 'no model'}. Evaluate both models first."
            )


@dataclass(frozen=True)
class Headline:
    """What the run found, in words.

    Attributes
    ----------
    verdict
        ``helped``; ``near_random``: helped, but not clearly more than a random subset; ``within_error``: better, but
        the worst groups' intervals overlap; ``no_better_than_random``; ``did_not_help``.
    text
        One sentence.
    detail
        The sentences that put it in proportion.
    """

    verdict: Verdict
    text: str
    detail: str


def _plain(value: Any) -> Any:
    """The value as JSON knows it: built-in types only, None for NaN and infinities."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _percent(value: float | None) -> str:
    """An accuracy as readers see it, for instance 83.0 %."""
    return NO_VALUE if value is None else f"{100 * value:.1f}\u00a0%"


def _decimal(value: float | None) -> str:
    """A measure as readers see it, for instance 0.83."""
    return NO_VALUE if value is None else f"{value:.2f}"


def _duration(seconds: float) -> str:
    """Seconds as a person says them: 4.2 s, 3 min 12 s, 1 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}\u00a0min {rest}\u00a0s"
    return f"{minutes // 60}\u00a0h {minutes % 60}\u00a0min"


def _evaluations(report: ReportInput) -> dict[ModelKey, dict[str, Any]]:
    """Plain evaluation of each model, in the order of the page."""
    found = {row.key: _plain(row.evaluation) for row in report.rows}
    return {key: found[key] for key in MODEL_KEYS if key in found}


def _worst(evaluation: Mapping[str, Any]) -> Mapping[str, Any]:
    """The line of the group that gives the worst-group accuracy."""
    return next((g for g in evaluation["groups"] if g["name"] == evaluation["worst_group"]), {})


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the intervals of the two worst groups overlap; unknown intervals count as overlapping."""
    first, second = _worst(one), _worst(other)
    if any(line.get(side) is None for line in (first, second) for side in ("low", "high")):
        return True
    return bool(first["low"] <= second["high"] and second["low"] <= first["high"])


def _verdict(found: Mapping[ModelKey, Mapping[str, Any]]) -> Verdict:
    """What the worst groups of the three models say."""
    before, after, by_chance = found["reference"], found["retrained"], found.get("random_subset")
    accuracy = after["worst_group_accuracy"]
    if accuracy <= before["worst_group_accuracy"]:
        return "did_not_help"
    if by_chance and accuracy <= by_chance["worst_group_accuracy"]:
        return "no_better_than_random"
    if _overlap(before, after):
        return "within_error"
    return "near_random" if by_chance and _overlap(by_chance, after) else "helped"


_SENTENCES: dict[Verdict, str] = {
    "helped": "SLIM raised worst-group accuracy from {before} to {after}.",
    "near_random": "SLIM raised worst-group accuracy from {before} to {after}; "
    "its lead over a random subset is within the error.",
    "within_error": "SLIM’s gain is within the error: worst-group accuracy went from {before} to {after}.",
    "no_better_than_random": "SLIM did not help here: a random subset of the same size does as well or better.",
    "did_not_help": "SLIM did not help here: worst-group accuracy went from {before} to {after}.",
}


def _comparison(found: Mapping[ModelKey, Mapping[str, Any]]) -> list[str]:
    """Whether SLIM's worst group differs from the other models' by more than the error."""
    names: dict[ModelKey, str] = {"reference": "from the reference model"}
    if "random_subset" in found:
        reached = _percent(found["random_subset"]["worst_group_accuracy"])
        names["random_subset"] = f"from a random subset of the same size ({reached})"
    sentences = []
    for within, rest in (
        (False, "larger than the error."),
        (True, "within the error: the 95\u00a0% intervals overlap."),
    ):
        own = [name for key, name in names.items() if _overlap(found[key], found["retrained"]) is within]
        subject = "The differences {} are" if len(own) > 1 else "The difference {} is"
        sentences += [f"{subject.format(' and '.join(own))} {rest}"] if own else []
    return sentences


def headline(report: ReportInput) -> Headline:
    """Say what the run found, as plainly when SLIM did not help as when it did.

    Two models differ only where the Wilson intervals of their worst groups do not overlap, which is stricter than a
    test of the difference.

    Examples
    --------
    >>> def row(key, accuracy, low, high):
    ...     group = {"name": "cat, place=1", "n": 100, "accuracy": accuracy, "low": low, "high": high}
    ...     evaluation = {"worst_group_accuracy": accuracy, "worst_group": "cat, place=1", "groups": [group],
    ...                   "average_accuracy": 0.9}
    ...     return ModelRow(key, key, "class labels", 200, evaluation)
    >>> report = ReportInput("demo", DataSummary("pets", {"train": 200}, ("cat", "dog")),
    ...                      [row("reference", 0.8, 0.71, 0.87), row("retrained", 0.7, 0.6, 0.78)],
    ...                      {"asked": 40, "share_of_train": 0.2}, 20, seed=0, version="0.1.0", created="today")
    >>> headline(report).verdict
    'did_not_help'
    """
    found = _evaluations(report)
    verdict = _verdict(found)
    before, after = found["reference"], found["retrained"]
    numbers = {"before": _percent(before["worst_group_accuracy"]), "after": _percent(after["worst_group_accuracy"])}
    asked = report.judgements
    cost = (
        f"It took {asked['asked']:,} judgements ({_percent(_plain(asked['share_of_train']))} of the training images) "
        f"and a subset of {report.subset_size:,} images."
    )
    average = (
        f"Average accuracy went from {_percent(before['average_accuracy'])} to {_percent(after['average_accuracy'])}."
    )
    detail = " ".join([cost, *_comparison(found), average])
    return Headline(verdict, _SENTENCES[verdict].format(**numbers), detail)


def _notices(report: ReportInput) -> list[str]:
    """The run's warnings, and what the evaluations themselves warn of."""
    notices = list(report.warnings)
    for row in report.rows:
        if row.evaluation.get("predicts_one_class"):
            notices.append(f"{row.title} predicts one class for every test image. Look at its training first.")
    missing = sorted({name for row in report.rows for name in row.evaluation.get("missing_groups", ())})
    if missing:
        notices.append(
            "Without a test image, and so in no worst-group accuracy on this page: "
            f"{'; '.join(missing)}. The true worst group may be among them."
        )
    return notices


def _row_metrics(row: ModelRow) -> dict[str, Any]:
    """One model's part of the metrics."""
    evaluation: dict[str, Any] = _plain(row.evaluation)
    named = {
        "title": row.title,
        "supervision": row.supervision,
        "train_images": row.train_images,
        "inside_fraction": (_measure(evaluation, "inside_fraction") or {}).get("value"),
    }
    return named | evaluation


def metrics(report: ReportInput) -> dict[str, Any]:
    """All numbers of a run as JSON knows them.

    Parameters
    ----------
    report
        What the run found.

    Returns
    -------
    dict
        ``reference``, ``random_subset`` and ``retrained``, each the model's evaluation with ``inside_fraction`` (None
        without masks), ``train_images`` and ``supervision`` (None for a model that was not evaluated);
        ``judgements`` (how many were asked), ``judgement_answers``, ``train_images`` (of the train split),
        ``subset_size``, ``trust``, ``verdict``, ``headline``, ``warnings`` and what made the run. Where a number is
        undefined there is None, never NaN.
    """
    rows = {row.key: row for row in report.rows}
    found = headline(report)
    values = {
        "title": report.title,
        "verdict": found.verdict,
        "headline": found.text,
        **{str(key): _row_metrics(rows[key]) if key in rows else None for key in MODEL_KEYS},
        "judgements": report.judgements["asked"],
        "judgement_answers": report.judgements,
        "train_images": report.data.splits["train"],
        "subset_size": report.subset_size,
        "dataset": {item.name: getattr(report.data, item.name) for item in fields(report.data)},
        "trust": report.trust,
        "cells": report.subset,
        "warnings": _notices(report),
        "stages": report.stages,
        "settings": report.settings,
        **{name: getattr(report, name) for name in ("seed", "version", "created", "device")},
    }
    return {key: _plain(value) for key, value in values.items()}


def _interval(line: Mapping[str, Any], scale: Callable[[float | None], str] = _percent) -> str:
    """An interval without the repeated unit: 33.9–42.7 %."""
    low, high = line.get("low"), line.get("high")
    if low is None or high is None:
        return NO_VALUE
    return f"{scale(low).removesuffix(chr(0xA0) + '%')}–{scale(high)}"


def _measure(evaluation: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """One measure of attention quality, or None where it was not taken."""
    return (evaluation.get("attention") or {}).get(name)


def table(rows: Sequence[ModelRow]) -> Table:
    """Return the comparison as a table for the terminal.

    Parameters
    ----------
    rows
        The models, in the order of the table's lines.

    Examples
    --------
    >>> group = {"name": "cat", "n": 4, "accuracy": 0.75, "low": 0.3, "high": 0.95}
    >>> evaluation = {"worst_group_accuracy": 0.75, "worst_group": "cat", "average_accuracy": 0.9, "groups": [group]}
    >>> table([ModelRow("reference", "Reference model", "class labels", 100, evaluation)]).row_count
    1
    """
    evaluations = [_plain(row.evaluation) for row in rows]
    measures = [_measure(evaluation, "inside_fraction") for evaluation in evaluations]
    uniform = next((m["uniform"] for m in measures if m), None)
    caption = "Worst-group accuracy: accuracy on the group where the model does worst, with its 95 % Wilson interval."
    result = Table(caption_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    result.add_column("Model")
    for title in ("Worst-group\naccuracy", "Average\naccuracy"):
        result.add_column(title, justify="right")
    if uniform is not None:
        result.add_column("Inside\nfraction", justify="right")
        caption += (
            "\nInside fraction: the part of the strong attention that falls on the object; "
            f"a map that looks everywhere alike gets {_decimal(uniform)}."
        )
    result.add_column("Supervision")
    result.caption = caption
    for row, evaluation, measure in zip(rows, evaluations, measures, strict=True):
        worst = f"{_percent(evaluation['worst_group_accuracy'])}\n({_interval(_worst(evaluation))})"
        inside = [] if uniform is None else [f"{_decimal((measure or {}).get('value'))}\n(uniform {_decimal(uniform)})"]
        cells = [row.title, worst, _percent(evaluation["average_accuracy"]), *inside, row.supervision]
        result.add_row(*(Text(cell) for cell in cells))
    return result


def _colours() -> np.ndarray:
    """The map's colour scale, (256, 3) in [0, 255]: perceptually even, and readable without red-green vision."""
    anchors = np.array([hex_to_rgb(colour) for colour in sequential.Inferno], dtype=float)
    places = np.linspace(0, len(anchors) - 1, 256)
    return np.stack([np.interp(places, np.arange(len(anchors)), channel) for channel in anchors.T], axis=1)


def _thumbnail(photo: Image.Image) -> Image.Image:
    """A small copy of the whole frame."""
    small = photo.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return small


def _overlay(photo: Image.Image, attention_map: np.ndarray) -> Image.Image:
    """The photograph under its attention map: dimmed where the model does not look, coloured where it does."""
    small = Image.fromarray(np.asarray(attention_map, dtype=np.float32))
    level = np.clip(np.asarray(small.resize(photo.size, Image.Resampling.BICUBIC)), 0, 1)
    colour = _colours()[(level * 255).round().astype(int)]
    weight = (0.30 + 0.35 * level)[..., None]
    blended = np.asarray(photo, dtype=float) * (1 - weight) + colour * weight
    return Image.fromarray(blended.round().astype(np.uint8))


def _data_uri(image: Image.Image) -> str:
    """The image as an address that holds it."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _example_view(example: Example, titles: Mapping[ModelKey, str]) -> dict[str, Any]:
    """The photograph, and what each shown model looks at and says."""
    photo = _thumbnail(example.photo)
    shown: list[ModelKey] = [key for key in ("reference", "retrained") if key in example.maps]
    looks = [
        {
            "key": key,
            "title": titles[key],
            "image": _data_uri(_overlay(photo, example.maps[key])),
            "prediction": example.predictions[key][0],
            "confidence": _plain(example.predictions[key][1]),
            "right": example.predictions[key][0] == example.label,
        }
        for key in shown
    ]
    return {"photo": _data_uri(photo), "label": example.label, "group": example.group, "looks": looks}


def _query_view(query: QueryCard) -> dict[str, str]:
    """The judged image under its map, and the answer."""
    image = _data_uri(_overlay(_thumbnail(query.photo), query.map))
    return {"image": image, "label": query.label, "answer": query.answer}


def _aspect(photos: Sequence[Image.Image]) -> float:
    """Width over height of the frames on the page: the photographs' own where most agree, never extreme."""
    return min(max(median([photo.width / photo.height for photo in photos] or [1.0]), 0.75), 4 / 3)


def _group_views(report: ReportInput, found: Mapping[ModelKey, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line a group with every model's accuracy, the rarest group in training first."""
    counts = {group["name"]: group["train"] for group in report.data.groups}
    lines = {key: {g["name"]: g for g in evaluation["groups"]} for key, evaluation in found.items()}
    names = list(dict.fromkeys(name for of_model in lines.values() for name in of_model))
    views = []
    for name in names:
        points = {key: of_model[name] for key, of_model in lines.items() if name in of_model}
        first = next(iter(points.values()))
        worst = {key: found[key]["worst_group"] == name for key in points}
        share = first.get("training_share")
        views.append(
            {"name": name, "n": first["n"], "share": share, "train": counts.get(name), "points": points, "worst": worst}
        )
    return sorted(views, key=_rarest_first)


def _rarest_first(view: Mapping[str, Any]) -> tuple[float, float]:
    """Sort key: share of the training images, then the reference model's accuracy; unknown ones last."""
    accuracy = view["points"].get("reference", {}).get("accuracy")
    return (math.inf if view["share"] is None else view["share"], math.inf if accuracy is None else accuracy)


MEASURES = {
    "inside_fraction": ("Inside fraction", "of the strong attention (0.8 or more), the part that falls on the object"),
    "energy_inside": ("Energy inside", "of all the attention, the part that falls on the object"),
    "iou": ("IoU", "overlap of the attention map with the object’s mask"),
    "aiou": ("AIoU", "overlap of the label’s map, against the best overlap of another class’s map"),
    "pointing_game": ("Pointing game", "share of the images whose strongest point lies on the object"),
}


def _measure_views(found: Mapping[ModelKey, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line a measure of attention quality; none without masks."""
    views = []
    for name, (title, meaning) in MEASURES.items():
        taken = {key: _measure(evaluation, name) for key, evaluation in found.items()}
        points = {key: measure for key, measure in taken.items() if measure and measure["value"] is not None}
        if points:
            first = next(iter(points.values()))
            view = {"title": title, "meaning": meaning, "points": points, "n": first["n"]}
            views.append({**view, "uniform": first["uniform"]})
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


def _scatter_view(report: ReportInput) -> dict[str, Any] | None:
    """What the page's script draws: a seeded sample of the attention space, every query included."""
    scatter = report.scatter
    if scatter is None or not len(scatter.coordinates):
        return None
    shown, total = np.arange(len(scatter.coordinates)), len(scatter.coordinates)
    if total > MAX_POINTS:
        shown = np.sort(np.random.default_rng(report.seed).choice(total, MAX_POINTS, replace=False))
    attributes = None if scatter.a is None else scatter.a[shown]
    values = {
        "x": np.round(scatter.coordinates[shown, 0].astype(float), 3),
        "y": np.round(scatter.coordinates[shown, 1].astype(float), 3),
        "score": np.round(scatter.scores[shown].astype(float), 3),
        "label": scatter.y[shown],
        "attribute": attributes,
        "query_x": np.round(scatter.coordinates[scatter.queries, 0].astype(float), 3),
        "query_y": np.round(scatter.coordinates[scatter.queries, 1].astype(float), 3),
        "query_label": scatter.y[scatter.queries],
        "answer": scatter.answers,
        "class_names": report.data.class_names,
        "attribute_names": report.data.attribute_names,
        "total": total,
    }
    return {key: _plain(value) for key, value in values.items()}


def _view(report: ReportInput) -> dict[str, Any]:
    """Everything that the template shows, worded and measured."""
    found = _evaluations(report)
    titles = {row.key: row.title for row in report.rows}
    return {
        "report": report,
        "headline": headline(report),
        "notices": _notices(report),
        "models": sorted(report.rows, key=lambda row: MODEL_KEYS.index(row.key)),
        "found": found,
        "titles": titles,
        "groups": _group_views(report, found),
        "groups_are": found["reference"].get("groups_are", "label x attribute").replace(" x ", " × "),
        "examples": [_example_view(example, titles) for example in report.examples],
        "queries": [_query_view(query) for query in report.queries],
        "visible_queries": VISIBLE_QUERIES,
        "aspect": _aspect([example.photo for example in report.examples] + [query.photo for query in report.queries]),
        "asked": _plain(report.judgements),
        "trust": _plain(report.trust),
        "cells": _cell_views(_plain(report.subset)),
        "measures": _measure_views(found),
        "scatter": (scatter := _scatter_view(report)),
        "plotly": Markup(get_plotlyjs()) if scatter else "",
        "slowest": max((stage["seconds"] for stage in report.stages), default=0) or 1,
    }


@cache
def _environment() -> Environment:
    """The template engine, which escapes every text that it is given."""
    environment = Environment(
        loader=PackageLoader("slim"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": _percent, "decimal": _decimal, "duration": _duration}
    environment.filters |= {"interval": _interval, "thousands": "{:,}".format}
    environment.filters["decimal_interval"] = lambda line: _interval(line, _decimal)
    environment.globals["worst"] = _worst
    return environment


def write_report(folder: Path, report: ReportInput) -> Path:
    """Write `metrics.json` and `report.html`, each whole or not at all.

    Parameters
    ----------
    folder
        Where they go; it is made where it is missing.
    report
        What the run found.

    Returns
    -------
    Path
        The page. It needs no other file, and no network.
    """
    page = _environment().get_template("report.html.j2").render(_view(report))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "metrics.json", metrics(report))
    write_text(folder / "report.html", page)
    return folder / "report.html"
