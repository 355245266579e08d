"""What the rows come to over seeds: means, intervals, paired tests, and the tables and figure that show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from rich.table import Column, Table
from scipy import stats

from slim.artifacts import write_json, write_text

MEASURES = (
    "worst_group_accuracy",
    "average_accuracy",
    "adjusted_average_accuracy",
    "inside_fraction",
    "inside_fraction_uniform",
    "aiou",
    "aiou_uniform",
    "minority_share",
    "judgements",
    "train_images",
    "seconds",
)
_BASELINES = {"erm": "ERM", "random": "the random subset"}


def summarize(results: pd.DataFrame) -> pd.DataFrame:
    """Each row over its seeds.

    Parameters
    ----------
    results
        What `compare` returns: a line a row and seed.

    Returns
    -------
    DataFrame
        A line a row and mode, the best worst-group accuracy first: ``row, title, mode, group_labels, seeds``; the mean
        of each measure; ``low`` and ``high``, the 95 % t-interval of the mean worst-group accuracy; and, against
        "erm" and "random" on the same seeds, ``over_erm``, the mean difference of worst-group accuracy, and
        ``p_erm``, the p-value of the paired t-test. What needs two seeds is NaN for one.

    Examples
    --------
    >>> lines = [{"row": row, "title": row, "mode": mode, "group_labels": "none", "seed": seed,
    ...           "worst_group_accuracy": value + 0.01 * seed * (row == "slim")}
    ...          for row, mode, value in (("erm", "reference", 0.2), ("slim", "last-layer", 0.5)) for seed in range(3)]
    >>> summarize(pd.DataFrame(lines))[["row", "seeds", "worst_group_accuracy", "over_erm"]].round(2).values.tolist()
    [['slim', 3, 0.51, 0.31], ['erm', 3, 0.2, nan]]
    """
    baselines = {name: _by_seed(results, name) for name in _BASELINES}
    rows = []
    for (row, mode), lines in results.groupby(["row", "mode"], sort=False):
        own = lines.set_index("seed")["worst_group_accuracy"]
        low, high = _interval(own.to_numpy(float))
        means = {name: _mean(lines[name]) for name in MEASURES if name in lines}
        entry: dict[str, Any] = {
            "row": row,
            "title": lines["title"].iloc[0],
            "mode": mode,
            "group_labels": lines["group_labels"].iloc[0],
            "seeds": len(lines),
            **means,
            "low": low,
            "high": high,
        }
        for name, modes in baselines.items():
            other = modes.get(str(mode), modes.get("reference"))
            difference, p = (np.nan, np.nan) if row == name or other is None else _paired(own, other)
            entry |= {f"over_{name}": difference, f"p_{name}": p}
        rows.append(entry)
    return pd.DataFrame(rows).sort_values("worst_group_accuracy", ascending=False, ignore_index=True)


def _by_seed(results: pd.DataFrame, row: str) -> dict[str, pd.Series]:
    """A row's worst-group accuracies, by mode and then by seed."""
    lines = results[results["row"] == row]
    return {str(mode): part.set_index("seed")["worst_group_accuracy"] for mode, part in lines.groupby("mode")}


def _mean(values: pd.Series) -> float:
    """NaN where nothing was measured."""
    return float(pd.to_numeric(values).mean())


def _interval(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    """The 95 % t-interval of a mean, cut to [0, 1]."""
    if len(values) < 2:
        return np.nan, np.nan
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return max(0.0, float(values.mean() - half)), min(1.0, float(values.mean() + half))


def _paired(own: pd.Series, other: pd.Series) -> tuple[float, float]:
    """Mean difference over the seeds that both have, and the paired t-test's p-value."""
    both = own.index.intersection(other.index)
    difference = (own[both] - other[both]).to_numpy(float)
    if len(both) < 2 or np.ptp(difference) == 0:
        return float(difference.mean()) if len(both) else np.nan, np.nan
    return float(difference.mean()), float(stats.ttest_1samp(difference, 0).pvalue)


def write_tables(folder: Path, results: pd.DataFrame, name: str) -> None:
    """Write ``results.csv``, ``results.json``, ``results.md`` and ``results.svg`` into a folder."""
    summary = summarize(results)
    write_text(folder / "results.csv", results.to_csv(index=False))
    plain = summary.astype(object).where(summary.notna(), None)
    write_json(folder / "results.json", {"data": name, "rows": plain.to_dict("records")})
    write_text(folder / "results.md", markdown(summary))
    _write_figure(folder / "results.svg", summary, name)


def markdown(summary: pd.DataFrame) -> str:
    """The summary as a Markdown table.

    Parameters
    ----------
    summary
        What `summarize` returns.
    """
    header = (
        "| | retrained | worst group (95 %) | over ERM (p) | over random (p) | average | adjusted average "
        "| inside fraction (uniform) | AIoU (uniform) | minority in subset | judgements | group labels | images "
        "| seconds |"
    )
    lines = [header, "|" + "---|" * 14]
    for row in summary.to_dict("records"):
        cells = [
            row["title"],
            row["mode"].replace("reference", ""),
            f"{_number(row['worst_group_accuracy'])} ({_number(row['low'])} to {_number(row['high'])})",
            *(_difference(row, name) for name in _BASELINES),
            _number(row["average_accuracy"]),
            _number(row["adjusted_average_accuracy"]),
            f"{_number(row['inside_fraction'])} ({_number(row['inside_fraction_uniform'])})",
            f"{_number(row['aiou'])} ({_number(row['aiou_uniform'])})",
            "" if np.isnan(row["minority_share"]) else f"{100 * row['minority_share']:.0f} %",
            f"{row['judgements']:.0f}",
            row["group_labels"],
            f"{row['train_images']:.0f}",
            f"{row['seconds']:.1f}",
        ]
        lines.append(f"| {' | '.join(cell.replace('nan (nan)', '').replace('(nan to nan)', '') for cell in cells)} |")
    seeds = int(summary["seeds"].max())
    lines += ["", f"Means over {seeds} seeds. In brackets: the 95 % t-interval, and the paired t-test's p-value."]
    return "\n".join(lines) + "\n"


def comparison_table(summary: pd.DataFrame) -> Table:
    """The summary as a table for a terminal.

    Parameters
    ----------
    summary
        What `summarize` returns.
    """
    table = Table(
        "",
        "Retrained",
        Column("Worst group\n(95 %)", justify="right"),
        Column("Over random\n(paired)", justify="right"),
        Column("Average", justify="right"),
        Column("Inside\nfraction", justify="right"),
        Column("Judge-\nments", justify="right"),
        Column("Group\nlabels", justify="right"),
        box=None,
    )
    for row in summary.to_dict("records"):
        low, high = row["low"], row["high"]
        table.add_row(
            row["title"],
            "" if row["mode"] == "reference" else row["mode"],
            f"{_number(row['worst_group_accuracy'])}" + ("" if np.isnan(low) else f" ({low:.2f} to {high:.2f})"),
            _difference(row, "random"),
            _number(row["average_accuracy"]),
            "" if np.isnan(row["inside_fraction"]) else _number(row["inside_fraction"]),
            f"{row['judgements']:.0f}",
            row["group_labels"],
        )
    return table


def _number(value: float) -> str:
    return f"{value:.3f}"


def _difference(row: dict[Any, Any], baseline: str) -> str:
    """How much better than a baseline, and how sure that is; empty where there is none."""
    difference, p = row[f"over_{baseline}"], row[f"p_{baseline}"]
    if np.isnan(difference):
        return ""
    certainty = "" if np.isnan(p) else " (p < 0.001)" if p < 0.001 else f" (p {p:.3f})"
    return f"{difference:+.3f}{certainty}"


_COLORS = {"none": "#0b6e75", "val": "#9a9a9a", "train": "#9a9a9a", "train + val": "#9a9a9a"}


def _write_figure(path: Path, summary: pd.DataFrame, name: str) -> None:
    """Worst-group accuracy of every row with its interval; grey = it used group labels."""
    shown = summary.iloc[::-1].reset_index(drop=True)
    figure = Figure(figsize=(7.5, 0.32 * len(shown) + 1.1), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    for place, row in enumerate(shown.to_dict("records")):
        color = _COLORS[row["group_labels"]]
        axes.plot([row["low"], row["high"]], [place, place], color=color, linewidth=2, solid_capstyle="round")
        axes.plot(row["worst_group_accuracy"], place, "o", color=color, markersize=6)
    labels = [row["title"] + (", full" if row["mode"] == "full" else "") for row in shown.to_dict("records")]
    axes.set_yticks(range(len(shown)), labels)
    axes.set_xlim(0, 1)
    axes.set_xlabel("worst-group accuracy; grey: uses group labels")
    axes.set_title(name, loc="left", fontsize=11)
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    # A fixed salt and no date: the same numbers give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "slim", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})
