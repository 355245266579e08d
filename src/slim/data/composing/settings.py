"""Settings of `slim.compose`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from slim.errors import SettingsError


@dataclass(frozen=True)
class ComposeSettings:
    """How a benchmark is composed.

    Parameters
    ----------
    shortcut
        What is correlated with the class in train: the "scene", as in Waterbirds; a "sticker" in a corner, on every
        other class; or "none".
    correlation
        Share of a class's train images that show its usual scene, or a sticker; the other scenes share the rest. In
        classes that usually have no sticker, the rest have one. Val and test are balanced.
    side
        Side of the square images, in pixels.
    train
        Train images; classes get equal shares, as in every split.
    val
        Val images.
    test
        Test images.
    smallest
        Longer edge of the smallest objects, as a share of the image's side.
    largest
        That of the largest objects.
    sticker
        Diameter of a sticker, as a share of the image's side.
    views
        Whether files whose names agree up to the first underscore show the same object, which then stays in one split.
    """

    shortcut: Literal["scene", "sticker", "none"] = "scene"
    correlation: float = 0.95
    side: int = 128
    train: int = 1200
    val: int = 240
    test: int = 720
    smallest: float = 0.35
    largest: float = 0.6
    sticker: float = 0.14
    views: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.correlation <= 1:
            raise SettingsError(f"The correlation must lie in [0, 1]. Got {self.correlation}. Try 0.95.")
        if not 0 < self.smallest <= self.largest <= 1:
            raise SettingsError(
                "Sizes of objects must be above 0 and at most 1, the smallest first. "
                f"Got {self.smallest} to {self.largest}. Try 0.35 to 0.6."
            )
        if not 0 < self.sticker <= 0.5:
            raise SettingsError(f"A sticker's size must lie in (0, 0.5]. Got {self.sticker}. Try 0.14.")
        if self.side < 32:
            raise SettingsError(f"The side must be at least 32 pixels. Got {self.side}. Try 128.")
        for name in ("train", "val", "test"):
            if getattr(self, name) < 2:
                raise SettingsError(f"{name} must be at least 2 images. Got {getattr(self, name)}. Try 240.")
