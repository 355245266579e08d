"""Stage 10: the results, as one page for people and one `metrics.json` for programs."""

from __future__ import annotations

from slim.arguments import checked
from slim.data import Dataset
from slim.network.classifier import Classifier
from slim.stages.attend import Attention
from slim.stages.curate.subset import Subset
from slim.stages.embed import Space
from slim.stages.evaluate.evaluation import Evaluations
from slim.stages.judgements import Judgements
from slim.stages.locate.object_maps import ObjectMaps
from slim.stages.propagate.scores import Scores
from slim.stages.report.findings import metrics
from slim.stages.report.gather import report_input
from slim.stages.report.page import render
from slim.stages.report.records import Report, RunFacts
from slim.stages.retrain.retrained import Retrained


@checked
def report(
    data: Dataset,
    reference: Classifier,
    attention: Attention,
    space: Space,
    judgements: Judgements,
    scores: Scores,
    objects: ObjectMaps,
    subset: Subset,
    retrained: Retrained,
    evaluation: Evaluations,
    *,
    facts: RunFacts,
) -> Report:
    """Write the report.

    Parameters
    ----------
    data, reference, attention, space, judgements, scores, objects, subset, retrained, evaluation
        The images and the records of the earlier stages.
    facts
        Facts about the run itself.

    Examples
    --------
    ``slim.fit(data).report.save("report")``
    """
    gathered = report_input(
        data, reference, attention, space, judgements, scores, objects, subset, retrained, evaluation, facts
    )
    return Report(metrics(gathered), render(gathered, facts.explanation))
