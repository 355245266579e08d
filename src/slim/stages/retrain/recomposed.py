"""Retraining on recomposed images: the object of each image on the backgrounds of other images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from slim import processes
from slim.arrays import Floats, Ints
from slim.data import Dataset, ImageTable, Recomposition, recomposed_batches
from slim.network.choices import Precision
from slim.network.classifier import Classifier
from slim.network.gradcam import GradCam
from slim.progress import track
from slim.room import check_room
from slim.stages.retrain.last_layer import Head, fit_weighted_head
from slim.stages.settings import RetrainSettings
from slim.training import TrainSettings, train_classifier

STRENGTH = 1e-3
"""Inverse strength of the l2 penalty; chosen among four on two data sets, see docs/log.md."""

_BATCH_SIZE = 32
_COPIES = 4  # of all features, while the head is fitted: split by split, joined, centred, and standardised


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
    tables = {split: data.split(split) for split in recompositions}
    n = settings.draws * sum(len(table) for table in tables.values())
    # A network without a linear head is refused here.
    check_room("features of recomposed images", memory=_COPIES * n * reference.linear.in_features * 4)
    features = [
        recomposed_features(reference, table, recompositions[split], settings.draws, training.precision, seed)
        for split, table in tables.items()
    ]
    return fit_recomposed(features, [table.y for table in tables.values()], settings, reference.n_classes)


def fit_recomposed(features: Sequence[Floats], y: Sequence[Ints], settings: RetrainSettings, n_classes: int) -> Head:
    """A last layer fitted to features of recomposed images; every class counts the same.

    Parameters
    ----------
    features, y
        (draws * n, d) features and (n,) labels of each split, as from `recomposed_features`.
    settings
        See `RetrainSettings`.
    n_classes
        Number of logits.
    """
    labels = np.concatenate([np.tile(own, settings.draws) for own in y])
    weights = 1 / np.bincount(labels, minlength=n_classes)[labels]
    return fit_weighted_head(
        np.concatenate(features), labels, weights, settings.strength or STRENGTH, n_classes=n_classes
    )


def recomposed_features(
    reference: Classifier,
    table: ImageTable,
    recomposition: Recomposition,
    draws: int,
    precision: Precision,
    seed: int,
) -> Floats:
    """(draws * n, d) penultimate features of recomposed images: all images once, then again on other backgrounds."""
    order, mine = np.arange(len(table)), processes.share(len(table))
    epochs = [
        recomposed_batches(
            table,
            recomposition,
            reference.image_size,
            _BATCH_SIZE,
            order=order[mine],
            before=order[: mine.start],
            seed=seed,
            epoch=draw,
        )
        for draw in range(draws)
    ]
    features = np.zeros((draws, len(table), reference.linear.in_features), np.float32)
    description = f"features of {len(table)} {table.split} images, each on {draws} other backgrounds"
    with GradCam(reference, "auto", precision) as cam:
        batches = ((draw, batch) for draw, epoch in enumerate(epochs) for batch in epoch)
        for draw, (images, _, index) in track(batches, description, total=sum(map(len, epochs))):
            features[draw, index.numpy()] = cam(images).features.detach().cpu().numpy()
    return processes.summed(features).reshape(-1, features.shape[-1])


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
