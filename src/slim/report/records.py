"""What a report is made from: plain records, which the stages' results are put into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from PIL import Image

from slim.errors import ArtifactError

ModelKey = Literal["reference", "random_subset", "retrained"]
MODEL_KEYS: tuple[ModelKey, ...] = ("reference", "random_subset", "retrained")


@dataclass(frozen=True)
class DataSummary:
    """What the models were trained and tested on.

    Attributes
    ----------
    name
        The data set's name.
    splits
        Number of images of each split: ``{"train": 4795, "val": 1199, "test": 5794}``. ``"train"`` must be there.
    class_names
        Name of each label.
    attribute_names
        Name of each value of the spurious attribute; empty without one.
    groups
        ``{"name": str, "train": int}`` for each group, where the training counts are known.
    """

    name: str
    splits: Mapping[str, int]
    class_names: Sequence[str]
    attribute_names: Sequence[str] = ()
    groups: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class ModelRow:
    """One model's line in the comparison.

    Attributes
    ----------
    key
        Which of the three models it is.
    title
        Its name for readers, for instance ``"Reference model"``.
    supervision
        What it was told, for instance ``"class labels + 40 judgements"``.
    train_images
        How many images it was trained on.
    evaluation
        ``worst_group_accuracy``, ``worst_group``, ``average_accuracy``, ``adjusted_average_accuracy`` (or None),
        ``group_mean_accuracy``, ``groups`` (``name``, ``n``, ``correct``, ``accuracy``, ``low``, ``high``,
        ``training_share`` or None), ``groups_are``, ``missing_groups``, ``predicts_one_class`` and ``attention``:
        None without masks, else ``value``, ``uniform`` and ``n`` of each measure. Accuracies are fractions in [0, 1].
    """

    key: ModelKey
    title: str
    supervision: str
    train_images: int
    evaluation: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Example:
    """One photograph as several models see it.

    Attributes
    ----------
    photo
        The whole frame, of any size.
    maps
        Each model's attention map of it, (h, w) in [0, 1].
    label
        Name of its class.
    predictions
        Each model's predicted class name, and its confidence in [0, 1].
    group
        Name of its group.
    """

    photo: Image.Image
    maps: Mapping[ModelKey, np.ndarray]
    label: str
    predictions: Mapping[ModelKey, tuple[str, float]]
    group: str


@dataclass(frozen=True, eq=False)
class QueryCard:
    """One image that was shown for judging, its attention map (h, w), and the answer: core, spurious or unsure."""

    photo: Image.Image
    map: np.ndarray
    label: str
    answer: str


@dataclass(frozen=True, eq=False)
class Scatter:
    """The attention space.

    Attributes
    ----------
    coordinates
        (n, 2) place of each training image.
    y
        (n,) labels.
    scores
        (n,) attention scores in [0, 1]; 1 = looks at the core.
    queries
        (m,) rows that were judged.
    answers
        The m answers, in the order of `queries`.
    a
        (n,) spurious attribute, or None.
    """

    coordinates: np.ndarray
    y: np.ndarray
    scores: np.ndarray
    queries: np.ndarray
    answers: Sequence[str]
    a: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class ReportInput:
    """Everything that a report says.

    Attributes
    ----------
    title
        The run's name.
    data
        What the models were trained and tested on.
    rows
        The models; the reference and the retrained one must be among them.
    judgements
        ``asked``, ``core``, ``spurious``, ``unsure`` (counts), ``share_of_train`` (a fraction) and ``annotator``.
    subset_size
        Number of images in the subset.
    seed, version, created, device
        What made the run, when and where.
    trust
        For each class: ``class_name``, ``auc``, ``low``, ``high`` (None where undefined), ``verdict``, ``n_core``,
        ``n_spurious`` and ``n_unsure``.
    scatter
        The attention space, or None to leave it out.
    subset
        For each cell: ``class``, ``core_cluster``, ``environment_cluster``, ``available``, ``share`` and ``size``.
    examples, queries
        Photographs to show; may be empty.
    shortcut
        Whether one was found; the retrained model is the reference where not.
    stages
        ``stage`` and ``seconds`` of each.
    settings
        Each stage's settings.
    warnings
        What a reader must know before trusting the numbers.

    Raises
    ------
    ArtifactError
        The reference or the retrained model is not among the rows.
    """

    title: str
    data: DataSummary
    rows: Sequence[ModelRow]
    judgements: Mapping[str, Any]
    subset_size: int
    seed: int
    version: str
    created: str
    device: str = "cpu"
    trust: Sequence[Mapping[str, Any]] = ()
    scatter: Scatter | None = None
    subset: Sequence[Mapping[str, Any]] = ()
    examples: Sequence[Example] = ()
    queries: Sequence[QueryCard] = ()
    shortcut: bool = True
    stages: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def __post_init__(self) -> None:
        keys = {row.key for row in self.rows}
        if not {"reference", "retrained"} <= keys:
            raise ArtifactError(
                "A report must compare the reference with the retrained model. "
                f"Got rows for: {', '.join(sorted(keys)) or 'no model'}. Evaluate both models first."
            )
