"""All stages in memory: from a data set to a result that holds every record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from slim.arguments import checked
from slim.data import Dataset, check
from slim.network.classifier import Classifier
from slim.progress import announce
from slim.runs.folder import collecting_warnings
from slim.runs.settings import Overrides, RunSettings, read_recipe
from slim.stages import STAGES
from slim.stages.annotate.annotator import Annotator
from slim.stages.annotate.page.server import BrowserAnnotator
from slim.stages.attend import Attention
from slim.stages.curate.subset import Subset
from slim.stages.embed import Space
from slim.stages.evaluate.evaluation import Evaluations
from slim.stages.judgements import Judgements
from slim.stages.locate.object_maps import ObjectMaps
from slim.stages.propagate.scores import Scores
from slim.stages.report.records import Report, RunFacts
from slim.stages.retrain.retrained import Retrained


@dataclass(frozen=True, eq=False)
class Result:
    """The records of all stages.

    Attributes
    ----------
    reference, attention, space, judgements, scores, objects, subset, retrained, evaluation, report
        The records, in the order of the stages.
    """

    reference: Classifier
    attention: Attention
    space: Space
    judgements: Judgements
    scores: Scores
    objects: ObjectMaps
    subset: Subset
    retrained: Retrained
    evaluation: Evaluations
    report: Report

    @property
    def model(self) -> Classifier:
        """The retrained model, or the reference model where no shortcut was found."""
        return self.retrained.model

    def _repr_html_(self) -> str:
        return self.report._repr_html_() + self.attention._repr_html_()

    def __repr__(self) -> str:
        return f"Result({self.report!r})"


@checked
def fit(
    data: Dataset,
    *,
    recipe: str | Path | None = None,
    settings: Overrides | None = None,
    reference: Classifier | None = None,
    annotator: Annotator | BrowserAnnotator | None = None,
    seed: int = 0,
) -> Result:
    """Run all stages in memory, as `slim.run` does in a folder: the same settings and seed give the same result.

    Parameters
    ----------
    data
        The images; see `slim.load_dataset`.
    recipe
        See `slim.runs.settings.read_recipe`.
    settings
        Values by stage and name, for instance ``{"train": {"epochs": 3}}``.
    reference
        A classifier of your own to adopt as the reference model.
    annotator
        Who answers, instead of the annotator that the settings name.
    seed
        Random seed.

    Raises
    ------
    SettingsError
        Values conflict; or any other error of a stage.

    Examples
    --------
    ``model = slim.fit(slim.load_dataset("waterbirds"), annotator=slim.BrowserAnnotator()).model``
    """
    chosen = RunSettings(seed=seed).updated(read_recipe(recipe) if recipe else {}).updated(settings or {})
    chosen.check_plane()
    check(data).stop()
    records: dict[str, Any] = {"data": data}
    seconds: dict[str, float] = {}
    warned: list[str] = []
    for number, (verb, stage) in enumerate(STAGES.items(), 1):
        announce(f"[{number}/{len(STAGES)}] {verb:<9} {stage.purpose}")
        start = perf_counter()
        context = {
            "seed": seed,
            "reference": reference,
            "annotator": annotator,
            "training": chosen["train"],
            "propagation": chosen["propagate"],
            "facts": RunFacts(data.name, seed, {verb: chosen[verb] for verb in STAGES}, seconds, warned),
        }
        with collecting_warnings() as texts:
            records[stage.noun] = stage(records, chosen[verb], context)
        warned += [text for text in texts if text not in warned]
        seconds[verb] = round(perf_counter() - start, 3)
    return Result(**{noun: record for noun, record in records.items() if noun != "data"})
