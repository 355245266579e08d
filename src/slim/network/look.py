"""One image as a model sees it: the photo, where the model looks, and what it takes it for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import overload

import numpy as np
import pandas as pd
from PIL import Image

from slim.arrays import Bytes, Floats
from slim.data import ImageTable
from slim.data.pixels import read_image
from slim.notebook import picture_html, show
from slim.overlay import heat_map, is_flat, outlined, overlay
from slim.sheets import row, stacked

SIDE = 240
"""Height of the pictures by default, in pixels."""

_SHOWN = 12  # images that a notebook shows of many
_WIDEST = 2.0  # a panel is at most so many times as wide as high
_COLUMNS = 2


@dataclass(frozen=True, eq=False, repr=False)
class Look:
    """One image as a model sees it. A notebook shows it as a picture.

    Attributes
    ----------
    source
        The image, or the path of its file.
    map
        (h, w) attention map in [0, 1]; 1 = the strongest attention, all 0 = a flat map.
    explained
        The class that the map explains.
    prediction, confidence
        The predicted class, and its probability in [0, 1].
    label
        The image's class; None where it is not known.
    region, region_kind
        (h, w) uint8 over the whole frame, above 127 = the object, and what that is: "object map", "mask" or "box";
        None where there is none.
    aiou
        AIoU of the attention with the mask or box, in [0, 1]; 1 = on the object for the label alone. None without a
        mask or box.
    """

    source: Image.Image | str
    map: Floats
    explained: str
    prediction: str
    confidence: float
    label: str | None = None
    region: Bytes | None = None
    region_kind: str = ""
    aiou: float | None = None

    @property
    def photo(self) -> Image.Image:
        """The whole frame, RGB; `DataError` where the file cannot be read."""
        return read_image(self.source) if isinstance(self.source, str) else self.source.convert("RGB")

    @property
    def path(self) -> str:
        """Path of the image's file; empty where it has none."""
        return self.source if isinstance(self.source, str) else ""

    @property
    def is_right(self) -> bool | None:
        """Whether the prediction is the label; None where the label is not known."""
        return None if self.label is None else self.prediction == self.label

    def overlay(self, size: int | tuple[int, int] | None = None) -> Image.Image:
        """The photo with its attention in colour, at its own size by default; see `slim.overlay.overlay`."""
        photo = self.photo
        return overlay(photo, self.map, size or photo.size)

    def image(self, height: int = SIDE) -> Image.Image:
        """Photo, attention, overlay and object side by side, under what the model says.

        Parameters
        ----------
        height
            Of each picture, in pixels.

        Returns
        -------
        PIL.Image.Image
            RGB.
        """
        photo = self.photo
        size = _panel_size(photo, height)
        panels = [
            ("photo", photo.resize(size, Image.Resampling.LANCZOS)),
            (f"attention for {self.explained}", heat_map(self.map, size)),
            ("no attention" if is_flat(self.map) else "overlay", overlay(photo, self.map, size)),
        ]
        if self.region is not None:
            panels.append((self.region_kind, outlined(photo, self.region, size)))
        return row(panels, self.caption)

    def show(self) -> None:
        """Show the picture: in a notebook below the cell, elsewhere in the system's viewer."""
        show(self.image())

    @property
    def caption(self) -> str:
        """What the model says, the label and the file, in one line."""
        said = f"{self.prediction} {100 * self.confidence:.0f} %"
        parts = [said] if self.label is None else [f"{'✓' if self.is_right else '✗'} {said}", f"label {self.label}"]
        parts += [] if self.aiou is None else [f"AIoU {self.aiou:.2f}"]
        return " · ".join([*parts, *([Path(self.path).name] if self.path else [])])

    def _repr_html_(self) -> str:
        return picture_html(self.image(), self.caption)

    def __repr__(self) -> str:
        return f"Look({self.caption})"


@dataclass(frozen=True, eq=False, repr=False)
class Looks(Sequence[Look]):
    """Several images as a model sees them. A notebook shows the first of them as a picture.

    Attributes
    ----------
    items
        One for each image.
    """

    items: Sequence[Look]

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Look: ...
    @overload
    def __getitem__(self, index: slice) -> Looks: ...
    def __getitem__(self, index: int | slice) -> Look | Looks:
        return Looks(self.items[index]) if isinstance(index, slice) else self.items[index]

    def __iter__(self) -> Iterator[Look]:
        return (self[i] for i in range(len(self)))

    @property
    def frame(self) -> pd.DataFrame:
        """One row per image: ``path, label, prediction, confidence, aiou``."""
        names = ("path", "label", "prediction", "confidence", "aiou")
        return pd.DataFrame([[getattr(one, name) for name in names] for one in self], columns=list(names))

    def image(self, height: int = SIDE) -> Image.Image:
        """All of them as one sheet; see `Look.image`."""
        return stacked([one.image(height) for one in self], _COLUMNS)

    def show(self) -> None:
        """Show the sheet: in a notebook below the cell, elsewhere in the system's viewer."""
        show(self.image())

    def _repr_html_(self) -> str:
        return picture_html(self[:_SHOWN].image(SIDE * 2 // 3), repr(self)) if len(self) else escape(repr(self))

    def __repr__(self) -> str:
        lines = [f"  {one!r}" for one in self[:_SHOWN]]
        lines += [f"  and {len(self) - _SHOWN} more"] if len(self) > _SHOWN else []
        return "\n".join([f"Looks({len(self)} images)", *lines])


def _panel_size(photo: Image.Image, height: int) -> tuple[int, int]:
    """Width and height of a panel: so high, or lower for a very wide photo."""
    scale = min(height / photo.height, _WIDEST * height / photo.width)
    return max(1, round(photo.width * scale)), max(1, round(photo.height * scale))


def region_of(table: ImageTable, i: int, size: int = SIDE) -> tuple[Bytes | None, str]:
    """The mask or box of an image as `Look.region`, (size, size), and which of them it is; None and "" without."""
    kind = table.regions
    if kind is None or not table.has_region[i]:
        return None, ""
    return np.uint8(255) * table.region(i, size), {"masks": "mask", "boxes": "box"}[kind]
