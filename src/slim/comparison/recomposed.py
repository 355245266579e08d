"""Object maps from answers of several kinds, from no answers, and from masks: what recomposed images are made with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA

from slim.arrays import Bytes, Flags, Floats, Ints
from slim.comparison.baselines import feature_cells
from slim.comparison.bench import Bench
from slim.comparison.subsets import FEATURE_CLUSTERS, SelectedSubset, curated, unattended_annotator
from slim.data import Recomposition, image_batches
from slim.localization import Localizer
from slim.matting import SIDE, object_maps
from slim.network.classifier import Classifier
from slim.network.gradcam import GradCam, upsample
from slim.stages.annotate.annotate import annotate
from slim.stages.judgements import COLUMNS, PLACE_COLUMNS, Judgements
from slim.stages.locate.locate import locate
from slim.stages.locate.object_maps import ObjectMaps
from slim.stages.propagate.propagate import propagate
from slim.stages.retrain.last_layer import Head
from slim.stages.retrain.recomposed import UnchangedVal, fit_recomposed, recomposed_features, train_recomposed
from slim.stages.retrain.retrain import choose_images
from slim.stages.settings import LocateSettings

_BATCH_SIZE = 64
_SAMPLE = 300  # images whose places the principal component is found in
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
        """The last layer fitted to recomposed images, and to val if the settings of the run say so."""
        bench.reference.linear  # noqa: B018 (refuses a network without a linear head)
        settings = bench.settings["retrain"]
        val, splits = None, ["train"]
        if settings.fits_val("train") and self.parts is None:
            val, splits = UnchangedVal.of(bench.attention.val, bench.data.val.y), ["train", "val"]
        features, y = [self._features(bench, name) for name in splits], [bench.data.split(name).y for name in splits]
        features += [] if val is None else [val.features]
        return fit_recomposed(np.concatenate(features), y, settings, bench.reference.n_classes, val)

    def _features(self, bench: Bench, split: str) -> Floats:
        """Features of recomposed images; those of train do not depend on val."""
        recomposition = self.recomposition(split)
        key = f"{split} {recomposition.digest()}"
        if key in bench.recomposed:
            return bench.recomposed[key]
        if split == "train":
            bench.recomposed.clear()  # before others take their place in memory
        draws, precision = bench.settings["retrain"].draws, bench.settings["train"].precision
        table = bench.data.split(split)
        features = np.zeros((draws * len(table), bench.reference.linear.in_features), np.float32)
        with GradCam(bench.reference, "auto", precision) as cam:
            recomposed_features(cam, table, recomposition, draws, bench.seed, into=features)
        if split == "train":
            bench.recomposed[key] = features
        return features

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


def from_attention_crop(bench: Bench) -> MappedObjects:
    """From the smallest box around all that the reference model attends to at least half as much as to its peak."""

    def boxes(maps: Floats) -> Bytes:
        attended: Flags = upsample(torch.from_numpy(np.array(maps, np.float32)), SIDE).numpy() >= 0.5
        rows, columns = (_spanned(np.asarray(attended.any(axis))) for axis in (2, 1))
        return np.where(rows[:, :, None] & columns[:, None, :], 255, 0).astype(np.uint8)

    return MappedObjects(ObjectMaps(boxes(bench.attention.train.maps), boxes(bench.attention.val.maps)))


def _spanned(flags: Flags) -> Flags:
    """(n, m) flags, with all between the first and the last of each line set."""
    return np.logical_or.accumulate(flags, 1) & np.logical_or.accumulate(flags[:, ::-1], 1)[:, ::-1]


def from_component(bench: Bench) -> MappedObjects:
    """From the first principal component of places, minus their image's mean; the border is background."""
    train, val = np.asarray(bench.attention.train.places), np.asarray(bench.attention.val.places)
    sample = train[np.random.default_rng((bench.seed, 9)).permutation(len(train))[:_SAMPLE]].astype(np.float32)
    relative = sample - sample.mean((1, 2), keepdims=True)
    weight = PCA(1, random_state=bench.seed).fit(relative.reshape(-1, sample.shape[-1])).components_[0]
    scores = relative @ weight
    weight *= -np.sign(np.concatenate([scores[:, 0], scores[:, :, 0], scores[:, :, -1]], 1).mean())
    localizer = Localizer(np.concatenate([np.zeros_like(weight), weight]), 0.0)
    return MappedObjects(
        ObjectMaps(
            _drawn(bench, "train", localizer.scores(train)),
            _drawn(bench, "val", localizer.scores(val)),
        )
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
