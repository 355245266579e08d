"""Object maps of the images to train on, and how far they can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from slim.arrays import Bytes
from slim.record import Record
from slim.stages.settings import MapSource


@dataclass(frozen=True)
class Trust:
    """How often an object map contains what a person points at.

    Attributes
    ----------
    n
        Images with a place on the object; each was left out in turn.
    hits
        How many of their maps, made without them, contain the place.
    share
        ``hits / n``; None for no image.
    low, high
        95 % Wilson interval of the share.
    area
        Mean share of the image that a map covers: what a random place would hit.
    """

    n: int
    hits: int
    share: float | None
    low: float
    high: float
    area: float


@dataclass(frozen=True, eq=False)
class ObjectMaps(Record):
    """Where the object is in every image of train and val.

    Attributes
    ----------
    train, val
        (n, 64, 64) uint8 over the whole frame of each image; above 127 = the object.
    source
        What they were made from.
    trust
        None where they were not made from answers.
    """

    train: Bytes
    val: Bytes
    source: MapSource = "answers"
    trust: Trust | None = None

    def split(self, name: str) -> Bytes:
        """The maps of the split ``"train"`` or ``"val"``."""
        maps: Bytes = {"train": self.train, "val": self.val}[name]
        return maps

    def to_frame(self, split: str = "train") -> pd.DataFrame:
        """One row per image of a split: ``object_area``, the share of the image that its object covers, in [0, 1]."""
        return pd.DataFrame({"object_area": (self.split(split) > 127).mean((1, 2))})

    def __repr__(self) -> str:
        trusted = ""
        if self.trust is not None and self.trust.n:
            trusted = f"; {self.trust.hits} of {self.trust.n} left-out places inside"
        return f"ObjectMaps(train {len(self.train)}, val {len(self.val)}; from {self.source}{trusted})"
