"""Retraining on recomposed images: the object of each image on the backgrounds of other images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from scipy.stats import binomtest

from slim import processes
from slim.arrays import Flags, Floats, Ints
from slim.data import Dataset, ImageTable, Recomposition, recomposed_batches
from slim.network.classifier import Classifier
from slim.network.gradcam import GradCam
from slim.network.pace import Pace, announce_time
from slim.progress import track
from slim.room import check_room
from slim.stages.attend import SplitAttention
from slim.stages.retrain.last_layer import Head, fit_weighted_head
from slim.stages.settings import RetrainSettings
from slim.training import TrainSettings, train_classifier

STRENGTH = 1e-3
"""Inverse strength of the l2 penalty; chosen among four on two data sets, see docs/log.md."""

VAL_SHARE = 0.1
"""Weight of val as it is, of all that a last layer is fitted to; see docs/log.md."""

_LEVEL = 0.05
_BATCH_SIZE = 32


@dataclass(frozen=True, eq=False)
class UnchangedVal:
    """The images of val as they are, which a last layer may be fitted to besides recomposed ones.

    Attributes
    ----------
    features
        (m, d) penultimate features.
    y
        (m,) labels.
    right
        (m,) whether the reference model is right.
    """

    features: Floats
    y: Ints
    right: Flags

    @classmethod
    def of(cls, attention: SplitAttention, y: Ints) -> Self:
        """Val, from its attention and labels."""
        return cls(np.asarray(attention.features), y, np.asarray(attention.probabilities).argmax(1) == y)

    def is_free_of_shortcut(self, head: Head) -> bool:
        """Whether a head that was fitted to recomposed images is right more often than the reference model.

        Where val is as biased as train, the shortcut of the reference model pays. The sign test of the images on which
        the two differ must be significant at 5 %.
        """
        right = head.predict(self.features) == self.y
        gained, lost = int((right & ~self.right).sum()), int((self.right & ~right).sum())
        return gained > lost and bool(binomtest(gained, gained + lost, alternative="greater").pvalue < _LEVEL)


def recomposed_head(
    data: Dataset,
    reference: Classifier,
    recompositions: Mapping[str, Recomposition],
    settings: RetrainSettings,
    training: TrainSettings,
    *,
    val: UnchangedVal | None = None,
    seed: int,
) -> Head:
    """A last layer fitted to recomposed images of some splits; every class counts the same.

    Val is recomposed like the pool, so that it cannot bring a shortcut back, however biased it is. If `val` is given,
    its images are used as they are too, unless the shortcut pays there.
    """
    tables, draws = {split: data.split(split) for split in recompositions}, settings.draws
    ends = np.cumsum([draws * len(table) for table in tables.values()]).tolist()
    rows = ends[-1] + (0 if val is None else len(val.y))
    # A network without a linear head is refused here.
    width = reference.linear.in_features
    fewer = f"fewer draws than {draws} per image (--draws of slim retrain)" if draws > 1 else "fewer images"
    check_room("features of recomposed images", memory=rows * width * np.dtype(np.float32).itemsize, fewer=fewer)
    first = next(iter(tables))
    with GradCam(reference, "auto", training.precision) as cam:
        announce_time(
            "features of recomposed images",
            f"{ends[-1]:,}, {draws} of each image",
            lambda: Pace.of_passes(cam, tables[first], _BATCH_SIZE, recompositions[first]).seconds(ends[-1]),
        )
        features = np.zeros((rows, width), np.float32)
        for (split, table), part in zip(tables.items(), np.split(features[: ends[-1]], ends[:-1]), strict=True):
            recomposed_features(cam, table, recompositions[split], draws, seed, into=part)
    return fit_recomposed(features, [table.y for table in tables.values()], settings, reference.n_classes, val)


def fit_recomposed(
    features: Floats,
    y: Sequence[Ints],
    settings: RetrainSettings,
    n_classes: int,
    val: UnchangedVal | None = None,
) -> Head:
    """A last layer fitted to features of recomposed images; every class counts the same.

    Parameters
    ----------
    features
        (draws * n, d) of each split as from `recomposed_features`, one below the other, and room for those of `val`
        below them. They are standardised in place.
    y
        (n,) labels of each split.
    settings
        See `RetrainSettings`.
    n_classes
        Number of logits.
    val
        Val as it is, if it may be used.
    """
    strength = settings.strength or STRENGTH
    labels = np.concatenate([np.tile(own, settings.draws) for own in y])
    weights, n = _class_weights(labels), len(y[0])
    uses_val = val is not None and val.is_free_of_shortcut(
        fit_weighted_head(features[:n].copy(), y[0], _class_weights(y[0]), strength, n_classes=n_classes)
    )
    if val is not None and uses_val:
        features[len(labels) :] = val.features
        weights = np.concatenate([(1 - VAL_SHARE) * weights, VAL_SHARE * _class_weights(val.y)])
        labels = np.concatenate([labels, val.y])
    head = fit_weighted_head(features[: len(labels)], labels, weights, strength, n_classes=n_classes)
    return replace(head, uses_val=uses_val)


def _class_weights(y: Ints) -> Floats:
    """(n,) weights whose sum is 1, and the same for every class that occurs."""
    counts = np.bincount(y)
    return np.asarray(1 / counts[y] / (counts > 0).sum())


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
            device=cam.classifier.device,
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
