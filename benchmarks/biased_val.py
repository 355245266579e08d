"""What fitting the last layer to val contributes, if val is balanced over groups and if it is as biased as train.

python benchmarks/biased_val.py FOLDER...

Each FOLDER is the folder of a comparison (`slim compare`), whose reference models are reused. Val is used whole, and
subsampled to the group shares of train. Prints worst-group accuracy on the test split, means over seeds, for a subset
balanced over class and the clusters that SLIM finds, without judgements. Also prints for every seed which share of the
reference model's errors on val these clusters explain, and the evidence for a shortcut, with either val.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from slim.arrays import Ints
from slim.comparison.baselines import balanced_subset
from slim.comparison.bench import Bench, biased_positions
from slim.progress import quiet
from slim.runs.run import open_run
from slim.stages.curate.factors import Mistakes, find_factor
from slim.stages.curate.subset import join_clusters
from slim.stages.retrain.last_layer import HeldOut, fit_head
from slim.stages.retrain.random_subset import random_subset


def _restricted(mistakes: Mistakes, some: Ints) -> Mistakes:
    features = {source: np.asarray(values)[some] for source, values in mistakes.features.items()}
    return Mistakes(features, mistakes.y[some], mistakes.wrong[some], mistakes.head)


def measured(bench: Bench) -> dict[str, float]:
    """Worst-group accuracy of each variant, and how much the clusters explain."""
    pool, val, y = bench.pool_attention, bench.attention.val, bench.pool.y
    own = {"environment": np.asarray(pool.environment), "features": np.asarray(pool.features)}
    mistakes = Mistakes.from_predictions(
        val.environment, val.features, val.probabilities, bench.data.val.y, bench.reference.head_weight
    )
    factor = find_factor(own, mistakes, fit_on=np.ones(len(y), bool), seed=bench.seed)
    cluster = factor.cluster
    joined = join_clusters(own[factor.source], cluster, getattr(val, factor.source))
    subset = balanced_subset(y * (int(cluster.max()) + 1) + cluster, bench.size, bench.seed)
    drawn = random_subset(y, bench.size, bench.seed)
    groups, features, labels = bench.groups("val"), np.asarray(val.features), bench.data.val.y
    shares = np.bincount(bench.groups("train"), minlength=int(groups.max()) + 1) / len(bench.data.train)
    everyone = np.arange(len(labels))
    biased_val = biased_positions(groups, shares, bench.seed)
    biased_factor = find_factor(own, _restricted(mistakes, biased_val), fit_on=np.ones(len(y), bool), seed=bench.seed)
    results = {"explains": float(factor.explains or 0.0), "evidence": float(factor.evidence or 0.0)}
    results["evidence, biased val"] = float(biased_factor.evidence or 0.0)

    def accuracy(index: Ints, cells: Ints, others: Ints, other_cells: Ints) -> float:
        held = HeldOut(features[others], labels[others], other_cells[others])
        x, n_classes = own["features"][index], bench.pool.n_classes
        return bench.worst_group(fit_head(x, y[index], cells[index], val=held, n_classes=n_classes, seed=bench.seed))

    for name, some in (("balanced", everyone), ("biased", biased_val)):
        results[f"subset and {name} val"] = accuracy(subset, cluster, some, joined)
        results[f"random and {name} val"] = accuracy(drawn, np.zeros_like(cluster), some, np.zeros_like(joined))
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", metavar="FOLDER", nargs="+", type=Path)
    lines = []
    for folder in parser.parse_args().folders:
        for run in sorted(folder.glob("seed-*")):
            with quiet():
                lines.append({"data": folder.name, **measured(Bench(open_run(run)))})
    table = pd.DataFrame(lines)
    print(table.groupby("data").mean().round(3).to_string())
    for share in ("explains", "evidence", "evidence, biased val"):
        print(f"\n{share}, by seed")
        print(table.groupby("data")[share].agg(lambda values: values.round(2).tolist()).to_string())
