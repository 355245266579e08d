"""What each part of asking and spreading brings: how well 40 answers rank the images that nobody judged.

python benchmarks/answers.py FOLDER...

Each FOLDER is one of `slim compare`, whose reference models and attention are used. True AUC of the attention scores
against the oracle's answers about all other images, mean over classes and seeds, with one part of the default taken
away at a time; and the ceiling: every image answered, cross-validated in five folds, each class by itself.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from slim.comparison.rows import Bench, judged_scores, published_parts, true_answers
from slim.comparison.table import interval
from slim.errors import SlimWarning
from slim.pipeline import open_run
from slim.progress import quiet
from slim.propagation import CORE, SPURIOUS, UNASKED, propagate
from slim.regression import Regression
from slim.space import Space, embed

Scored = tuple[NDArray[np.floating], NDArray[np.int8]]
"""Scores (n,) and the answers (n,) that they come from."""


def _changed(**settings: Any) -> Callable[[Bench], Scored]:
    def scored(bench: Bench) -> Scored:
        scores, answers = judged_scores(bench, bench.pipeline.settings.updated(settings), bench.attention, bench.space)
        return scores.values, answers

    return scored


def _each_class_by_itself(bench: Bench) -> Scored:
    _, answers = _changed()(bench)
    scores = np.zeros(len(bench.y))
    for k in np.unique(bench.y):
        own = bench.y == k
        points, codes = bench.space.components[own], answers[own]
        scores[own] = propagate(points, np.zeros(own.sum(), int), codes, class_names=[str(k)]).values
    return scores, answers


def _attended_layer(bench: Bench) -> Scored:
    core, environment = np.asarray(bench.attention.core), np.asarray(bench.attention.environment)
    settings = bench.pipeline.settings
    space = embed(core, environment, core - environment, settings.embed, seed=bench.seed)
    scores, answers = judged_scores(bench, settings, bench.attention, space)
    return scores.values, answers


def _published(bench: Bench) -> Scored:
    scores, answers = judged_scores(bench, *published_parts(bench))
    return scores.values, answers


VARIANTS: dict[str, Callable[[Bench], Scored]] = {
    "SLIM": _changed(),
    "queries near k-means centres of the plane": _changed(annotate={"select": "centres"}),
    "label spreading in the plane": _changed(propagate={"method": "spreading"}),
    "a regression for each class": _each_class_by_itself,
    "the attended layer in place of the finer one": _attended_layer,
    "published": _published,
}
CEILING = "every image answered, cross-validated"


def ceiling(space: Space, y: NDArray[np.int64], truth: NDArray[np.int8]) -> NDArray[np.floating]:
    """(n,) probabilities from regressions that saw every other answer of the class, but those of the image's fold."""
    found = np.zeros(len(y))
    for k in np.unique(y):
        members = np.flatnonzero((y == k) & (truth <= CORE))
        core = truth[members] == CORE
        for fitted, others in StratifiedKFold(5, shuffle=True, random_state=0).split(members, core):
            regression = Regression.fit(space.components[members[fitted]], core[fitted])
            found[members[others]] = regression.probabilities(space.components[members[others]])
    return found


def true_auc(scores: NDArray[np.floating], y: NDArray[np.int64], truth: NDArray[np.int8]) -> float:
    """Mean over classes, of the images that are not left out: truth `UNASKED`."""
    classes = [(y == k) & np.isin(truth, (CORE, SPURIOUS)) for k in np.unique(y)]
    return float(np.mean([roc_auc_score(truth[of], scores[of]) for of in classes]))


def measured(bench: Bench) -> dict[str, float]:
    """The true AUC of each variant."""
    truth = true_answers(bench)
    found = {}
    for name, scored in VARIANTS.items():
        scores, answers = scored(bench)
        found[name] = true_auc(scores, bench.y, np.where(answers == UNASKED, truth, UNASKED))
    found[CEILING] = true_auc(ceiling(bench.space, bench.y, truth), bench.y, truth)
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore", SlimWarning)
    columns = {}
    for folder in sys.argv[1:]:
        with quiet():
            lines = pd.DataFrame([measured(Bench(open_run(run))) for run in sorted(Path(folder).glob("seed-*"))])
        columns[Path(folder).name] = [
            "{:.3f} ({:.3f} to {:.3f})".format(lines[name].mean(), *interval(lines[name].to_numpy())) for name in lines
        ]
    rows = zip([*VARIANTS, CEILING], *columns.values(), strict=True)
    table = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    print("\n".join([*table, *(f"| {' | '.join(row)} |" for row in rows)]))
