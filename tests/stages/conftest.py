"""The records of one small run, made stage by stage from photographs of noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from slim.arrays import Bytes
from slim.data import Dataset, ImageTable
from slim.matting import SIDE
from slim.network.classifier import Classifier
from slim.stages.attend import Attention, attend
from slim.stages.embed import Space
from slim.stages.judgements import Judgements, queried_images
from slim.stages.locate.object_maps import ObjectMaps
from slim.stages.propagate.scores import ClassTrust, Scores
from slim.stages.settings import AttendSettings
from slim.training import TrainSettings

SIZES = {"train": 40, "val": 16, "test": 12}


@dataclass(frozen=True)
class Records:
    """What the stages up to the object maps leave behind."""

    data: Dataset
    reference: Classifier
    attention: Attention
    space: Space
    judgements: Judgements
    scores: Scores
    objects: ObjectMaps


def _judgements(table: ImageTable) -> Judgements:
    """Two images of each class are judged core, one spurious, and one image is unsure."""
    index = np.concatenate([np.flatnonzero(table.y == k)[:3] for k in range(len(table.class_names))])
    answers = ["core", "spurious", "core"] * len(table.class_names)
    more = np.flatnonzero(table.y == 0)[3:4]
    frame = queried_images(table, np.concatenate([index, more]))
    return Judgements(frame.assign(answer=[*answers, "unsure"], annotator="ann", seconds=1.0))


def _trust(table: ImageTable, name: str, label: int) -> ClassTrust:
    unasked = int((table.y == label).sum()) - 3 - (label == 0)
    return ClassTrust(name, 2, 1, int(label == 0), unasked, None, 0.9, 0.4, 1.0, "not above chance")


def _squares(n: int) -> Bytes:
    """Object maps of n images: a square in the middle."""
    maps = np.zeros((n, SIDE, SIDE), np.uint8)
    maps[:, SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4] = 255
    return maps


@pytest.fixture
def records(
    photos: Callable[..., ImageTable], small_classifier: Callable[..., Classifier], small_and_quiet: None
) -> Callable[..., Records]:
    """Makes the records; in seconds, since the network is tiny and nothing is trained."""

    def make(pool: str = "train", **columns: Any) -> Records:
        columns = {"attribute": True, "masks": True, **columns}
        tables = {split: photos(size, split=split, seed=i, **columns) for i, (split, size) in enumerate(SIZES.items())}
        data = Dataset(**tables, fingerprint="0123456789abcdef", name="noise")
        reference = replace(small_classifier(), class_names=data.train.class_names)
        untrained = TrainSettings(weights=None)  # places are then described by the reference model
        attention = attend(data, reference, AttendSettings(precision="32-true"), training=untrained)
        table, contrast = data.split(pool), attention.split(pool).contrast
        components = np.asarray(contrast, np.float32)[:, :4]
        space = Space(components[:, :2], attention.split(pool).environment[:, :2], components, pool)
        values = np.linspace(0, 1, len(table), dtype=np.float32)
        trust = tuple(_trust(table, name, label) for label, name in enumerate(table.class_names))
        objects = ObjectMaps(*(_squares(len(data.split(split))) for split in ("train", "val")))
        return Records(data, reference, attention, space, _judgements(table), Scores(values, trust), objects)

    return make
