"""What judgements buy: SLIM's row at each number of them, and how well its score then tells core from spurious."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.table import Column, Table
from sklearn.metrics import roc_auc_score

from slim.artifacts import write_json, write_text
from slim.comparison.figures import write_cost_figure
from slim.comparison.rows import ROWS, Bench, fit_chosen, judged_scores, true_answers, worst_group
from slim.comparison.running import check_seeds, digest, kept, prepared_bench
from slim.comparison.table import interval, plain_records
from slim.errors import SettingsError, SlimWarning
from slim.progress import announce, quiet
from slim.propagation import CORE, SPURIOUS, UNASKED

Answers = NDArray[np.int8]


def cost_curve(
    folder: str | Path, judgements: Sequence[int], *, seeds: Sequence[int] = (0, 1, 2, 3, 4), **options: Any
) -> pd.DataFrame:
    """Run SLIM's row of a comparison at several numbers of judgements.

    Parameters
    ----------
    folder
        That of `compare`, whose reference models, attention and spaces it shares; receives ``cost.csv`` (a line a
        seed and number), ``cost.json``, ``cost.md`` and ``cost.svg``.
    judgements
        Numbers of judgements in all, each a multiple of the number of classes, among which they are shared out
        equally. 0 is the row "slim-unjudged".
    seeds, **options
        As for `compare`.

    Returns
    -------
    DataFrame
        A line a seed and number: ``seed, judgements``; ``worst_group_accuracy``; ``true_auc``, the AUC of the
        attention score against the oracle's answers, without noise, about all images of the pool that were not asked
        about; ``reported_auc, reported_low, reported_high``, what the trust of the scores says of it; and of
        ``intervals`` reported (one a class, where both kinds of answers came), how many are ``covering`` the class's
        true AUC. AUCs are means over classes, and None where there are none.

    Raises
    ------
    SettingsError
        A number is no multiple of the number of classes, or only a person could answer.

    Notes
    -----
    The last layer is measured on the kept features of the test split, so that a worst-group accuracy may differ by an
    image from that of `compare`. The same call goes on where it stopped.

    Examples
    --------
    ``slim.comparison.cost_curve("runs/compare-pets", [0, 10, 20, 40, 80], data="pets")``
    """
    check_seeds(seeds)
    found: list[dict[str, Any]] = []
    for seed in seeds:
        bench = prepared_bench(Path(folder), seed, options)
        _check(judgements, bench)
        found += _of_seed(bench, judgements)
        _write(Path(folder), pd.DataFrame(found), bench.pipeline.data.name)
    return pd.DataFrame(found)


def _check(judgements: Sequence[int], bench: Bench) -> None:
    n_classes = bench.pipeline.pool.n_classes
    wrong = [number for number in judgements if number < 0 or number % n_classes]
    if wrong or not judgements:
        raise SettingsError(
            f"Numbers of judgements must be multiples of the number of classes, {n_classes}, and at least 0. "
            f"Got {wrong[0] if wrong else 'none'}. Try 0,{10 * n_classes},{20 * n_classes} (--budgets)."
        )


def _of_seed(bench: Bench, judgements: Sequence[int]) -> list[dict[str, Any]]:
    """A seed's lines, those from earlier included."""

    @cache
    def truth() -> Answers:
        return true_answers(bench)

    lines = []
    for number in judgements:
        at = _asking(bench, number // bench.pipeline.pool.n_classes) if number else bench
        path = bench.pipeline.run.folder / "rows" / f"cost-{number}.json"
        made_from = digest(at.pipeline, f"cost {number}", "last-layer")
        line = kept(path, made_from)
        if line is None:
            announce(f"seed {bench.seed}: {number} judgements")
            with quiet(), warnings.catch_warnings():
                warnings.simplefilter("ignore", SlimWarning)  # what they warn of is in the table
                line = {"seed": bench.seed, "judgements": number, "worst_group_accuracy": _worst_group(at, number)}
                line |= _aucs(at, truth()) if number else _NOTHING_REPORTED
            path.parent.mkdir(exist_ok=True)
            write_json(path, {"made_from": made_from, **line})
        lines.append(line)
    return lines


def _asking(bench: Bench, budget: int) -> Bench:
    """The same bench with another number of judgements a class."""
    settings = bench.pipeline.settings
    return Bench(
        replace(bench.pipeline, settings=replace(settings, annotate=replace(settings.annotate, budget=budget)))
    )


def _worst_group(bench: Bench, judgements: int) -> float:
    """Test accuracy of the worst group after SLIM's last layer."""
    subset = ROWS["slim" if judgements else "slim-unjudged"].subset
    assert subset is not None
    return worst_group(bench, fit_chosen(bench, subset(bench)))


_NOTHING_REPORTED: dict[str, float | None] = {
    **dict.fromkeys(("true_auc", "reported_auc", "reported_low", "reported_high")),
    "intervals": 0,
    "covering": 0,
}


def _aucs(bench: Bench, truth: Answers) -> dict[str, float | None]:
    """The true and the reported AUC, means over classes, and how many intervals hold the true one."""
    scores, answers = judged_scores(bench, bench.pipeline.settings, bench.attention, bench.space)
    unasked = (answers == UNASKED) & np.isin(truth, (CORE, SPURIOUS))
    true: list[float] = []
    reported: list[tuple[float, float, float]] = []
    covering = 0
    for label, trust in enumerate(scores.trust):
        chosen = unasked & (bench.y == label)
        auc = float(roc_auc_score(truth[chosen], scores.values[chosen])) if len(set(truth[chosen])) == 2 else None
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
    """Each number of judgements over its seeds.

    Parameters
    ----------
    results
        What `cost_curve` returns.

    Returns
    -------
    DataFrame
        A line a number of judgements: ``judgements, seeds``; means of the measures, with ``low`` and ``high``, the
        95 % t-interval of the mean worst-group accuracy; and the sums of ``intervals`` and ``covering``.
    """
    rows = []
    for number, lines in results.groupby("judgements"):
        low, high = np.clip(interval(lines["worst_group_accuracy"].to_numpy(float)), 0, 1)
        means = {name: pd.to_numeric(lines[name]).mean() for name in _MEANS}
        sums = {name: int(lines[name].sum()) for name in ("intervals", "covering")}
        rows.append({"judgements": number, "seeds": len(lines), **means, "low": low, "high": high, **sums})
    return pd.DataFrame(rows)


_MEANS = ("worst_group_accuracy", "true_auc", "reported_auc", "reported_low", "reported_high")
_HEADINGS = ("Judgements", "Worst group (95 %)", "True AUC", "Reported AUC (95 %)", "Intervals that hold the true one")


def _cells(summary: pd.DataFrame) -> list[tuple[str, ...]]:
    """What the tables say."""
    return [
        (
            f"{row['judgements']}",
            _with_ends(row["worst_group_accuracy"], row["low"], row["high"]),
            _with_ends(row["true_auc"], np.nan, np.nan),
            _with_ends(row["reported_auc"], row["reported_low"], row["reported_high"]),
            f"{row['covering']} of {row['intervals']}" if row["intervals"] else "",
        )
        for row in summary.to_dict("records")
    ]


def _with_ends(value: float, low: float, high: float) -> str:
    """A number and its interval; nothing where there is none."""
    if np.isnan(value):
        return ""
    return f"{value:.3f}" + ("" if np.isnan(low) else f" ({low:.3f} to {high:.3f})")


def cost_table(summary: pd.DataFrame) -> Table:
    """The summary as a table for a terminal.

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
    seeds = f"SLIM, means over {summary['seeds'].max()} seeds."
    write_text(folder / "cost.md", "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", seeds]) + "\n")
    write_cost_figure(folder / "cost.svg", summary, name)
