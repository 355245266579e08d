"""What fitting the last layer to val is worth, where val is balanced over groups and where it is as biased as train.

python benchmarks/biased_val.py FOLDER...

Each FOLDER is one of `slim compare`, whose reference models are used. Val is taken whole, and with as many images of
each group as give it train's shares. Worst-group accuracy on the test split, means over seeds; the subset is balanced
over class and the clusters that SLIM finds, without judgements. Beside it, for every seed, what these clusters explain
of the reference's mistakes on val, and the evidence for a shortcut, with either val.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slim.baselines import balanced_subset, random_subset
from slim.comparison.rows import Bench, worst_group
from slim.curation import assign
from slim.factors import Mistakes, find_factor
from slim.last_layer import HeldOut, fit_head
from slim.pipeline import open_run
from slim.progress import quiet

Indices = NDArray[np.int64]


def biased(groups: Indices, shares: NDArray[np.floating], seed: int) -> Indices:
    """Positions of as many of val's images as have these shares of groups, at least one of each."""
    counts = np.bincount(groups, minlength=len(shares))
    total = int((counts[shares > 0] / shares[shares > 0]).min())
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [
            rng.choice(np.flatnonzero(groups == group), max(1, round(total * share)), replace=False)
            for group, share in enumerate(shares)
            if counts[group]
        ]
    )


def _of(mistakes: Mistakes, some: Indices) -> Mistakes:
    features = {source: np.asarray(values)[some] for source, values in mistakes.features.items()}
    return Mistakes(features, mistakes.y[some], mistakes.wrong[some], mistakes.head)


def measured(bench: Bench) -> dict[str, float]:
    """Worst-group accuracy of each way, and how much the clusters explain."""
    p, val = bench.pipeline, bench.pipeline.attention("val")
    own = {"environment": np.asarray(bench.attention.environment), "features": np.asarray(bench.attention.features)}
    factor = find_factor(own, p.mistakes(), fit_on=np.ones(len(bench.y), bool), seed=bench.seed)
    cluster, y = factor.cluster, bench.y
    joined = assign(own[factor.source], cluster, np.asarray(getattr(val, factor.source)))
    subset = balanced_subset(y * (int(cluster.max()) + 1) + cluster, bench.size, bench.seed)
    drawn = random_subset(y, bench.size, bench.seed)
    groups, features, labels = bench.groups("val"), np.asarray(val.features), p.data.val.y
    shares = np.bincount(bench.groups("train"), minlength=int(groups.max()) + 1) / len(p.data.train)
    everyone = np.arange(len(labels))
    biased_val = biased(groups, shares, bench.seed)
    seen = find_factor(own, _of(p.mistakes(), biased_val), fit_on=np.ones(len(y), bool), seed=bench.seed)
    found = {"explains": float(factor.explains or 0.0), "evidence": float(factor.evidence or 0.0)}
    found["evidence, biased val"] = float(seen.evidence or 0.0)

    def fitted(index: Indices, cells: Indices, others: Indices, of: Indices) -> float:
        held = HeldOut(features[others], labels[others], of[others])
        pool = own["features"]
        head = fit_head(pool[index], y[index], cells[index], val=held, n_classes=p.pool.n_classes, seed=bench.seed)
        return worst_group(bench, head)

    for name, some in (("balanced", everyone), ("biased", biased_val)):
        found[f"subset and {name} val"] = fitted(subset, cluster, some, joined)
        found[f"random and {name} val"] = fitted(drawn, np.zeros_like(cluster), some, np.zeros_like(joined))
    return found


if __name__ == "__main__":
    lines = []
    for folder in sys.argv[1:]:
        for run in sorted(Path(folder).glob("seed-*")):
            with quiet():
                lines.append({"data": Path(folder).name, **measured(Bench(open_run(run)))})
    table = pd.DataFrame(lines)
    print(table.groupby("data").mean().round(3).to_string())
    for share in ("explains", "evidence", "evidence, biased val"):
        print(f"\n{share}, by seed")
        print(table.groupby("data")[share].agg(lambda values: values.round(2).tolist()).to_string())
