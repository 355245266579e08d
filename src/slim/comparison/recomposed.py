"""Object maps from answers of several kinds, from no answers, and from masks: what recomposed images are made with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from slim.arrays import Bytes, Floats, Ints
from slim.comparison.baselines import feature_cells
from slim.comparison.bench import Bench
from slim.comparison.subsets import FEATURE_CLUSTERS, SelectedSubset, curated, unattended_annotator
from slim.data import Recomposition, image_batches
from slim.localization import SIDE, object_maps
from slim.network.classifier import Classifier
from slim.stages.annotate.annotate import annotate
from slim.stages.judgements import COLUMNS, PLACE_COLUMNS, Judgements
from slim.stages.locate.locate import locate
from slim.stages.locate.object_maps import ObjectMaps
from slim.stages.propagate.propagate import propagate
from slim.stages.retrain.last_layer import Head
from slim.stages.retrain.recomposed import recomposed_head, train_recomposed
from slim.stages.retrain.retrain import choose_images
from slim.stages.settings import LocateSettings

_BATCH_SIZE = 64
_UNJUDGED = Judgements(pd.DataFrame(columns=list(COLUMNS)))


@dataclass(frozen=True, eq=False)
class MappedObjects:
    """Object maps to recompose the images of train and val by.

    Attributes
    ----------
    objects
        The maps.
    judgements
        Number of answers used.
    parts
        (n,) part of each train image that its background must come from too; None = any background.
    """

    objects: ObjectMaps
    judgements: int = 0
    parts: Ints | None = None

    def recomposition(self, split: str) -> Recomposition:
        """How a split is recomposed."""
        maps = self.objects.split(split)
        same = split == "train" and self.parts is not None
        return Recomposition(maps, "same" if same else "any", self.parts if same else None)

    def fit_head(self, bench: Bench) -> Head:
        """The last layer fitted to recomposed images, of val too if the settings of the run say so."""
        settings, splits = bench.settings["retrain"], ["train"]
        if settings.fits_val("train") and self.parts is None:
            splits.append("val")
        recompositions = {split: self.recomposition(split) for split in splits}
        return recomposed_head(
            bench.data, bench.reference, recompositions, settings, bench.settings["train"], seed=bench.seed
        )

    def train(self, bench: Bench, folder: Path) -> Classifier:
        """The whole network trained on recomposed images."""
        return train_recomposed(
            bench.data,
            bench.reference,
            self.recomposition("train"),
            bench.settings["retrain"],
            bench.settings["train"],
            pool="train",
            seed=bench.seed,
            folder=folder,
        )


def slim(bench: Bench) -> MappedObjects | SelectedSubset:
    """SLIM with the settings of the run: on recomposed images, on the curated subset, or the reference model kept."""
    settings, judgements = bench.settings, _judged(bench)
    scores = propagate(bench.data, bench.space, judgements, settings["propagate"])
    subset = curated(bench, settings, bench.attention, bench.space, scores)
    mapped = _located(bench, judgements)
    images, _ = choose_images(
        bench.data, bench.reference, mapped.objects, subset, settings["retrain"], settings["train"], seed=bench.seed
    )
    if images == "recomposed":
        return mapped
    return replace(SelectedSubset.of(subset, bench, len(judgements)), shortcut=images == "subset")


def from_answers(bench: Bench, **changed: Any) -> MappedObjects:
    """From answers about SLIM's queries, some of the settings of asking changed."""
    return _located(bench, _judged(bench, **changed))


def from_shuffled_answers(bench: Bench) -> MappedObjects:
    """From the same answers and places, permuted among the judged images."""
    frame = _judged(bench).frame.copy()
    columns = ["answer", *PLACE_COLUMNS]
    order = np.random.default_rng((bench.seed, 10)).permutation(len(frame))
    frame[columns] = frame[columns].to_numpy()[order]
    return _located(bench, Judgements(frame))


def unanswered(bench: Bench) -> MappedObjects:
    """From no answers: what stands out in the middle."""
    return _located(bench, _UNJUDGED)


def from_masks(bench: Bench) -> MappedObjects:
    """From the data set's masks: the ceiling."""
    return MappedObjects(locate(bench.data, bench.attention, bench.space, _UNJUDGED, LocateSettings("masks")))


def same_cluster(bench: Bench) -> MappedObjects:
    """From answers, with backgrounds of the same cluster of features: these keep the shortcut, and have the seam."""
    mapped, y = from_answers(bench), bench.data.train.y
    features = np.asarray(bench.attention.train.features)
    return replace(mapped, parts=feature_cells(features, y, FEATURE_CLUSTERS, bench.seed))


def from_centre(bench: Bench) -> MappedObjects:
    """From the distance to the centre."""
    row, column = np.mgrid[:16, :16] - 7.5
    scores = -np.hypot(row, column)[None]
    return MappedObjects(ObjectMaps(_drawn(bench, "train", scores), _drawn(bench, "val", scores)))


def from_attention(bench: Bench) -> MappedObjects:
    """From the attention maps of the reference model."""
    attention = bench.attention
    return MappedObjects(
        ObjectMaps(_drawn(bench, "train", attention.train.maps), _drawn(bench, "val", attention.val.maps))
    )


def _judged(bench: Bench, **changed: Any) -> Judgements:
    settings = replace(bench.settings["annotate"], **changed)
    annotator = unattended_annotator(bench, settings)
    return annotate(bench.data, bench.attention, bench.space, settings, annotator=annotator, seed=bench.seed)


def _located(bench: Bench, judgements: Judgements) -> MappedObjects:
    objects = locate(bench.data, bench.attention, bench.space, judgements, seed=bench.seed)
    return MappedObjects(objects, len(judgements))


def _drawn(bench: Bench, split: str, scores: Floats) -> Bytes:
    """Maps of a split from scores of places: (n, h, w), or (1, h, w) for every image."""
    table = bench.data.split(split)
    everyone = np.broadcast_to(scores, (len(table), *scores.shape[1:]))
    batches = image_batches(table, SIDE, _BATCH_SIZE)
    return np.concatenate([object_maps(everyone[index.numpy()], images) for images, _, index in batches])
