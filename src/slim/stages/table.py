"""The table of stages. It names functions and records, and imports them only when a stage is run or loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from slim.errors import ArtifactError
from slim.stages.annotate.settings import AnnotateSettings
from slim.stages.settings import (
    AttendSettings,
    CurateSettings,
    EmbedSettings,
    EvaluateSettings,
    LocateSettings,
    PropagateSettings,
    RetrainSettings,
)
from slim.training.settings import TrainSettings

if TYPE_CHECKING:
    from slim.record import Record


@dataclass(frozen=True)
class Stage:
    """One step of the method.

    Attributes
    ----------
    verb
        Its command and function, for instance ``"attend"``.
    purpose
        What it does, in one sentence: the first of its function's docstring.
    reads
        Nouns of what its function takes, in order: ``"data"``, and the records of earlier stages.
    settings
        Type of its settings record; None where it has none.
    module
        Where its function is, below ``slim.stages``.
    returns
        Module and name of the record that it returns, below ``slim``.
    noun
        What its record is called: in `reads`, messages, and the name of its folder.
    resumes
        Whether the function continues from what an interrupted call left in its folder.
    shared
        Whether the processes that torchrun starts share its work; otherwise the first of them does it alone.
    """

    verb: str
    purpose: str
    reads: str
    settings: type | None
    module: str
    returns: str
    noun: str
    resumes: bool = False
    shared: bool = False

    @property
    def folder(self) -> str:
        """Its folder in a run, for instance ``"02-attention"``."""
        return f"{list(STAGES).index(self.verb) + 1:02}-{self.noun}"

    @property
    def before(self) -> tuple[str, ...]:
        """Verbs of the stages whose records it reads."""
        return tuple(stage.verb for stage in STAGES.values() if stage.noun in self.reads.split())

    @property
    def function(self) -> Callable[..., Any]:
        """Does the work."""
        function: Callable[..., Any] = resolve_name(f"slim.stages.{self.module}:{self.verb}")
        return function

    @property
    def record(self) -> type[Record]:
        """Type of what it returns."""
        record: type[Record] = resolve_name(f"slim.{self.returns}")
        return record

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
        from slim.network.devices import undisturbed

        with undisturbed():
            return self.function(*inputs, *([settings] if self.settings else []), **keywords)


# fmt: off
_TABLE = (
    Stage(
        "train", "Train the reference model with ERM",
        "data", TrainSettings,
        "train", "network.classifier:Classifier", "reference", resumes=True, shared=True,
    ),
    Stage(
        "attend", "Compute where the model looks, and what it sees there",
        "data reference", AttendSettings,
        "attend", "stages.attend:Attention", "attention", shared=True,
    ),
    Stage(
        "embed", "Place images by what the model looks at",
        "attention", EmbedSettings,
        "embed", "stages.embed:Space", "space",
    ),
    Stage(
        "annotate", "Ask whether the model looks at the object, for a few images",
        "data attention space", AnnotateSettings,
        "annotate.annotate", "stages.judgements:Judgements", "judgements", resumes=True,
    ),
    Stage(
        "propagate", "Generalise the judgements to every image of the pool",
        "data space judgements", PropagateSettings,
        "propagate.propagate", "stages.propagate.scores:Scores", "scores",
    ),
    Stage(
        "locate", "Find the object in every image, from the answers about a few",
        "data attention space judgements", LocateSettings,
        "locate.locate", "stages.locate.object_maps:ObjectMaps", "objects",
    ),
    Stage(
        "curate", "Choose a small subset, balanced over what the model sees",
        "data reference attention space scores", CurateSettings,
        "curate.curate", "stages.curate.subset:Subset", "subset",
    ),
    Stage(
        "retrain", "Retrain on recomposed or curated images, and on a random subset",
        "data reference attention objects subset", RetrainSettings,
        "retrain.retrain", "stages.retrain.retrained:Retrained", "retrained", shared=True,
    ),
    Stage(
        "evaluate", "Measure all models on the test split",
        "data reference attention subset retrained", EvaluateSettings,
        "evaluate.evaluate", "stages.evaluate.evaluation:Evaluations", "evaluation", shared=True,
    ),
    Stage(
        "report", "Write the report",
        "data reference attention space judgements scores objects subset retrained evaluation", None,
        "report.report", "stages.report.records:Report", "report",
    ),
)
# fmt: on


class _Stages(dict[str, Stage]):
    """Stages by their verbs, of which any other name is refused."""

    def __missing__(self, verb: str) -> Stage:
        noun = next((stage.verb for stage in self.values() if stage.noun == verb), "train")
        raise ArtifactError(f"A stage must be one of {', '.join(self)}. Got {verb!r}. Try {noun}.")


STAGES: dict[str, Stage] = _Stages({stage.verb: stage for stage in _TABLE})
"""The stages by their verbs, in order."""
