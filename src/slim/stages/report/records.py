"""The records of the report: its facts, its result, and the plain values that it is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from PIL import Image

from slim.errors import ArtifactError
from slim.record import Record
from slim.stages.judgements import Place
from slim.stages.retrain.choices import Images, Mode, ModelKey
from slim.stages.retrain.reliance import Reliance

if TYPE_CHECKING:
    from slim.stages.explain.explanation import Explanation


@dataclass(frozen=True, eq=False)
class RunFacts:
    """Facts about the run itself.

    Attributes
    ----------
    title
        Name of the run.
    seed
        Random seed.
    settings
        Settings record of each stage by its verb; None where a stage has none.
    seconds
        Wall time of each finished stage, by its verb.
    warnings
        The warnings of the stages.
    explanation
        What `slim.explain` found, if it was run.
    """

    title: str
    seed: int
    settings: Mapping[str, Any]
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    explanation: Explanation | None = None


@dataclass(frozen=True, eq=False)
class Report(Record):
    """The report: one page for people, and the numbers for programs.

    Attributes
    ----------
    metrics
        See `metrics`.
    page
        ``report.html``, which needs no other file and no network.
    """

    metrics: dict[str, Any] = field(metadata={"file": "metrics.json"})
    page: str = field(metadata={"file": "report.html"})

    def _tables(self) -> dict[str, pd.DataFrame]:
        columns = ("title", "supervision", "worst_group_accuracy", "worst_group", "average_accuracy")
        rows = [[self.metrics[key][column] for column in columns] for key in MODEL_KEYS if self.metrics[key]]
        return {str(self): pd.DataFrame(rows, columns=[column.replace("_", " ") for column in columns])}

    def __repr__(self) -> str:
        return str(self.metrics["headline"])


MODEL_KEYS: tuple[ModelKey, ...] = ("reference", "random_subset", "retrained")
TITLES: dict[ModelKey, str] = {
    "reference": "Reference model",
    "random_subset": "Random subset",
    "retrained": "SLIM",
}
"""What the report calls the models that it compares."""

THUMBNAIL = 200
"""Longer side of a photograph on the page, in pixels."""

SHOWN_QUERIES = 240
"""Judged images that the page shows at most, so that it stays small."""

SPLIT_NAMES = {"train": "training", "val": "validation"}
"""How the report calls the images of a pool."""


@dataclass(frozen=True)
class DataSummary:
    """The data that the models were trained and tested on.

    Attributes
    ----------
    name
        The data set's name.
    splits
        Number of images in each split: ``{"train": 4795, "val": 1199, "test": 5794}``. ``"train"`` must be there.
    class_names
        Name of each label.
    attribute_names
        Name of each value of the spurious attribute; empty without one.
    groups
        ``{"name": str, "train": int}`` for each group, where the training counts are known.
    fingerprint
        See `Dataset`.
    """

    name: str
    splits: Mapping[str, int]
    class_names: Sequence[str]
    attribute_names: Sequence[str] = ()
    groups: Sequence[Mapping[str, Any]] = ()
    fingerprint: str = ""


@dataclass(frozen=True)
class ModelRow:
    """One model's row in the comparison.

    Attributes
    ----------
    key
        Which of the three models it is.
    title
        Its name for readers, for instance ``"Reference model"``.
    supervision
        What it was trained with, for instance ``"class labels + 40 judgements (ann)"``.
    train_images
        How many images it was trained or, if retrained, retrained on.
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
    """One photograph, and what several models make of it.

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
    moved
        Share of the attention that is elsewhere in the retrained model, in [0, 1]; None where it was not measured.
    """

    photo: Image.Image
    maps: Mapping[ModelKey, np.ndarray]
    label: str
    predictions: Mapping[ModelKey, tuple[str, float]]
    group: str
    moved: float | None = None


@dataclass(frozen=True, eq=False)
class QueryCard:
    """One image that was shown for judging, its attention map (h, w), the answer, and where the object is."""

    photo: Image.Image
    map: np.ndarray
    label: str
    answer: str
    place: Place | None = None


@dataclass(frozen=True, eq=False)
class Scatter:
    """The attention space.

    Attributes
    ----------
    coordinates
        (n, 2) position of each image of the pool.
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
class ObjectCard:
    """What the report shows of the object maps.

    Attributes
    ----------
    sheet
        Some images, outlined, recomposed, and with their objects erased.
    source
        What the maps were made from: "answers", "masks" or "boxes".
    trust
        ``n``, ``hits``, ``share``, ``low``, ``high`` and ``area``; None where the maps were not made from answers.
    """

    sheet: Image.Image
    source: str
    trust: Mapping[str, Any] | None


@dataclass(frozen=True, eq=False)
class ReportInput:
    """Everything that a report shows.

    Attributes
    ----------
    title
        The run's name.
    data
        See `DataSummary`.
    rows
        The models; the reference and the retrained one must be among them.
    judgements
        ``judged``, ``core``, ``spurious``, ``unsure`` (counts), ``pool`` ("train" or "val"), ``share_of_pool`` (a
        fraction) and ``annotator``; perhaps ``seconds`` that answering took and ``places`` (how many answers say where
        the object is).
    subset_size
        Number of images in the subset.
    seed, version, created, device
        The run's random seed, the version of SLIM, and when and on which device the report was made.
    arithmetic
        What the last digits hang on: threads and precision, in words.
    trust
        For each class: ``class_name``, ``auc``, ``low``, ``high`` (None where undefined), ``verdict``, ``n_core``,
        ``n_spurious`` and ``n_unsure``.
    scatter
        The attention space, or None to leave it out.
    subset
        For each cell: ``class``, ``core_cluster``, ``environment_cluster``, ``available``, ``share`` and ``size``.
    examples, moved, queries
        Photographs to show, those whose attention moved most, and judged ones; may be empty.
    objects
        See `ObjectCard`; None to leave it out.
    method
        How the judgements were generalised to attention scores: "regression" or "spreading".
    retrained
        What was retrained: the "last-layer" or the "full" network.
    fits_val
        Whether the last layer was fitted to the validation images as well.
    images
        What the model was retrained on: "recomposed" images, the "subset", or "none", if no shortcut was found.
    reliance
        How much the reference model relies on backgrounds; None if it was not measured.
    uses_val
        Whether val was used as it is, besides recomposed images.
    stages
        ``stage`` and ``seconds`` of each.
    settings
        Each stage's settings.
    recipe
        The settings that are not the defaults, as a recipe.
    command
        The command that makes the run again, with that recipe.
    warnings
        What readers must know before they trust the numbers.

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
    arithmetic: str = ""
    trust: Sequence[Mapping[str, Any]] = ()
    scatter: Scatter | None = None
    subset: Sequence[Mapping[str, Any]] = ()
    examples: Sequence[Example] = ()
    moved: Sequence[Example] = ()
    queries: Sequence[QueryCard] = ()
    objects: ObjectCard | None = None
    method: Literal["regression", "spreading"] = "regression"
    retrained: Mode = "last-layer"
    fits_val: bool = False
    images: Images = "subset"
    reliance: Reliance | None = None
    uses_val: bool = False
    stages: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recipe: str = ""
    command: str = ""
    warnings: Sequence[str] = ()

    def __post_init__(self) -> None:
        keys = {row.key for row in self.rows}
        if not {"reference", "retrained"} <= keys:
            raise ArtifactError(
                "A report must compare the reference with the retrained model. "
                f"Got rows for: {', '.join(sorted(keys)) or 'no model'}. Evaluate both models first."
            )
