"""What hangs on unusual corners and borders: they are swapped as the places of concepts are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import norm

from slim.arrays import Flags
from slim.data import ImageTable
from slim.network.classifier import Classifier
from slim.stages.explain.effects import Prober, Scene, drawn_images
from slim.stages.explain.properties import BORDER, CORNERS, Property
from slim.stages.settings import ExplainSettings

_GRID, _CORNER, _BORDER = 16, 3, 1


@dataclass(frozen=True, eq=False)
class MeasuredImages:
    """Images with their properties (n rows), and whether the model is right about each (n,)."""

    table: ImageTable
    properties: pd.DataFrame
    right: Flags

    def scene(self, one: Property, cells: Flags) -> Scene:
        """Which images are unusual, and where."""
        shown = one.direction * (self.properties[one.name].to_numpy() - one.limit) > 0
        return Scene(self.table, shown[:, None, None] & cells, shown, self.right)


def with_swapped_regions(
    related: Sequence[Property],
    train: MeasuredImages,
    val: MeasuredImages,
    reference: Classifier,
    settings: ExplainSettings,
    seed: int,
) -> tuple[Property, ...]:
    """The properties with the effects of unusual corners and borders, where there are any.

    Parameters
    ----------
    related
        Properties that go with a class.
    train, val
        The images; corners and borders are taken from those of train.
    reference, settings, seed
        As for `explain`.
    """
    regions = {CORNERS: _corner_cells(), BORDER: _border_cells()}
    measured = [one.kind != "level" and one.name in regions for one in related]
    z = float(norm.isf(0.025 / max(1, 2 * sum(measured))))
    found = []
    for one, is_measured in zip(related, measured, strict=True):
        if not is_measured:
            found.append(one)
            continue
        label = train.table.class_names.index(one.class_name)
        scenes = tuple(images.scene(one, regions[one.name]) for images in (val, train))
        with Prober(reference, scenes[1], settings.precision, z, seed) as prober:
            needs, misleads = (
                prober.swapped(
                    drawn_images(scenes, label, of_class, settings.images, np.random.default_rng((seed, 16, of_class)))
                )
                for of_class in (True, False)
            )
        found.append(replace(one, needs=needs, misleads=misleads))
    return tuple(found)


def _corner_cells() -> Flags:
    """The four corners on the grid."""
    cells = np.zeros((_GRID, _GRID), bool)
    for rows in (slice(_CORNER), slice(-_CORNER, None)):
        cells[rows, :_CORNER] = cells[rows, -_CORNER:] = True
    return cells


def _border_cells() -> Flags:
    """The border on the grid."""
    cells = np.ones((_GRID, _GRID), bool)
    cells[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    return cells
