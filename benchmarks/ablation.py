"""What each part of SLIM's default brings: the same comparison with one part taken away at a time.

python benchmarks/ablation.py FOLDER...

Each FOLDER is one of `slim compare`, whose reference models, attention and spaces are used. Worst-group accuracy on the
test split after refitting the last layer to the subset and val, and to the subset alone: means over seeds, and the
paired difference to the default with its 95 % t-interval.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from slim.baselines import balanced_subset
from slim.comparison.rows import ROWS, Bench, Chosen, fit_chosen, worst_group
from slim.comparison.table import interval
from slim.errors import SlimWarning
from slim.pipeline import open_run
from slim.progress import quiet


def _drawn(bench: Bench, chosen: Chosen) -> Chosen:
    cells = bench.y * (int(chosen.cells.max()) + 1) + chosen.cells
    return replace(chosen, index=balanced_subset(cells, bench.size, bench.seed))


@dataclass(frozen=True)
class Variant:
    """SLIM without a part: another row, other settings, or a subset that is changed afterwards."""

    row: str = "slim"
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    change: Callable[[Bench, Chosen], Chosen] = lambda _, chosen: chosen


VARIANTS = {
    "SLIM": Variant(),
    "no answers, random scores": Variant("slim-unjudged"),
    "every image judged, truly": Variant("slim-all-judged"),
    "scores keep no image out": Variant(settings={"curate": {"keep": 1.0}}),
    "scores cut by class, as published": Variant(settings={"curate": {"keep_within": "class"}}),
    "environment balanced, whatever explains the mistakes": Variant(settings={"curate": {"balance": "environment"}}),
    "no question whether there is a shortcut": Variant(change=lambda _, chosen: replace(chosen, shortcut=True)),
    "one core cluster": Variant(settings={"curate": {"core_clusters": 1}}),
    "shares by spread, as published": Variant(settings={"curate": {"allocation": "spread"}}),
    "a cell's images drawn, not spread over it": Variant(change=_drawn),
    "strength not tuned, C 0.1": Variant(settings={"retrain": {"strength": 0.1}}),
    "one fit, not ten": Variant(settings={"retrain": {"refits": 1}}),
}


def measured(bench: Bench, variant: Variant) -> dict[str, float]:
    """Worst-group accuracy of a variant, with val and without."""
    found = {}
    for column, use_val in (("subset and val", True), ("subset alone", False)):
        pipeline, row = bench.pipeline, ROWS[variant.row].subset
        settings = pipeline.settings.updated(variant.settings).updated({"retrain": {"use_val": use_val}})
        changed = Bench(replace(pipeline, settings=settings))
        assert row is not None
        head = fit_chosen(changed, variant.change(changed, row(changed)))
        found[column] = worst_group(changed, head)
    return found


def table(lines: pd.DataFrame) -> str:
    """Markdown: a line a part, in the order above."""
    columns = ("subset and val", "subset alone")
    text = [f"| | {' | '.join(columns)} |", "|---|---|---|"]
    own = lines[lines["part"] == "SLIM"].set_index("seed")
    for part, of in lines.groupby("part", sort=False):
        cells = []
        for column in columns:
            difference = (of.set_index("seed")[column] - own[column]).to_numpy(float)
            low, high = interval(difference)
            against = "" if part == "SLIM" else f" ({difference.mean():+.3f}, {low:+.3f} to {high:+.3f})"
            cells.append(f"{of[column].mean():.3f}{against}")
        text.append(f"| {part} | {' | '.join(cells)} |")
    return "\n".join(text)


if __name__ == "__main__":
    warnings.simplefilter("ignore", SlimWarning)  # what they warn of is in the table
    for folder in sys.argv[1:]:
        lines = []
        for run in sorted(Path(folder).glob("seed-*")):
            with quiet():
                bench = Bench(open_run(run))
                lines += [{"seed": bench.seed, "part": part, **measured(bench, of)} for part, of in VARIANTS.items()]
        print(f"\n{Path(folder).name}\n\n{table(pd.DataFrame(lines))}", flush=True)
