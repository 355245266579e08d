"""Statistics of the rows over seeds: means, intervals and paired tests, and the tables and figure that show them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Column, Table
from scipy import stats

from slim.arrays import Floats
from slim.comparison.figures import write_figure
from slim.files import write_json, write_text

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
_BASELINES = ("erm", "random", "published", "cluster-balanced")
_SHOWN = _BASELINES[:2]
_OPPONENTS = (
    "erm",
    "random",
    "class-balanced",
    "cluster-balanced",
    "published",
    "group-balanced",
    "dfr",
    "val",
    "cluster-balanced-val",
    "subset",
    "recomposed-unanswered",
)


def summarize(results: pd.DataFrame) -> pd.DataFrame:
    """Summarise each row over seeds.

    Parameters
    ----------
    results
        What `compare` returns: one line per row, mode and seed.

    Returns
    -------
    DataFrame
        One line per row, mode and val, the best worst-group accuracy first: ``row, title, mode, val, group_labels,
        seeds``; the mean of each measure; ``low`` and ``high``, the 95 % t-interval of the mean worst-group accuracy;
        ``over_erm``, the mean difference of worst-group accuracy to "erm" on the same seeds, and ``p_erm``, the p-value
        of the paired t-test; and the same for "random", "published" and "cluster_balanced". Intervals and p-values are
        NaN for a single seed.

    Examples
    --------
    >>> lines = [{"row": row, "title": row, "mode": mode, "val": "any", "group_labels": "none", "seed": seed,
    ...           "worst_group_accuracy": value + 0.01 * seed * (row == "slim")}
    ...          for row, mode, value in (("erm", "reference", 0.2), ("slim", "last-layer", 0.5)) for seed in range(3)]
    >>> summarize(pd.DataFrame(lines))[["row", "seeds", "worst_group_accuracy", "over_erm"]].round(2).values.tolist()
    [['slim', 3, 0.51, 0.31], ['erm', 3, 0.2, nan]]
    """
    baselines = {name: _by_seed(results, name) for name in _BASELINES}
    rows = []
    for (row, mode, val), lines in results.groupby(["row", "mode", "val"], sort=False):
        own = lines.set_index("seed")["worst_group_accuracy"]
        low, high = np.clip(interval(own.to_numpy(float)), 0, 1)
        means = {name: _mean(lines[name]) for name in MEASURES if name in lines}
        entry: dict[str, Any] = {
            "row": row,
            "title": lines["title"].iloc[0],
            "mode": mode,
            "val": val,
            "group_labels": lines["group_labels"].iloc[0],
            "seeds": len(lines),
            **means,
            "low": low,
            "high": high,
        }
        for name, others in baselines.items():
            other = None if row == name else _comparable(others, str(mode), str(val))
            differences = np.array([np.nan]) if other is None else _differences(own, other)
            key = name.replace("-", "_")
            entry |= {f"over_{key}": differences.mean(), f"p_{key}": _p_value(differences)}
        rows.append(entry)
    return pd.DataFrame(rows).sort_values("worst_group_accuracy", ascending=False, ignore_index=True)


def slim_against(results: pd.DataFrame) -> pd.DataFrame:
    """Test SLIM against other rows, paired over seeds.

    Parameters
    ----------
    results
        What `compare` returns.

    Returns
    -------
    DataFrame
        One line per mode, val and opponent with results of both: ``mode, val, row, title, seeds, difference`` (the mean
        of SLIM's worst-group accuracy minus the opponent's), its 95 % t-interval ``low`` and ``high``, and ``p``, the
        p-value of the paired t-test. Intervals and p-values are NaN for a single seed.

    Examples
    --------
    >>> rows = ("erm", "reference", "any", (0.2, 0.3)), ("slim", "last-layer", "whole", (0.5, 0.7))
    >>> lines = [{"row": row, "title": row.upper(), "mode": mode, "val": val, "seed": seed,
    ...           "worst_group_accuracy": value}
    ...          for row, mode, val, values in rows for seed, value in enumerate(values)]
    >>> slim_against(pd.DataFrame(lines)).round(2).values.tolist()
    [['last-layer', 'whole', 'erm', 'ERM', 2, 0.35, -0.29, 0.99, 0.09]]
    """
    rows = []
    for (mode, val), own in _by_seed(results, "slim").items():
        for row in _OPPONENTS:
            other = _comparable(_by_seed(results, row), mode, val)
            differences = np.array([]) if other is None else _differences(own, other)
            if len(differences):
                low, high = interval(differences)
                title = results["title"][results["row"] == row].iloc[0]
                known = (mode, val, row, title, len(differences))
                rows.append((*known, differences.mean(), low, high, _p_value(differences)))
    return pd.DataFrame(rows, columns=["mode", "val", "row", "title", "seeds", "difference", "low", "high", "p"])


def _by_seed(results: pd.DataFrame, row: str) -> dict[tuple[str, str], pd.Series]:
    """The worst-group accuracies of a row, by mode and val, and then by seed."""
    lines = results[results["row"] == row]
    return {
        (str(mode), str(val)): part.set_index("seed")["worst_group_accuracy"]
        for (mode, val), part in lines.groupby(["mode", "val"], sort=False)
    }


def _comparable(others: dict[tuple[str, str], pd.Series], mode: str, val: str) -> pd.Series | None:
    """Results of another row in the same mode with the same val, or without regard to val, or of the reference."""
    for key in ((mode, val), (mode, "any"), ("reference", "any")):
        if key in others:
            return others[key]
    return None


def _mean(values: pd.Series) -> float:
    """The mean; NaN where nothing was measured."""
    return float(pd.to_numeric(values).mean())


def interval(values: Floats) -> tuple[float, float]:
    """The 95 % t-interval of the mean of (n,) values; NaN for fewer than two.

    Examples
    --------
    >>> [round(end, 2) for end in interval(np.array([0.4, 0.6, 0.5]))]
    [0.25, 0.75]
    """
    if len(values) < 2:
        return np.nan, np.nan
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def _differences(own: pd.Series, other: pd.Series) -> Floats:
    """Own minus other, on the seeds that they share."""
    both = own.index.intersection(other.index)
    return (own[both] - other[both]).to_numpy(float)


def _p_value(differences: Floats) -> float:
    """The p-value of the paired t-test; NaN where the test is undefined."""
    if len(differences) < 2 or np.ptp(differences) < 1e-12:
        return np.nan
    return float(stats.ttest_1samp(differences, 0).pvalue)


def write_tables(folder: Path, results: pd.DataFrame, name: str) -> None:
    """Write ``results.csv``, ``summary.csv``, ``results.json``, ``results.md`` and ``results.svg`` into a folder."""
    summary, against = summarize(results), slim_against(results)
    write_text(folder / "results.csv", results.to_csv(index=False))
    write_text(folder / "summary.csv", summary.to_csv(index=False))
    tables = {"data": name, "rows": plain_records(summary), "slim_against": plain_records(against)}
    write_json(folder / "results.json", tables)
    write_text(folder / "results.md", markdown(summary) + (against_markdown(against) if len(against) else ""))
    write_figure(folder / "results.svg", [(_label(row), row) for row in summary.to_dict("records")], name)


def plain_records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """The lines of a table for JSON: None where a number is missing."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def markdown(summary: pd.DataFrame) -> str:
    """Format the summary as a Markdown table.

    Parameters
    ----------
    summary
        What `summarize` returns.
    """
    header = (
        "| | worst group (95 %) | over ERM (p) | over random (p) | average | adjusted average "
        "| inside fraction (uniform) | AIoU (uniform) | minority in subset | judgements | group labels | images "
        "| seconds |"
    )
    lines = [*_side_by_side(summary), header, "|" + "---|" * 13]
    for row in summary.to_dict("records"):
        cells = [
            _label(row),
            _with_interval(row),
            *(_difference(row[f"over_{name}"], row[f"p_{name}"]) for name in _SHOWN),
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
        lines.append(f"| {' | '.join(cell.replace('nan (nan)', '') for cell in cells)} |")
    seeds = means_over_seeds(summary)
    lines += ["", f"{seeds}. In parentheses: 95 % t-intervals, and p-values of paired t-tests."]
    if (summary["mode"] == "full").any():
        lines[-1] += " Rows marked full train the whole network, the others the last layer."
    return "\n".join(lines) + "\n"


_MARKS = {"any": "", "whole": "", "biased": ", biased val", "none": ", no val"}
_VALS = {"whole": "all of val", "biased": "val as biased as train", "none": "no val"}


def _side_by_side(summary: pd.DataFrame) -> list[str]:
    """Lines of a table of worst-group accuracies with each val; none if there is only one."""
    last_layers = summary[summary["mode"] != "full"]
    vals = [val for val in _VALS if (last_layers["val"] == val).any()]
    if len(vals) < 2:
        return []
    lines = [f"| worst group (95 %) | {' | '.join(_VALS[val] for val in vals)} | group labels |"]
    lines.append("|" + "---|" * (len(vals) + 2))
    for _, rows in last_layers.groupby("row", sort=False):
        cells = {row["val"]: _with_interval(row) for row in rows.to_dict("records")}
        shown = " | ".join(cells.get(val, cells.get("any", "")) for val in vals)
        lines.append(f"| {rows['title'].iloc[0]} | {shown} | {rows['group_labels'].iloc[0]} |")
    return [*lines, "", "With any val, rows that ignore it are the same. Every figure of every row:", ""]


def means_over_seeds(summary: pd.DataFrame) -> str:
    """How a caption begins.

    Examples
    --------
    >>> means_over_seeds(pd.DataFrame({"seeds": [4, 5]}))
    'Means over 5 seeds'
    """
    seeds = int(summary["seeds"].max())
    return f"Means over {seeds} seed{'s' if seeds > 1 else ''}"


def against_markdown(against: pd.DataFrame) -> str:
    """Format SLIM against other rows as Markdown, one table per mode.

    Parameters
    ----------
    against
        What `slim_against` returns.
    """
    lines = []
    for (mode, val), opponents in against.groupby(["mode", "val"], sort=False):
        own = _label({"title": "SLIM", "row": "slim", "mode": mode, "val": val})
        lines += ["", f"| {own}, against | worst-group difference (95 %) | p | seeds |", "|---|---|---|---|"]
        for row in opponents.to_dict("records"):
            ends = "" if np.isnan(row["low"]) else f" ({row['low']:+.3f} to {row['high']:+.3f})"
            p = "" if np.isnan(row["p"]) else "< 0.001" if row["p"] < 0.001 else _number(row["p"])
            lines.append(f"| {_label(row)} | {row['difference']:+.3f}{ends} | {p} | {row['seeds']} |")
    lines += ["", "Paired over seeds; p-values are not corrected for multiple comparisons."]
    return "\n".join(lines) + "\n"


def comparison_table(summary: pd.DataFrame) -> Table:
    """Show the summary as a table in the terminal.

    Parameters
    ----------
    summary
        What `summarize` returns.
    """
    table = Table(
        "",
        Column("Worst group\n(95 %)", justify="right"),
        Column("Over random\n(paired)", justify="right"),
        Column("Average", justify="right"),
        Column("Inside\nfraction", justify="right"),
        Column("Judge-\nments", justify="right"),
        Column("Group\nlabels", justify="right"),
        box=None,
    )
    for row in summary.to_dict("records"):
        table.add_row(
            _label(row),
            _with_interval(row, ".2f"),
            _difference(row["over_random"], row["p_random"]),
            _number(row["average_accuracy"]),
            "" if np.isnan(row["inside_fraction"]) else _number(row["inside_fraction"]),
            f"{row['judgements']:.0f}",
            row["group_labels"],
        )
    return table


def _number(value: float) -> str:
    return f"{value:.3f}"


def _with_interval(row: Mapping[Any, Any], digits: str = ".3f") -> str:
    """The worst-group accuracy of a row, with its interval if there is one."""
    ends = "" if np.isnan(row["low"]) else f" ({row['low']:{digits}} to {row['high']:{digits}})"
    return _number(row["worst_group_accuracy"]) + ends


def _label(row: Mapping[Any, Any]) -> str:
    """The title of a row, marked where its whole network was trained (the reference model is not), or val not whole."""
    full = ", full" if row["mode"] == "full" and row["row"] != "erm" else ""
    return f"{row['title']}{full}{_MARKS[row['val']]}"


def _difference(difference: float, p: float) -> str:
    """The difference to a baseline with its p-value; empty where there is none."""
    if np.isnan(difference):
        return ""
    certainty = "" if np.isnan(p) else " (p < 0.001)" if p < 0.001 else f" (p {p:.3f})"
    return f"{difference:+.3f}{certainty}"
