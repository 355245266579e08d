"""Stage 9: measure the reference model, the baseline and the retrained model on the test split."""

from __future__ import annotations

import numpy as np
import pandas as pd

from slim.arguments import checked
from slim.data import Dataset
from slim.network.classifier import Classifier
from slim.stages.attend import Attention
from slim.stages.curate.subset import Subset
from slim.stages.evaluate.evaluation import Evaluations, Groups
from slim.stages.evaluate.measuring import evaluate_classifier, evaluate_heads
from slim.stages.retrain.retrained import Retrained
from slim.stages.settings import EvaluateSettings


@checked
def evaluate(
    data: Dataset,
    reference: Classifier,
    attention: Attention,
    subset: Subset,
    retrained: Retrained,
    settings: EvaluateSettings | None = None,
) -> Evaluations:
    """Measure all models on the test split.

    Parameters
    ----------
    data, reference, attention, subset, retrained
        The images and the records of the earlier stages. Without a spurious attribute, groups are label x environment
        cluster of the curated subset.
    settings
        See `EvaluateSettings`.

    Raises
    ------
    SettingsError
        The settings name masks or boxes, and the data have none.

    Examples
    --------
    ``slim.evaluate(data, reference, attention, subset, retrained).retrained.worst_group_accuracy``
    """
    table, groups = data.test, _groups(data, attention, subset)
    models = {str(key): model for key, model in retrained.models(reference).items()}
    if retrained.mode == "last-layer":
        results = evaluate_heads(models, table, settings, groups=groups)
    else:
        results = {name: evaluate_classifier(model, table, settings, groups=groups) for name, model in models.items()}
    images = pd.DataFrame({"path": table.paths, "y": table.y, "group": groups.index})
    for name, result in results.items():
        images[f"{name}_prediction"] = result.predictions
        images[f"{name}_confidence"] = result.confidence
        if result.inside is not None:
            images[f"{name}_inside"] = result.inside
    return Evaluations(**results, images=images)


def _groups(data: Dataset, attention: Attention, subset: Subset) -> Groups:
    """The groups of the test split: label x attribute, or else label x environment cluster of the subset."""
    table = data.test
    if table.groups is not None:
        return Groups.from_table(table)
    pool = attention.split(subset.pool)
    cells = subset.join(pool, attention.test)
    train_cells = subset.environment_cluster if subset.pool == "train" else subset.join(pool, attention.train)
    n_cells = int(subset.environment_cluster.max()) + 1
    names = [f"{label}, environment {j}" for label in table.class_names for j in range(n_cells)]
    shares = np.bincount(data.train.y * n_cells + train_cells, minlength=len(names)) / len(data.train)
    return Groups(table.y * n_cells + cells, names, shares, "label x curated cell")
