"""What each part of query selection and propagation contributes: how well 40 answers rank all other images.

python benchmarks/answers.py FOLDER...

Each FOLDER is the folder of a comparison (`slim compare`), whose reference models and attention are reused. Prints the
true AUC of the attention scores, against the oracle's answers about the images that were not judged: means over classes
and seeds, with one part of the default removed at a time. The last line is the ceiling: every image judged,
cross-validated in five folds, each class by itself.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from slim.arrays import Floats, Ints
from slim.comparison.bench import Bench
from slim.comparison.subsets import Answers, judged_scores, published_parts, true_answers
from slim.comparison.table import interval
from slim.errors import SlimWarning
from slim.progress import quiet
from slim.runs.run import open_run
from slim.stages.embed import Space, embed
from slim.stages.judgements import CORE, SPURIOUS, UNASKED, Judgements
from slim.stages.propagate.propagate import propagate_answers
from slim.stages.propagate.regression import Regression
from slim.stages.propagate.scores import Scores

Scored = tuple[Floats, Answers]
"""Attention scores (n,), and the answers (n,) that they come from."""


def _changed(**settings: Any) -> Callable[[Bench], Scored]:
    def scored(bench: Bench) -> Scored:
        return _scored(bench, *judged_scores(bench, bench.settings.updated(settings), bench.attention, bench.space))

    return scored


def _on_the_plane(**settings: Any) -> Callable[[Bench], Scored]:
    def scored(bench: Bench) -> Scored:
        changed = bench.settings.updated({"embed": {"plane": "umap"}, **settings})
        space = embed(bench.attention, changed["embed"], seed=bench.seed)
        return _scored(bench, *judged_scores(bench, changed, bench.attention, space))

    return scored


def _scored(bench: Bench, scores: Scores, judgements: Judgements) -> Scored:
    return scores.values, judgements.codes(len(bench.pool))


def _each_class_by_itself(bench: Bench) -> Scored:
    _, answers = _changed()(bench)
    y = bench.pool.y
    scores = np.zeros(len(y))
    for k in np.unique(y):
        own = y == k
        points, codes = bench.space.components[own], answers[own]
        scores[own] = propagate_answers(points, np.zeros(own.sum(), int), codes, class_names=[str(k)]).values
    return scores, answers


def _attended_layer(bench: Bench) -> Scored:
    pool = bench.pool_attention
    coarse = replace(pool, contrast=np.asarray(pool.core) - np.asarray(pool.environment))
    attention = replace(bench.attention, **{bench.space.pool: coarse})
    space = embed(attention, bench.settings["embed"], seed=bench.seed)
    return _scored(bench, *judged_scores(bench, bench.settings, attention, space))


def _published(bench: Bench) -> Scored:
    return _scored(bench, *judged_scores(bench, *published_parts(bench)))


VARIANTS: dict[str, Callable[[Bench], Scored]] = {
    "SLIM": _changed(),
    "queries near k-means centres of the plane": _on_the_plane(annotate={"select": "centres"}),
    "label spreading in the plane": _on_the_plane(propagate={"method": "spreading"}),
    "a regression for each class": _each_class_by_itself,
    "the attended layer instead of the finer one": _attended_layer,
    "published": _published,
}
CEILING = "every image judged, cross-validated"


def ceiling(space: Space, y: Ints, truth: Answers) -> Floats:
    """(n,) probabilities from regressions on all answers of the class outside the image's own fold."""
    probabilities = np.zeros(len(y))
    for k in np.unique(y):
        members = np.flatnonzero((y == k) & (truth <= CORE))
        core = truth[members] == CORE
        for fitted, others in StratifiedKFold(5, shuffle=True, random_state=0).split(members, core):
            regression = Regression.fit(space.components[members[fitted]], core[fitted])
            probabilities[members[others]] = regression.probabilities(space.components[members[others]])
    return probabilities


def true_auc(scores: Floats, y: Ints, truth: Answers) -> float:
    """Mean AUC over classes; images whose truth is `UNASKED` are left out."""
    classes = [(y == k) & np.isin(truth, (CORE, SPURIOUS)) for k in np.unique(y)]
    return float(np.mean([roc_auc_score(truth[members], scores[members]) for members in classes]))


def measured(bench: Bench) -> dict[str, float]:
    """The true AUC of each variant."""
    truth, y = true_answers(bench), bench.pool.y
    aucs = {}
    for name, scored in VARIANTS.items():
        scores, answers = scored(bench)
        aucs[name] = true_auc(scores, y, np.where(answers == UNASKED, truth, UNASKED))
    aucs[CEILING] = true_auc(ceiling(bench.space, y, truth), y, truth)
    return aucs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", metavar="FOLDER", nargs="+", type=Path)
    warnings.simplefilter("ignore", SlimWarning)
    columns = {}
    for folder in parser.parse_args().folders:
        with quiet():
            lines = pd.DataFrame([measured(Bench(open_run(run))) for run in sorted(folder.glob("seed-*"))])
        columns[folder.name] = [
            "{:.3f} ({:.3f} to {:.3f})".format(lines[name].mean(), *interval(lines[name].to_numpy())) for name in lines
        ]
    rows = zip([*VARIANTS, CEILING], *columns.values(), strict=True)
    table = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    print("\n".join([*table, *(f"| {' | '.join(row)} |" for row in rows)]))
