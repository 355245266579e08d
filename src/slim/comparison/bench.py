"""What all rows of a comparison share: the reference model, attention and space of one seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from slim.arrays import Ints
from slim.data import Dataset, ImageTable
from slim.errors import SettingsError
from slim.metrics import accuracy_by_group
from slim.network.classifier import Classifier
from slim.runs.run import Run
from slim.runs.settings import RunSettings
from slim.stages.attend import Attention, SplitAttention
from slim.stages.embed import Space
from slim.stages.evaluate.evaluation import Groups
from slim.stages.retrain.last_layer import Head, HeldOut


@dataclass(frozen=True)
class Bench:
    """One seed of a comparison.

    Attributes
    ----------
    run
        A run whose stages up to embed are done.
    """

    run: Run

    @property
    def data(self) -> Dataset:
        """The images."""
        return self.run.data

    @property
    def settings(self) -> RunSettings:
        """The settings of the run."""
        return self.run.settings

    @property
    def seed(self) -> int:
        """Random seed."""
        return self.run.settings.seed

    @cached_property
    def reference(self) -> Classifier:
        """The reference model."""
        model: Classifier = self.run.load("train")
        return model

    @cached_property
    def attention(self) -> Attention:
        """The attention of all splits."""
        attention: Attention = self.run.load("attend")
        return attention

    @cached_property
    def space(self) -> Space:
        """The attention space of the pool."""
        space: Space = self.run.load("embed")
        return space

    @property
    def pool(self) -> ImageTable:
        """The split that subsets come from."""
        return self.data.split(self.space.pool)

    @property
    def pool_attention(self) -> SplitAttention:
        """The attention of the pool."""
        return self.attention.split(self.space.pool)

    @property
    def size(self) -> int:
        """The number of images in every subset."""
        size: int = self.settings["curate"].size
        return size

    @property
    def fits_val(self) -> bool:
        """Whether SLIM's last layer is fitted to val as well."""
        fits_val: bool = self.settings["retrain"].fits_val(self.space.pool)
        return fits_val

    def groups(self, split: str) -> Ints:
        """The groups (n,) of a split.

        Raises
        ------
        SettingsError
            There is no spurious attribute.
        """
        groups = self.data.split(split).groups
        if groups is None:
            raise SettingsError(
                "This row needs group labels. Got data without a spurious attribute. Name it (--attribute), or choose "
                "rows without group labels (--rows)."
            )
        return np.asarray(groups)

    def by_group(self, split: str) -> HeldOut:
        """The features, labels and groups of a split."""
        features = np.asarray(self.attention.split(split).features)
        return HeldOut(features, self.data.split(split).y, self.groups(split))

    def worst_group(self, head: Head | None) -> float:
        """Worst-group test accuracy of a last layer on the stored features; None stands for the reference model."""
        test, groups = self.attention.test, Groups.from_table(self.data.test)
        predicted = (
            np.asarray(test.probabilities).argmax(1) if head is None else head.predict(np.asarray(test.features))
        )
        right = predicted == self.data.test.y
        return accuracy_by_group(right, groups.index, groups.names, groups.training_shares).worst_group_accuracy
