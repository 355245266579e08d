"""Measuring models on one table: accuracy per group, and attention quality beside that of a uniform map."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextlib import ExitStack
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from slim import processes
from slim.arguments import checked
from slim.arrays import Floats
from slim.data import ImageTable, image_batches
from slim.errors import DataError, SettingsError
from slim.metrics import (
    accuracy_by_group,
    adjusted_iou,
    energy_inside,
    inside_fraction,
    intersection_over_union,
    pointing_game,
)
from slim.network.classifier import Classifier
from slim.network.gradcam import ForwardPass, GradCam, upsample
from slim.network.pace import Pace, announce_time
from slim.progress import track
from slim.stages.evaluate.evaluation import Evaluation, Groups, Measure
from slim.stages.settings import EvaluateSettings

Name = TypeVar("Name", bound=Hashable)

_MEASURES = ("inside_fraction", "iou", "aiou", "energy_inside", "pointing_game", "uniform")


@checked
def evaluate_classifier(
    classifier: Classifier,
    table: ImageTable,
    settings: EvaluateSettings | None = None,
    *,
    groups: Groups | None = None,
) -> Evaluation:
    """Measure a model on one table of images.

    Parameters
    ----------
    classifier
        The model; its module is not changed.
    table
        Images, labels, and masks or boxes if there are any.
    settings
        See `EvaluateSettings`.
    groups
        The groups to report accuracies over; the table's own by default.

    Returns
    -------
    Evaluation
        Print it to see a table.

    Raises
    ------
    SettingsError
        The settings name masks or boxes, and the table has none.
    ModelError
        The outputs of the model are not the classes of the images.
    DataError
        The table is empty.

    Notes
    -----
    Attention is the Grad-CAM map for the label, upsampled to the input's size. AIoU needs a map for every class.

    Examples
    --------
    ``print(slim.evaluate_classifier(retrained.model, data.test))``
    """
    return evaluate_heads({"model": classifier}, table, settings, groups=groups)["model"]


@checked
def evaluate_heads(
    classifiers: Mapping[Name, Classifier],
    table: ImageTable,
    settings: EvaluateSettings | None = None,
    *,
    groups: Groups | None = None,
) -> dict[Name, Evaluation]:
    """Measure models that differ only in their linear heads, in one pass over the images.

    Parameters
    ----------
    classifiers
        By name: one classifier, and others that its `Classifier.with_head` made.
    table, settings, groups
        As for `evaluate_classifier`.

    Returns
    -------
    dict of Evaluation
        By the same names; the same numbers as `evaluate_classifier` gives for each.

    Examples
    --------
    ``slim.evaluate_heads({"before": reference, "after": reference.with_head(weight, bias)}, data.test)``
    """
    settings = settings or EvaluateSettings()
    classifiers = {name: classifier.for_classes(table.class_names) for name, classifier in classifiers.items()}
    if not len(table):
        raise DataError(f"There must be images to evaluate on. Got an empty {table.split} table. Select some.")
    kind = _kind(table, settings.regions)
    groups = groups or Groups.from_table(table)
    measurements = {name: _Measurement(table, classifier) for name, classifier in classifiers.items()}
    with ExitStack() as stack:
        cams = {
            name: stack.enter_context(GradCam(classifier, precision=settings.precision))
            for name, classifier in classifiers.items()
        }
        first = next(iter(cams.values()))
        announce_time(
            "evaluation",
            f"{len(table):,} {table.split} images",
            lambda: Pace.of_passes(first, table, settings.batch_size).seconds(len(table)),
        )
        mine, size = np.arange(len(table))[processes.share(len(table))], first.classifier.image_size
        device, workers = first.classifier.device, settings.workers
        batches = image_batches(table, size, settings.batch_size, order=mine, workers=workers, device=device)
        for images, _, index in track(batches, f"evaluating on {len(table)} {table.split} images"):
            rows = index.numpy()
            chosen = table.has_region[rows] if kind == "masks" else np.full(len(rows), kind is not None)
            masks = _masks(table, rows[chosen], size, kind)
            seen: ForwardPass | None = None
            for name, cam in cams.items():
                seen = cam(images) if seen is None else cam.again(images, seen)
                measurements[name].add(seen, rows, chosen, masks)
    return {name: each.evaluation(groups, kind is not None) for name, each in measurements.items()}


class _Measurement:
    """Collects one model's predictions and attention measures, batch after batch, of this process's share of images."""

    def __init__(self, table: ImageTable, classifier: Classifier) -> None:
        self.table, self.classifier = table, classifier
        self.predictions, self.confidence = np.zeros(len(table), np.int64), np.zeros(len(table), np.float32)
        self.measures = np.zeros((len(table), len(_MEASURES)))  # NaN where undefined; 0 in the shares of others

    def add(
        self, seen: ForwardPass, rows: NDArray[np.int64], chosen: NDArray[np.bool_], masks: NDArray[np.bool_]
    ) -> None:
        """Add a batch, of which the images flagged in `chosen` have these masks."""
        confidence, predictions = seen.logits.detach().float().softmax(1).max(1)
        self.confidence[rows], self.predictions[rows] = confidence.cpu().numpy(), predictions.cpu().numpy()
        self.measures[rows] = np.nan
        if chosen.any():
            measured = _attention(seen, chosen, masks, self.table.y[rows[chosen]], self.classifier)
            self.measures[rows[chosen]] = np.stack([measured[name] for name in _MEASURES], 1)

    def evaluation(self, groups: Groups, attention: bool) -> Evaluation:
        """The evaluation over the batches of all processes."""
        predictions, confidence = processes.summed(self.predictions), processes.summed(self.confidence)
        accuracy = accuracy_by_group(predictions == self.table.y, groups.index, groups.names, groups.training_shares)
        averages = {name: value for name, value in vars(accuracy).items() if name not in ("table", "missing")}
        measures = dict(zip(_MEASURES, processes.summed(self.measures).T, strict=True))
        return Evaluation(
            **averages,
            groups=accuracy.table,
            missing_groups=accuracy.missing,
            groups_are=groups.kind,
            attention=(_means(measures) if self.table.has_region.any() else {}) if attention else None,
            predictions=predictions,
            confidence=confidence,
            inside=measures["inside_fraction"] if attention else None,
        )


def _masks(
    table: ImageTable, rows: NDArray[np.int64], size: int, kind: Literal["masks", "boxes"] | None
) -> NDArray[np.bool_]:
    """(m, size, size) masks of the objects in some images."""
    if kind is None or not len(rows):
        return np.zeros((0, size, size), bool)
    return np.stack([table.region(int(i), size, kind) for i in rows])


def _kind(table: ImageTable, wanted: Literal["auto", "masks", "boxes"]) -> Literal["masks", "boxes"] | None:
    """Where the location of the object comes from."""
    if wanted == "auto":
        return table.regions
    column = "mask" if wanted == "masks" else "box_x"
    if column not in table.frame:
        raise SettingsError(
            f"Attention can be compared with {wanted} only if the data have them. Got a {table.split} split without. "
            "Leave out --regions."
        )
    return wanted


def _attention(
    seen: ForwardPass,
    chosen: NDArray[np.bool_],
    masks: NDArray[np.bool_],
    y: NDArray[np.int64],
    classifier: Classifier,
) -> dict[str, Floats]:
    """Each measure, and the value of a uniform map, for the chosen images of a batch, their masks and labels."""
    size = classifier.image_size
    rows, labels, objects = (
        torch.from_numpy(values).to(seen.logits.device) for values in (np.flatnonzero(chosen), y, masks)
    )
    overlaps = torch.zeros(len(y), classifier.n_classes, device=rows.device)
    maps_of_labels = torch.zeros(len(y), size, size, device=rows.device)
    for k in range(classifier.n_classes):
        classes = torch.full((len(chosen),), k, device=rows.device)
        maps = upsample(seen.maps(classes)[rows], size).detach()
        overlaps[:, k] = intersection_over_union(maps, objects)
        maps_of_labels = torch.where((labels == k)[:, None, None], maps, maps_of_labels)
    ious, own = overlaps.cpu().double().numpy(), maps_of_labels.cpu().numpy()
    share = masks.mean((1, 2))
    return {
        "inside_fraction": inside_fraction(own, masks),
        "iou": ious[np.arange(len(y)), y],
        "aiou": adjusted_iou(np.nan_to_num(ious), y),
        "energy_inside": energy_inside(own, masks),
        "pointing_game": pointing_game(own, masks),
        "uniform": np.where(share > 0, share, np.nan),
    }


def _means(measures: Mapping[str, Floats]) -> dict[str, Measure]:
    """Means over the images for which a measure is defined.

    A uniform map gets the object's share of the image in every measure but AIoU, where all classes tie at 0.5.
    """
    share, result = measures["uniform"], {}
    for name, values in measures.items():
        if name == "uniform":
            continue
        defined = np.isfinite(values) & np.isfinite(share)
        uniform = np.full(len(share), 0.5) if name == "aiou" else share
        n = int(defined.sum())
        result[name] = Measure(
            value=float(values[defined].mean()) if n else None,
            uniform=float(uniform[defined].mean()) if n else None,
            n=n,
        )
    return result
