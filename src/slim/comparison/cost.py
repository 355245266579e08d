"""Annotation cost: SLIM's row at several budgets, and how well its scores then tell core from spurious."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Column, Table
from sklearn.metrics import roc_auc_score

from slim.comparison.bench import Bench
from slim.comparison.figures import write_cost_figure
from slim.comparison.rows import ROWS
from slim.comparison.running import check_seeds, digest, kept, prepared_bench
from slim.comparison.subsets import Answers, judged_scores, true_answers
from slim.comparison.table import interval, means_over_seeds, plain_records
from slim.errors import SettingsError, SlimWarning
from slim.files import write_json, write_sealed, write_text
from slim.progress import announce, quiet
from slim.stages.annotate.selection import check_budget
from slim.stages.judgements import CORE, SPURIOUS, UNASKED


def cost_curve(
    folder: str | Path, budgets: Sequence[int], *, seeds: Sequence[int] = (0, 1, 2, 3, 4), **options: Any
) -> pd.DataFrame:
    """Measure annotation cost: SLIM's row of a comparison at several budgets.

    Parameters
    ----------
    folder
        The folder of a comparison, whose reference models, attention and spaces are reused; receives ``cost.csv`` (one
        line per seed and budget), ``cost.json``, ``cost.md`` and ``cost.svg``.
    budgets
        Judgements per class. 0 is the row "recomposed-unanswered".
    seeds, **options
        As for `compare`.

    Returns
    -------
    DataFrame
        One line per seed and budget: ``seed, budget``; ``judgements`` over all classes; ``worst_group_accuracy``;
        ``true_auc``, the AUC of the attention scores against the oracle's answers, without noise, about all images of
        the pool that were not judged; ``reported_auc, reported_low, reported_high``, the AUC that SLIM reports and its
        95 % interval; ``intervals``, how many intervals were reported (one for each class with both kinds of answers),
        and ``covering``, how many of them contain the class's true AUC. AUCs are means over classes, and None where
        there are none.

    Raises
    ------
    SettingsError
        A budget is negative or exceeds the images of a class, or only a person could answer.

    Notes
    -----
    The last layer is measured on the stored features of the test split, so that a worst-group accuracy may differ by
    an image from the one that `compare` measures. Repeating the call continues where it stopped.

    Examples
    --------
    ``slim.comparison.cost_curve("runs/compare-pets", [0, 5, 10, 20, 40], data="pets")``
    """
    check_seeds(seeds)
    lines: list[dict[str, Any]] = []
    for seed in seeds:
        bench = prepared_bench(Path(folder), seed, options)
        _check(budgets, bench)
        lines += _lines_of_seed(bench, budgets)
        _write(Path(folder), pd.DataFrame(lines), bench.data.name)
    return pd.DataFrame(lines)


def _check(budgets: Sequence[int], bench: Bench) -> None:
    if not budgets or min(budgets) < 0:
        raise SettingsError(
            f"Budgets must be numbers of judgements per class, at least 0. Got {min(budgets, default='none')}. "
            "Try --budgets 0,5,10,20."
        )
    check_budget(max(budgets), bench.pool)


def _lines_of_seed(bench: Bench, budgets: Sequence[int]) -> list[dict[str, Any]]:
    """The lines of one seed, those of earlier calls included."""

    @cache
    def truth() -> Answers:
        return true_answers(bench)

    lines = []
    for budget in budgets:
        at = _with_budget(bench, budget) if budget else bench
        path = bench.run.folder.path / "rows" / f"cost-{budget}.json"
        made_from = digest(at.run, f"cost {budget}", "last-layer")
        line = kept(path, made_from)
        if line is None:
            announce(f"seed {bench.seed}: {budget} judgements per class")
            with quiet(), warnings.catch_warnings():
                warnings.simplefilter("ignore", SlimWarning)  # the table shows what they warn about
                line = {"seed": bench.seed, "budget": budget, "judgements": budget * bench.pool.n_classes}
                line |= {"worst_group_accuracy": _worst_group(at, budget)}
                line |= _aucs(at, truth()) if budget else _NOTHING_REPORTED
            path.parent.mkdir(exist_ok=True)
            write_sealed(path, {"made_from": made_from, **line})
        lines.append(line)
    return lines


def _with_budget(bench: Bench, budget: int) -> Bench:
    """The same bench with another budget."""
    return Bench(replace(bench.run, settings=bench.settings.updated({"annotate": {"budget": budget}})))


def _worst_group(bench: Bench, budget: int) -> float:
    """Worst-group test accuracy of SLIM's last layer."""
    make = ROWS["slim" if budget else "recomposed-unanswered"].material
    assert make is not None
    return bench.worst_group(make(bench).fit_head(bench))


_NOTHING_REPORTED: dict[str, float | None] = {
    **dict.fromkeys(("true_auc", "reported_auc", "reported_low", "reported_high")),
    "intervals": 0,
    "covering": 0,
}


def _aucs(bench: Bench, truth: Answers) -> dict[str, float | None]:
    """The true and the reported AUC, means over classes, and how many intervals contain the true one."""
    scores, judgements = judged_scores(bench, bench.settings, bench.attention, bench.space)
    answers, y = judgements.codes(len(bench.pool)), bench.pool.y
    unasked = (answers == UNASKED) & np.isin(truth, (CORE, SPURIOUS))
    true: list[float] = []
    reported: list[tuple[float, float, float]] = []
    covering = 0
    for label, trust in enumerate(scores.trust):
        rest = unasked & (y == label)
        auc = float(roc_auc_score(truth[rest], scores.values[rest])) if len(set(truth[rest])) == 2 else None
        true += [] if auc is None else [auc]
        if auc is not None and trust.auc is not None and trust.low is not None and trust.high is not None:
            reported.append((trust.auc, trust.low, trust.high))
            covering += trust.low <= auc <= trust.high
    means = np.mean(reported, axis=0).tolist() if reported else [None] * 3
    return {
        "true_auc": float(np.mean(true)) if true else None,
        **dict(zip(("reported_auc", "reported_low", "reported_high"), means, strict=True)),
        "intervals": len(reported),
        "covering": covering,
    }


def summarize_cost(results: pd.DataFrame) -> pd.DataFrame:
    """Summarise each budget over seeds.

    Parameters
    ----------
    results
        What `cost_curve` returns.

    Returns
    -------
    DataFrame
        One line per budget: ``budget, judgements, seeds``; means of the measures, with ``low`` and ``high``, the 95 %
        t-interval of the mean worst-group accuracy; and the sums of ``intervals`` and ``covering``.
    """
    rows = []
    for (budget, judgements), lines in results.groupby(["budget", "judgements"]):
        low, high = np.clip(interval(lines["worst_group_accuracy"].to_numpy(float)), 0, 1)
        means = {name: pd.to_numeric(lines[name]).mean() for name in _MEANS}
        sums = {name: int(lines[name].sum()) for name in ("intervals", "covering")}
        counts = {"budget": budget, "judgements": judgements, "seeds": len(lines)}
        rows.append({**counts, **means, "low": low, "high": high, **sums})
    return pd.DataFrame(rows)


_MEANS = ("worst_group_accuracy", "true_auc", "reported_auc", "reported_low", "reported_high")
_HEADINGS = (
    "Budget per class",
    "Judgements",
    "Worst group (95 %)",
    "True AUC",
    "Reported AUC (95 %)",
    "Intervals with the true AUC",
)


def _cells(summary: pd.DataFrame) -> list[tuple[str, ...]]:
    """The cells of the tables, line by line."""
    return [
        (
            f"{row['budget']}",
            f"{row['judgements']}",
            _with_ends(row["worst_group_accuracy"], row["low"], row["high"]),
            _with_ends(row["true_auc"], np.nan, np.nan),
            _with_ends(row["reported_auc"], row["reported_low"], row["reported_high"]),
            f"{row['covering']} of {row['intervals']}" if row["intervals"] else "",
        )
        for row in summary.to_dict("records")
    ]


def _with_ends(value: float, low: float, high: float) -> str:
    """A number and its interval; empty where there is none."""
    if np.isnan(value):
        return ""
    return f"{value:.3f}" + ("" if np.isnan(low) else f" ({low:.3f} to {high:.3f})")


def cost_table(summary: pd.DataFrame) -> Table:
    """Show the summary as a table in the terminal.

    Parameters
    ----------
    summary
        What `summarize_cost` returns.
    """
    table = Table(*(Column(heading, justify="right") for heading in _HEADINGS), box=None)
    for cells in _cells(summary):
        table.add_row(*cells)
    return table


def _write(folder: Path, results: pd.DataFrame, name: str) -> None:
    summary = summarize_cost(results)
    write_text(folder / "cost.csv", results.to_csv(index=False))
    write_json(folder / "cost.json", {"data": name, "rows": plain_records(summary)})
    lines = [_HEADINGS, ("---",) * len(_HEADINGS), *_cells(summary)]
    seeds = f"SLIM. {means_over_seeds(summary)}."
    write_text(folder / "cost.md", "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", seeds]) + "\n")
    write_cost_figure(folder / "cost.svg", summary, name)
