"""What all rows of a comparison share: the reference model, attention and space of one seed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from slim.arrays import Floats, Ints
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

Val = Literal["whole", "biased", "none"]


@dataclass(frozen=True)
class Bench:
    """One seed of a comparison.

    Attributes
    ----------
    run
        A run whose stages up to embed are done.
    val
        What rows know of val: the "whole" split, a part of it as "biased" over groups as train, or "none", not even for
        tuning.
    recomposed
        The features of recomposed train images that were computed last, by what they were made from.
    """

    run: Run
    val: Val = "whole"
    recomposed: dict[str, Floats] = field(default_factory=dict)

    def at(self, val: Val) -> Bench:
        """The same seed with another val."""
        return self if val == self.val else replace(self, val=val)

    @cached_property
    def data(self) -> Dataset:
        """The images."""
        whole = self.run.data
        return replace(whole, val=whole.val[self._biased]) if self.val == "biased" else whole

    @cached_property
    def settings(self) -> RunSettings:
        """The settings of the run; without val, those that do without it."""
        settings = self.run.settings
        if self.val != "none":
            return settings
        balance = {"auto": "environment"}.get(settings["curate"].balance, settings["curate"].balance)
        return settings.updated({"retrain": {"use_val": False}, "curate": {"balance": balance}})

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
        return replace(attention, val=attention.val[self._biased]) if self.val == "biased" else attention

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

    @cached_property
    def _biased(self) -> Ints:
        """The positions of the images of a biased val."""
        val, train = _known_groups(self.run.data.val), _known_groups(self.run.data.train)
        shares = np.bincount(train, minlength=self.run.data.val.n_groups) / len(train)
        return biased_positions(val, shares, self.seed)

    def groups(self, split: str) -> Ints:
        """The groups (n,) of a split.

        Raises
        ------
        SettingsError
            There is no spurious attribute.
        """
        return _known_groups(self.data.split(split))

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


def _known_groups(table: ImageTable) -> Ints:
    if table.groups is None:
        raise SettingsError(
            "This row needs group labels. Got data without a spurious attribute. Name it (--attribute), or choose rows "
            "without group labels (--rows), and no biased val (--vals)."
        )
    return np.asarray(table.groups)


def biased_positions(groups: Ints, shares: Floats, seed: int) -> Ints:
    """Draw as many images as can have these group shares, at least one of each group; those that are missing aside.

    Parameters
    ----------
    groups
        (n,) of the split to draw from.
    shares
        (n_groups,) of another split, at most 1 in all.
    seed
        Random seed.

    Returns
    -------
    ndarray
        Sorted positions, each once.

    Examples
    --------
    >>> groups = np.repeat([0, 1, 2, 3], 10)
    >>> drawn = biased_positions(groups, np.array([0.48, 0.02, 0.02, 0.48]), seed=0)
    >>> np.bincount(groups[drawn]).tolist()
    [10, 1, 1, 10]
    """
    counts = np.bincount(groups, minlength=len(shares))
    drawn_from = (counts > 0) & (shares > 0)
    total = int(min(counts[drawn_from] / shares[drawn_from], default=0))
    rng = np.random.default_rng(seed)
    drawn = [
        rng.choice(np.flatnonzero(groups == group), max(1, round(total * share)), replace=False)
        for group, share in enumerate(shares)
        if counts[group]
    ]
    return np.sort(np.concatenate(drawn))
