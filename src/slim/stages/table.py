"""The table of stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

from slim.network.classifier import Classifier
from slim.record import Record
from slim.stages.annotate.annotate import annotate
from slim.stages.annotate.settings import AnnotateSettings
from slim.stages.attend import AttendSettings, Attention, attend
from slim.stages.curate.curate import curate
from slim.stages.curate.subset import CurateSettings, Subset
from slim.stages.embed import EmbedSettings, Space, embed
from slim.stages.evaluate.evaluate import evaluate
from slim.stages.evaluate.evaluation import EvaluateSettings, Evaluations
from slim.stages.judgements import Judgements
from slim.stages.locate.locate import locate
from slim.stages.locate.object_maps import LocateSettings, ObjectMaps
from slim.stages.propagate.propagate import propagate
from slim.stages.propagate.scores import PropagateSettings, Scores
from slim.stages.report.records import Report
from slim.stages.report.report import report
from slim.stages.retrain.last_layer import RetrainSettings
from slim.stages.retrain.retrain import retrain
from slim.stages.retrain.retrained import Retrained
from slim.stages.train import train
from slim.training import TrainSettings


@dataclass(frozen=True)
class Stage:
    """One step of the method.

    Attributes
    ----------
    verb
        Its command and function, for instance ``"attend"``.
    reads
        Nouns of what its function takes, in order: ``"data"``, and the records of earlier stages.
    settings
        Type of its settings record; None where it has none.
    function
        Does the work; the first sentence of its docstring says what.
    record
        Type of what it returns.
    noun
        What its record is called: in `reads`, messages, and the name of its folder.
    resumes
        Whether the function continues from what an interrupted call left in its folder.
    """

    verb: str
    reads: str
    settings: type | None
    function: Callable[..., Any]
    record: type[Record]
    noun: str
    resumes: bool = False

    @property
    def folder(self) -> str:
        """Its folder in a run, for instance ``"02-attention"``."""
        return f"{list(STAGES).index(self.verb) + 1:02}-{self.noun}"

    @property
    def before(self) -> tuple[str, ...]:
        """Verbs of the stages whose records it reads."""
        return tuple(stage.verb for stage in STAGES.values() if stage.noun in self.reads.split())

    @property
    def purpose(self) -> str:
        """What it does, in one sentence."""
        return (self.function.__doc__ or "").partition("\n")[0].rstrip(".")

    def __call__(self, records: Mapping[str, Any], settings: Any, context: Mapping[str, Any]) -> Any:
        """The stage's record.

        Parameters
        ----------
        records
            ``"data"`` and the records of earlier stages, by noun.
        settings
            The stage's settings record.
        context
            What else a function may name as a keyword: ``seed``, ``folder``, ``reference`` and ``annotator`` of the
            caller's own, ``training`` and ``propagation`` (the settings of those stages) and ``facts``.
        """
        wanted = {p.name for p in signature(self.function).parameters.values() if p.kind is p.KEYWORD_ONLY}
        inputs = [records[noun] for noun in self.reads.split()]
        keywords = {name: value for name, value in context.items() if name in wanted}
        return self.function(*inputs, *([settings] if self.settings else []), **keywords)


# fmt: off
_TABLE = (
    Stage("train", "data", TrainSettings, train, Classifier, "reference", resumes=True),
    Stage("attend", "data reference", AttendSettings, attend, Attention, "attention"),
    Stage("embed", "attention", EmbedSettings, embed, Space, "space"),
    Stage("annotate", "data attention space", AnnotateSettings, annotate, Judgements, "judgements", resumes=True),
    Stage("propagate", "data space judgements", PropagateSettings, propagate, Scores, "scores"),
    Stage("locate", "data attention space judgements", LocateSettings, locate, ObjectMaps, "objects"),
    Stage("curate", "data reference attention space scores", CurateSettings, curate, Subset, "subset"),
    Stage("retrain", "data reference attention objects subset", RetrainSettings, retrain, Retrained, "retrained"),
    Stage(
        "evaluate", "data reference attention subset retrained",
        EvaluateSettings, evaluate, Evaluations, "evaluation",
    ),
    Stage(
        "report", "data reference attention space judgements scores objects subset retrained evaluation",
        None, report, Report, "report",
    ),
)
# fmt: on

STAGES: dict[str, Stage] = {stage.verb: stage for stage in _TABLE}
"""The stages by their verbs, in order."""
