"""A run folder together with its settings and images: what every stage works in."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from slim.annotation import Annotator, BrowserAnnotator
from slim.artifacts import Run
from slim.attention import Attention
from slim.datasets import Dataset, ImageTable, load_dataset
from slim.errors import SettingsError
from slim.factors import Mistakes
from slim.models import Classifier, load_classifier, resolve_device
from slim.settings import RunSettings


@dataclass(frozen=True)
class Stage:
    """One step of the method.

    Attributes
    ----------
    verb
        Its command, for instance ``"attend"``.
    folder
        Its place in the run folder.
    reads
        Verbs of the stages whose results it uses.
    purpose
        What it does, in words a newcomer understands.
    result
        What it leaves behind, for messages.
    """

    verb: str
    folder: str
    reads: tuple[str, ...]
    purpose: str
    result: str


STAGES = {
    stage.verb: stage
    for stage in (
        Stage("train", "1-reference", (), "train the reference model, plainly", "reference model"),
        Stage("attend", "2-attention", ("train",), "compute where the model looks and what it sees", "attention maps"),
        Stage("embed", "3-space", ("attend",), "place images by what the model looks at", "attention space"),
        Stage("annotate", "4-annotation", ("attend", "embed"), "ask whether it looks at the right thing", "judgements"),
        Stage("propagate", "5-propagation", ("embed", "annotate"), "spread the judgements to every image", "scores"),
        Stage("curate", "6-curation", ("attend", "embed", "propagate"), "choose a small balanced subset", "subset"),
        Stage("retrain", "7-retrained", ("train", "attend", "curate"), "retrain on it", "retrained model"),
        Stage("evaluate", "8-evaluation", ("attend", "curate", "retrain"), "measure on the test split", "evaluation"),
        Stage(
            "report",
            "8-report",
            ("attend", "embed", "annotate", "propagate", "curate", "evaluate"),
            "write the report",
            "report",
        ),
    )
}


@dataclass(frozen=True)
class Workspace:
    """A run folder together with its settings and images.

    Parameters
    ----------
    run
        The run folder.
    settings
        What its stages are to be made with.
    given
        The images, where they came from Python and not from ``settings.data``.
    reference
        A classifier of your own to take as the reference.
    annotator
        Who answers, in place of the one that the settings name.
    """

    run: Run
    settings: RunSettings
    given: Dataset | None = None
    reference: Classifier | None = None
    annotator: Annotator | BrowserAnnotator | None = None

    @cached_property
    def data(self) -> Dataset:
        """The images.

        Raises
        ------
        SettingsError
            The run does not know where they are.
        """
        if self.given is not None:
            return self.given
        if not self.settings.data.get("source"):
            raise SettingsError(
                f"A run needs images. Got none for {self.run.folder}. Name them: --data FOLDER, or data= in Python."
            )
        return load_dataset(**self.settings.data)

    @property
    def pool(self) -> ImageTable:
        """The split that the subset comes from."""
        return self.data.train if self.settings.pool == "train" else self.data.val

    @cached_property
    def classifier(self) -> Classifier:
        """The reference model of stage 1."""
        # A copy, since the saved tensors go into it, and the caller's own network is his.
        module = deepcopy(self.reference.module) if self.reference is not None else None
        return load_classifier(self.folder("train"), module).to(resolve_device(self.settings.train.device))

    def folder(self, verb: str) -> Path:
        """A stage's folder."""
        return self.run.stage_folder(STAGES[verb].folder)

    def attention(self, split: str) -> Attention:
        """What stage 2 found in a split."""
        return Attention.load(self.folder("attend") / split)

    def mistakes(self) -> Mistakes:
        """Where the reference model errs on the val split."""
        val = self.attention("val")
        head = self.classifier.head_weight
        return Mistakes.of(val.environment, val.features, val.probabilities, self.data.val.y, head)
