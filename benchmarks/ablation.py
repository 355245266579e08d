"""What each part of SLIM's curated subset contributes: the same comparison with one part removed at a time.

python benchmarks/ablation.py FOLDER...

Each FOLDER is the folder of a comparison (`slim compare`), whose reference models, attention and spaces are reused.
Prints worst-group accuracy on the test split after refitting the last layer to the subset and val, and to the subset
alone: means over seeds, and the paired difference to the default with its 95 % t-interval.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from slim.comparison.baselines import balanced_subset
from slim.comparison.bench import Bench
from slim.comparison.rows import ROWS
from slim.comparison.subsets import SelectedSubset
from slim.comparison.table import interval
from slim.errors import SlimWarning
from slim.progress import quiet
from slim.runs.run import open_run


def _drawn(bench: Bench, subset: SelectedSubset) -> SelectedSubset:
    """The subset with the images of each cell drawn at random."""
    cells = subset.selection.cells
    index = balanced_subset(bench.pool.y * (int(cells.max()) + 1) + cells, bench.size, bench.seed)
    return replace(subset, selection=replace(subset.selection, index=index))


@dataclass(frozen=True)
class Variant:
    """The subset without one part: another row, other settings, or a subset that is changed afterwards."""

    row: str = "subset"
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    change: Callable[[Bench, SelectedSubset], SelectedSubset] = lambda _, subset: subset


VARIANTS = {
    "the curated subset": Variant(),
    "no answers, random scores": Variant("subset-unjudged"),
    "every image judged, without errors": Variant("subset-all-judged"),
    "scores exclude no image": Variant(settings={"curate": {"keep": 1.0}}),
    "scores cut by class, as published": Variant(settings={"curate": {"keep_within": "class"}}),
    "environment always balanced": Variant(settings={"curate": {"balance": "environment"}}),
    "retrained even without a shortcut": Variant(change=lambda _, subset: replace(subset, shortcut=True)),
    "one core cluster": Variant(settings={"curate": {"core_clusters": 1}}),
    "shares by spread, as published": Variant(settings={"curate": {"allocation": "spread"}}),
    "images drawn at random within a cell": Variant(change=_drawn),
    "fixed strength, C = 0.1": Variant(settings={"retrain": {"strength": 0.1}}),
    "one fit instead of ten": Variant(settings={"retrain": {"refits": 1}}),
}


def measured(bench: Bench, variant: Variant) -> dict[str, float]:
    """Worst-group accuracy of a variant, with val and without."""
    row = ROWS[variant.row].material
    assert row is not None
    accuracies = {}
    for column, use_val in (("subset and val", True), ("subset alone", False)):
        settings = bench.settings.updated(variant.settings).updated({"retrain": {"use_val": use_val}})
        changed = Bench(replace(bench.run, settings=settings))
        subset = row(changed)
        assert isinstance(subset, SelectedSubset)
        head = variant.change(changed, subset).fit_head(changed)
        accuracies[column] = changed.worst_group(head)
    return accuracies


def table(lines: pd.DataFrame) -> str:
    """A Markdown table with one line per variant, in the order above."""
    columns = ("subset and val", "subset alone")
    text = [f"| | {' | '.join(columns)} |", "|---|---|---|"]
    own = lines[lines["part"] == "the curated subset"].set_index("seed")
    for part, values in lines.groupby("part", sort=False):
        cells = []
        for column in columns:
            difference = (values.set_index("seed")[column] - own[column]).to_numpy(float)
            low, high = interval(difference)
            against = "" if part == "the curated subset" else f" ({difference.mean():+.3f}, {low:+.3f} to {high:+.3f})"
            cells.append(f"{values[column].mean():.3f}{against}")
        text.append(f"| {part} | {' | '.join(cells)} |")
    return "\n".join(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", metavar="FOLDER", nargs="+", type=Path)
    warnings.simplefilter("ignore", SlimWarning)  # the table shows what they warn about
    for folder in parser.parse_args().folders:
        lines = []
        for run in sorted(folder.glob("seed-*")):
            with quiet():
                bench = Bench(open_run(run))
                lines += [
                    {"seed": bench.seed, "part": part, **measured(bench, variant)} for part, variant in VARIANTS.items()
                ]
        print(f"\n{folder.name}\n\n{table(pd.DataFrame(lines))}", flush=True)
