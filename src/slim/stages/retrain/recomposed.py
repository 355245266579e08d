"""Retraining on recomposed images: the object of each image on the backgrounds of other images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from slim import processes
from slim.arrays import Floats, Ints
from slim.data import Dataset, ImageTable, Recomposition, recomposed_batches
from slim.network.classifier import Classifier
from slim.network.gradcam import GradCam
from slim.network.pace import Pace, announce_time
from slim.progress import track
from slim.room import check_room
from slim.stages.retrain.last_layer import Head, fit_weighted_head
from slim.stages.settings import RetrainSettings
from slim.training import TrainSettings, train_classifier

STRENGTH = 1e-3
"""Inverse strength of the l2 penalty; chosen among four on two data sets, see docs/log.md."""

_BATCH_SIZE = 32


def recomposed_head(
    data: Dataset,
    reference: Classifier,
    recompositions: Mapping[str, Recomposition],
    settings: RetrainSettings,
    training: TrainSettings,
    *,
    seed: int,
) -> Head:
    """A last layer fitted to recomposed images of some splits; every class counts the same.

    Val is recomposed like the pool, so that it cannot bring a shortcut back, however biased it is.
    """
    tables, draws = {split: data.split(split) for split in recompositions}, settings.draws
    ends = np.cumsum([draws * len(table) for table in tables.values()]).tolist()
    # A network without a linear head is refused here.
    width = reference.linear.in_features
    check_room("features of recomposed images", memory=ends[-1] * width * np.dtype(np.float32).itemsize)
    first = next(iter(tables))
    with GradCam(reference, "auto", training.precision) as cam:
        announce_time(
            "features of recomposed images",
            f"{ends[-1]:,}, {draws} of each image",
            lambda: Pace.of_passes(cam, tables[first], _BATCH_SIZE, recompositions[first]).seconds(ends[-1]),
        )
        features = np.zeros((ends[-1], width), np.float32)
        for (split, table), part in zip(tables.items(), np.split(features, ends[:-1]), strict=True):
            recomposed_features(cam, table, recompositions[split], draws, seed, into=part)
    return fit_recomposed(features, [table.y for table in tables.values()], settings, reference.n_classes)


def fit_recomposed(features: Floats, y: Sequence[Ints], settings: RetrainSettings, n_classes: int) -> Head:
    """A last layer fitted to features of recomposed images; every class counts the same.

    Parameters
    ----------
    features
        (draws * n, d) of each split as from `recomposed_features`, one below the other. They are standardised in place.
    y
        (n,) labels of each split.
    settings
        See `RetrainSettings`.
    n_classes
        Number of logits.
    """
    labels = np.concatenate([np.tile(own, settings.draws) for own in y])
    weights = 1 / np.bincount(labels, minlength=n_classes)[labels]
    return fit_weighted_head(features, labels, weights, settings.strength or STRENGTH, n_classes=n_classes)


def recomposed_features(
    cam: GradCam, table: ImageTable, recomposition: Recomposition, draws: int, seed: int, *, into: Floats
) -> None:
    """Penultimate features of recomposed images: all images once, then again on other backgrounds.

    They replace the zeros of `into`, (draws * n, d).
    """
    order, mine = np.arange(len(table)), processes.share(len(table))
    epochs = [
        recomposed_batches(
            table,
            recomposition,
            cam.classifier.image_size,
            _BATCH_SIZE,
            order=order[mine],
            before=order[: mine.start],
            seed=seed,
            epoch=draw,
        )
        for draw in range(draws)
    ]
    description = f"features of {len(table)} {table.split} images, each on {draws} other backgrounds"
    batches = ((draw, batch) for draw, epoch in enumerate(epochs) for batch in epoch)
    for draw, (images, _, index) in track(batches, description, total=sum(map(len, epochs))):
        into[draw * len(table) + index.numpy()] = cam(images).features.detach().cpu().numpy()
    into[:] = processes.summed(into)


def train_recomposed(
    data: Dataset,
    reference: Classifier,
    recomposition: Recomposition,
    settings: RetrainSettings,
    training: TrainSettings,
    *,
    pool: str,
    seed: int,
    folder: Path | None,
) -> Classifier:
    """The whole network, or the part that `training` trains, trained on recomposed images of the pool.

    Every image is recomposed in every epoch: left as they are, some would keep the shortcut. The number of epochs is
    that of the reference model, and the last one is kept.
    """
    wanted = replace(training, lr=settings.lr or training.lr, select_by="last", checkpoint=None)
    initial = reference if settings.start == "reference" or reference.arch != training.arch else None
    table = data.split(pool)
    if training.trainable != "all":  # what enters the trained part is computed once for each row
        order: Ints = np.tile(np.arange(len(table)), settings.draws)
        table, recomposition = table[order], recomposition[order]
    return train_classifier(
        table, data.val, wanted, seed=seed, folder=folder, initial=initial, recomposition=recomposition
    )
