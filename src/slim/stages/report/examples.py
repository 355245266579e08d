"""Photographs of the test split that the report shows: drawn from all groups, and those whose attention moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from slim.arrays import Floats, Ints
from slim.data import ImageTable, image_batches
from slim.network.classifier import Classifier
from slim.network.gradcam import GradCam
from slim.progress import track
from slim.stages.attend import SplitAttention
from slim.stages.report.records import Example
from slim.stages.retrain.choices import ModelKey
from slim.stages.settings import AttendSettings

EXAMPLES = 6
SAMPLE = 300
"""Test images among which those are sought whose attention moved most."""

_LEAST = 0.005  # of the attention; less is shown as 0 % and may be rounding
_SHOWN: tuple[ModelKey, ...] = ("reference", "retrained")


def examples(
    test: ImageTable,
    images: pd.DataFrame,
    evaluation: Mapping[str, Any],
    models: Mapping[ModelKey, Classifier],
    attention: SplitAttention,
    settings: AttendSettings,
) -> list[Example]:
    """Test images drawn evenly from the groups, the worst group first, regardless of their predictions.

    Parameters
    ----------
    test
        The test split.
    images
        See `Evaluations`.
    evaluation
        Of the reference model, as plain values.
    models, attention, settings
        As for `label_maps`.
    """
    groups = evaluation["groups"]
    order = sorted((g for g in range(len(groups)) if groups[g]["n"]), key=lambda g: groups[g]["accuracy"])
    rng = np.random.default_rng(0)
    drawn = {g: rng.permutation(np.flatnonzero(images["group"] == g))[:EXAMPLES] for g in order}
    places = [(rank, g) for rank in range(EXAMPLES) for g in order if rank < len(drawn[g])][:EXAMPLES]
    index = np.array([drawn[g][rank] for rank, g in places])
    maps = label_maps(test, index, models, attention, settings)
    return _examples(test, images, index, maps, [group["name"] for group in groups])


def moved_examples(
    test: ImageTable,
    images: pd.DataFrame,
    evaluation: Mapping[str, Any],
    models: Mapping[ModelKey, Classifier],
    attention: SplitAttention,
    settings: AttendSettings,
) -> list[Example]:
    """Of test images drawn at random, those whose attention moved most between the models, whichever way it went.

    Parameters
    ----------
    test, images, evaluation, models, attention, settings
        As for `examples`.

    Returns
    -------
    list of Example
        With `Example.moved`, the furthest first; none whose map did not move or is flat in either model.
    """
    drawn = np.sort(np.random.default_rng(1).permutation(len(test))[:SAMPLE])
    maps = label_maps(test, drawn, models, attention, settings)
    distance = moved(maps["reference"], maps["retrained"])
    first = np.argsort(-distance, kind="stable")[:EXAMPLES]
    first = first[distance[first] >= _LEAST]
    names = [group["name"] for group in evaluation["groups"]]
    shown = _examples(test, images, drawn[first], {key: own[first] for key, own in maps.items()}, names)
    return [replace(one, moved=float(distance[i])) for one, i in zip(shown, first, strict=True)]


def moved(before: Floats, after: Floats) -> Floats:
    """Share of the attention (n, h, w) that is elsewhere afterwards: the total variation distance of the maps.

    Returns
    -------
    ndarray of shape (n,)
        In [0, 1]; 0 = the same map, 1 = no overlap; 0 where either map is flat.

    Examples
    --------
    >>> left, right = np.eye(2)[None], np.eye(2)[None, ::-1]
    >>> moved(left, left), moved(left, right), moved(left, 0 * left)
    (array([0.]), array([1.]), array([0.]))
    """
    totals = [maps.sum((1, 2), keepdims=True) for maps in (before, after)]
    shares = [maps / np.where(total > 0, total, 1) for maps, total in zip((before, after), totals, strict=True)]
    distance = np.abs(shares[0] - shares[1]).sum((1, 2)) / 2
    return np.where((totals[0] > 0) & (totals[1] > 0), distance[:, None, None], 0)[:, 0, 0]


def label_maps(
    test: ImageTable,
    index: Ints,
    models: Mapping[ModelKey, Classifier],
    attention: SplitAttention,
    settings: AttendSettings,
) -> dict[ModelKey, Floats]:
    """Attention maps (n, h, w) of a few test images for their labels, by the reference and the retrained model.

    Parameters
    ----------
    test, index
        The test split, and which of its images.
    models
        The reference and the retrained model, which may be the same.
    attention, settings
        The reference model's attention of the test split, whose maps are taken where they are for the labels, and how
        it was computed.
    """
    maps: dict[ModelKey, Floats] = {}
    if settings.explain == "label":
        maps["reference"] = np.asarray(attention.maps[index])
    for key in _SHOWN:
        if key not in maps:
            kept = "reference" in maps and models[key] is models["reference"]
            maps[key] = maps["reference"] if kept else _label_maps(models[key], test[index], settings)
    return maps


def _label_maps(model: Classifier, table: ImageTable, settings: AttendSettings) -> Floats:
    """Attention maps of a model for the labels of a table."""
    parts = []
    with GradCam(model, settings.method, settings.precision) as cam:
        batches = image_batches(
            table, model.image_size, settings.batch_size, workers=settings.workers, device=model.device
        )
        for pixels, y, _ in track(batches, f"looking at {len(table)} {table.split} images"):
            seen = cam(pixels)
            parts.append(seen.maps(y.to(torch.int64).to(seen.logits.device)).detach().cpu().numpy())
    return np.concatenate(parts)


def _examples(
    test: ImageTable, images: pd.DataFrame, index: Ints, maps: Mapping[ModelKey, Floats], group_names: Sequence[str]
) -> list[Example]:
    """Some images with their maps and predictions."""
    return [
        Example(
            photo=test.image(int(i)),
            maps={key: maps[key][n] for key in _SHOWN},
            label=test.class_names[test.y[i]],
            predictions={
                key: (test.class_names[images[f"{key}_prediction"][i]], float(images[f"{key}_confidence"][i]))
                for key in _SHOWN
            },
            group=group_names[images["group"][i]],
        )
        for n, i in enumerate(index)
    ]
