"""What was measured about a model, and the settings of measuring it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slim.arrays import Floats
from slim.data import ImageTable
from slim.record import Record

MODELS = ("reference", "random_subset", "retrained")
"""The models that every run compares."""


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups that accuracies are reported over.

    Attributes
    ----------
    index
        (n,) group of each image.
    names
        Name of every group.
    training_shares
        (n_groups,) shares of the training images, or None.
    kind
        The kind of group, in words: "label x attribute", "label x curated cell", or "label".
    """

    index: NDArray[np.int64]
    names: Sequence[str]
    training_shares: Floats | None
    kind: str

    @classmethod
    def from_table(cls, table: ImageTable) -> Groups:
        """Label x attribute if there is an attribute, else the label alone."""
        if table.groups is None:
            return cls(table.y, table.class_names, None, "label")
        return cls(table.groups, table.group_names, table.training_shares, "label x attribute")


@dataclass(frozen=True)
class Measure:
    """Mean of an attention measure over images, and the value of a uniform map on the same images.

    Attributes
    ----------
    value, uniform
        In [0, 1]; 1 = attention on the object only. A value near `uniform` means that the maps are uninformative.
    n
        Images for which the measure is defined; it is undefined for flat maps and empty masks.
    """

    value: float | None
    uniform: float | None
    n: int


@dataclass(frozen=True, eq=False)
class Evaluation(Record):
    """Accuracy and attention quality of one model on one table of images.

    Attributes
    ----------
    groups
        One row per group: ``name, n, correct, accuracy, low, high, training_share``; ``low`` and ``high`` are Wilson's
        95 % interval.
    worst_group, worst_group_accuracy
        Name and accuracy of the group with the smallest accuracy.
    average_accuracy, adjusted_average_accuracy, group_mean_accuracy
        Over images; over groups weighted by their shares of the training images (None if these are unknown); over
        groups with equal weights.
    missing_groups
        Groups without an image, which cannot be the worst group.
    groups_are
        The kind of group, in words.
    attention
        Measures by name: ``inside_fraction, iou, aiou, energy_inside, pointing_game``; None without masks and boxes.
    predictions, confidence
        (n,) predicted class, and its probability.
    inside
        (n,) inside fraction of each image, NaN where undefined; None without masks and boxes.
    """

    groups: pd.DataFrame
    worst_group: str
    worst_group_accuracy: float
    average_accuracy: float
    adjusted_average_accuracy: float | None
    group_mean_accuracy: float
    missing_groups: tuple[str, ...]
    groups_are: str
    attention: dict[str, Measure] | None
    predictions: NDArray[np.int64]
    confidence: Floats
    inside: Floats | None

    @property
    def predicts_one_class(self) -> bool:
        """Whether every image gets the same class: a collapsed model."""
        return len(np.unique(self.predictions)) == 1

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None in place of NaN."""
        numbers = self.groups.astype(object).where(self.groups.notna(), None)
        names = ("worst_group_accuracy", "average_accuracy", "adjusted_average_accuracy", "group_mean_accuracy")
        return {
            **{name: getattr(self, name) for name in names},
            "worst_group": self.worst_group,
            "groups": numbers.to_dict("records"),
            "groups_are": self.groups_are,
            "missing_groups": list(self.missing_groups),
            "attention": self.attention and {name: dict(vars(measure)) for name, measure in self.attention.items()},
            "predicts_one_class": self.predicts_one_class,
        }

    def _tables(self) -> dict[str, pd.DataFrame]:
        names = ("worst_group_accuracy", "average_accuracy", "adjusted_average_accuracy", "group_mean_accuracy")
        rows = [(name.replace("_", " "), getattr(self, name)) for name in names]
        rows += [(name.replace("_", " "), measure.value) for name, measure in (self.attention or {}).items()]
        known = [(name, value) for name, value in rows if value is not None]
        return {"groups": self.groups, "measures": pd.DataFrame(known, columns=["measure", "value"])}

    def __repr__(self) -> str:
        lines = [self.groups.to_string(index=False, float_format="{:.3f}".format)]
        lines += [f"worst group       {self.worst_group_accuracy:.3f}  ({self.worst_group})"]
        lines += [f"average           {self.average_accuracy:.3f}"]
        if self.adjusted_average_accuracy is not None:
            lines += [f"adjusted average  {self.adjusted_average_accuracy:.3f}"]
        lines += [f"group mean        {self.group_mean_accuracy:.3f}"]
        lines += [f"missing groups    {', '.join(self.missing_groups)}"] if self.missing_groups else []
        for name, measure in (self.attention or {}).items():
            if measure.value is not None:
                lines += [f"{name:<18}{measure.value:.3f}  (uniform map {measure.uniform:.3f}, n {measure.n})"]
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Evaluations(Record):
    """The reference model, the baseline and the retrained model, measured on the test split.

    Attributes
    ----------
    reference, random_subset, retrained
        See `Evaluation`.
    images
        One row per test image: ``path, y, group``, and for each model ``<model>_prediction``, ``<model>_confidence``
        and, with masks or boxes, ``<model>_inside``.
    """

    reference: Evaluation
    random_subset: Evaluation
    retrained: Evaluation
    images: pd.DataFrame

    def __getitem__(self, model: str) -> Evaluation:
        """The evaluation of ``"reference"``, ``"random_subset"`` or ``"retrained"``."""
        evaluation: Evaluation = getattr(self, model)
        return evaluation

    def _tables(self) -> dict[str, pd.DataFrame]:
        groups = {"group": self.reference.groups["name"], "n": self.reference.groups["n"]}
        groups |= {name: self[name].groups["accuracy"] for name in MODELS}
        models = self._models().rename_axis("model").reset_index()
        return {"models": models, f"accuracy by {self.reference.groups_are}": pd.DataFrame(groups)}

    def _models(self) -> pd.DataFrame:
        """The accuracies of each model, one row per model."""
        columns = ("worst_group_accuracy", "average_accuracy", "group_mean_accuracy", "worst_group")
        return pd.DataFrame({name: {column: getattr(self[name], column) for column in columns} for name in MODELS}).T

    def __repr__(self) -> str:
        return str(self._models().to_string(float_format="{:.3f}".format))
