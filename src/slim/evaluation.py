"""Evaluation: accuracy of each group, and the quality of the attention beside what a uniform map gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from slim.datasets import ImageTable, image_batches
from slim.errors import SettingsError
from slim.gradcam import GradCam, Seen, upsample
from slim.metrics import (
    GroupAccuracy,
    accuracy_by_group,
    adjusted_iou,
    energy_inside,
    inside_fraction,
    intersection_over_union,
    pointing_game,
)
from slim.models import Classifier, Precision
from slim.progress import track

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class EvaluateSettings:
    """How a model is evaluated.

    Parameters
    ----------
    regions
        What says where the object is: "masks", "boxes", or by default masks where there are any, else boxes.
    batch_size
        Images at a time.
    precision
        Of the forward pass.
    workers
        Processes that decode images; 0 decodes in this one.
    """

    regions: Literal["auto", "masks", "boxes"] = "auto"
    batch_size: int = 32
    precision: Precision = "auto"
    workers: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SettingsError(f"The batch size must be at least 1. Got {self.batch_size}. Try 32.")


@dataclass(frozen=True, eq=False)
class Groups:
    """What accuracies are reported over.

    Attributes
    ----------
    of
        (n,) group of each image.
    names
        Of every group.
    training_shares
        (n_groups,) shares of the training images, or None.
    kind
        What a group is, in words: "label x attribute", "label x curated cell", or "label".
    """

    of: NDArray[np.int64]
    names: Sequence[str]
    training_shares: Floats | None
    kind: str

    @classmethod
    def from_table(cls, table: ImageTable) -> Groups:
        """Label x attribute where there is an attribute, else the label alone."""
        if table.groups is None:
            return cls(table.y, table.class_names, None, "label")
        return cls(table.groups, table.group_names, table.training_shares, "label x attribute")


@dataclass(frozen=True)
class Measure:
    """Mean of an attention measure over images, and what a uniform map gets on the same images.

    Attributes
    ----------
    value, uniform
        In [0, 1]; 1 = attention on the object only. A value near `uniform` means that the map says nothing.
    n
        Images for which the measure is defined: it is not for flat maps and empty masks.
    """

    value: float | None
    uniform: float | None
    n: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` measured.

    Attributes
    ----------
    accuracy
        Of each group, with intervals, and the four averages.
    groups_are
        What a group is, in words.
    attention
        Measures by name: ``inside_fraction, iou, aiou, energy_inside, pointing_game``; None without masks and boxes.
    predictions, confidence
        (n,) predicted class, and its probability.
    inside
        (n,) inside fraction of each image, NaN where undefined; None without masks and boxes.
    """

    accuracy: GroupAccuracy
    groups_are: str
    attention: dict[str, Measure] | None
    predictions: NDArray[np.int64]
    confidence: Floats
    inside: Floats | None

    @property
    def predicts_one_class(self) -> bool:
        """Whether every image gets the same class: a collapsed model."""
        return len(np.unique(self.predictions)) == 1

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without NaN, for JSON."""
        numbers = self.accuracy.table.astype(object).where(self.accuracy.table.notna(), None)
        names = ("worst_group_accuracy", "average_accuracy", "adjusted_average_accuracy", "group_mean_accuracy")
        return {
            **{name: getattr(self.accuracy, name) for name in names},
            "worst_group": self.accuracy.worst_group,
            "groups": numbers.to_dict("records"),
            "groups_are": self.groups_are,
            "missing_groups": list(self.accuracy.missing),
            "attention": self.attention and {name: dict(vars(measure)) for name, measure in self.attention.items()},
            "predicts_one_class": self.predicts_one_class,
        }

    def __str__(self) -> str:
        a = self.accuracy
        lines = [a.table.to_string(index=False, float_format="{:.3f}".format)]
        lines += [f"worst group       {a.worst_group_accuracy:.3f}  ({a.worst_group})"]
        lines += [f"average           {a.average_accuracy:.3f}"]
        if a.adjusted_average_accuracy is not None:
            lines += [f"adjusted average  {a.adjusted_average_accuracy:.3f}"]
        lines += [f"group mean        {a.group_mean_accuracy:.3f}"]
        lines += [f"missing groups    {', '.join(a.missing)}"] if a.missing else []
        for name, measure in (self.attention or {}).items():
            if measure.value is not None:
                lines += [f"{name:<18}{measure.value:.3f}  (uniform map {measure.uniform:.3f}, n {measure.n})"]
        return "\n".join(lines)


def evaluate(
    classifier: Classifier,
    table: ImageTable,
    settings: EvaluateSettings | None = None,
    *,
    groups: Groups | None = None,
) -> Evaluation:
    """Measure a model on a split.

    Parameters
    ----------
    classifier
        The model; its module is left as it is.
    table
        Images, labels, and masks or boxes where there are any.
    settings
        See `EvaluateSettings`.
    groups
        What to report accuracies over; the table's own groups by default.

    Returns
    -------
    Evaluation
        Print it to see a table.

    Raises
    ------
    SettingsError
        Masks or boxes were asked for, and there are none.

    Notes
    -----
    Attention is Grad-CAM's map of the label's class, brought to the input's size. AIoU needs a map for every
    class.

    Examples
    --------
    ``print(slim.evaluate(retrained, data.test))``
    """
    return evaluate_heads({"model": classifier}, table, settings, groups=groups)["model"]


def evaluate_heads(
    classifiers: Mapping[str, Classifier],
    table: ImageTable,
    settings: EvaluateSettings | None = None,
    *,
    groups: Groups | None = None,
) -> dict[str, Evaluation]:
    """Measure models that differ in their linear head alone, in one pass over the images.

    Parameters
    ----------
    classifiers
        By name: one classifier, and what its `Classifier.with_head` made.
    table, settings, groups
        As for `evaluate`, whose errors are these too.

    Returns
    -------
    dict of Evaluation
        By the same names; what `evaluate` finds for each.

    Examples
    --------
    ``slim.evaluate_heads({"before": reference, "after": reference.with_head(weight, bias)}, data.test)``
    """
    settings = settings or EvaluateSettings()
    kind = _kind(table, settings.regions)
    groups = groups or Groups.from_table(table)
    found = {name: _Found(table, classifier) for name, classifier in classifiers.items()}
    with ExitStack() as stack:
        cams = {
            name: stack.enter_context(GradCam(classifier, precision=settings.precision))
            for name, classifier in classifiers.items()
        }
        size = next(iter(classifiers.values())).image_size
        batches = image_batches(table, size, settings.batch_size, workers=settings.workers)
        for images, _, index in track(batches, f"evaluating on {len(table)} {table.split} images"):
            rows = index.numpy()
            chosen = table.has_region[rows] if kind == "masks" else np.full(len(rows), kind is not None)
            masks = _masks(table, rows[chosen], size, kind)
            seen: Seen | None = None
            for name, cam in cams.items():
                seen = cam(images) if seen is None else cam.again(images, seen)
                found[name].add(seen, rows, chosen, masks)
    return {name: each.evaluation(groups, kind is not None) for name, each in found.items()}


class _Found:
    """What is found of one model, batch after batch."""

    def __init__(self, table: ImageTable, classifier: Classifier) -> None:
        self.table, self.classifier = table, classifier
        self.probabilities = np.zeros((len(table), classifier.n_classes), np.float32)
        self.measured: list[tuple[NDArray[np.int64], dict[str, Floats]]] = []

    def add(self, seen: Seen, rows: NDArray[np.int64], chosen: NDArray[np.bool_], masks: NDArray[np.bool_]) -> None:
        """Note a batch, of which the chosen images have these masks."""
        self.probabilities[rows] = seen.logits.detach().float().softmax(1).cpu().numpy()
        if chosen.any():
            y = self.table.y[rows[chosen]]
            self.measured.append((rows[chosen], _attention(seen, chosen, masks, y, self.classifier)))

    def evaluation(self, groups: Groups, attention: bool) -> Evaluation:
        """All batches together."""
        predictions = self.probabilities.argmax(1)
        return Evaluation(
            accuracy=accuracy_by_group(predictions == self.table.y, groups.of, groups.names, groups.training_shares),
            groups_are=groups.kind,
            attention=_means(self.measured) if attention else None,
            predictions=predictions,
            confidence=self.probabilities.max(1),
            inside=_per_image(self.measured, len(self.table)) if attention else None,
        )


def _masks(
    table: ImageTable, rows: NDArray[np.int64], size: int, kind: Literal["masks", "boxes"] | None
) -> NDArray[np.bool_]:
    """(m, size, size) where the objects of some images are."""
    if kind is None or not len(rows):
        return np.zeros((0, size, size), bool)
    return np.stack([table.region(int(i), size, kind) for i in rows])


def _kind(table: ImageTable, wanted: Literal["auto", "masks", "boxes"]) -> Literal["masks", "boxes"] | None:
    """What says where the object is."""
    if wanted == "auto":
        return table.regions
    column = "mask" if wanted == "masks" else "box_x"
    if column not in table.frame:
        raise SettingsError(
            f"Attention can be compared with {wanted} only where there are any. Got a {table.split} split without. "
            "Leave out --regions."
        )
    return wanted


def _attention(
    seen: Seen,
    chosen: NDArray[np.bool_],
    masks: NDArray[np.bool_],
    y: NDArray[np.int64],
    classifier: Classifier,
) -> dict[str, Floats]:
    """Each measure, and each measure of a uniform map, for the chosen images of a batch, their masks and labels."""
    size = classifier.image_size
    ious = np.zeros((len(y), classifier.n_classes))
    own = np.zeros((len(y), size, size), np.float32)
    for k in range(classifier.n_classes):
        classes = torch.full((len(chosen),), k, device=seen.logits.device)
        maps = upsample(seen.maps(classes), size).detach().cpu().numpy()[chosen]
        ious[:, k] = intersection_over_union(maps, masks)
        own[y == k] = maps[y == k]
    share = masks.mean((1, 2))
    return {
        "inside_fraction": inside_fraction(own, masks),
        "iou": ious[np.arange(len(y)), y],
        "aiou": adjusted_iou(np.nan_to_num(ious), y),
        "energy_inside": energy_inside(own, masks),
        "pointing_game": pointing_game(own, masks),
        "uniform": np.where(share > 0, share, np.nan),
    }


def _means(measured: list[tuple[NDArray[np.int64], dict[str, Floats]]]) -> dict[str, Measure]:
    """Means over the images for which a measure is defined.

    A uniform map covers an object by its share of the image in every measure but AIoU, where all classes draw.
    """
    if not measured:
        return {}
    columns = {name: np.concatenate([part[name] for _, part in measured]) for name in measured[0][1]}
    share = columns.pop("uniform")
    result = {}
    for name, values in columns.items():
        defined = np.isfinite(values) & np.isfinite(share)
        uniform = np.full(len(share), 0.5) if name == "aiou" else share
        n = int(defined.sum())
        result[name] = Measure(
            value=float(values[defined].mean()) if n else None,
            uniform=float(uniform[defined].mean()) if n else None,
            n=n,
        )
    return result


def _per_image(measured: list[tuple[NDArray[np.int64], dict[str, Floats]]], n: int) -> Floats:
    inside = np.full(n, np.nan)
    for rows, part in measured:
        inside[rows] = part["inside_fraction"]
    return inside
