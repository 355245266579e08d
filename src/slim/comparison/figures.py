"""The figures of a comparison; the same numbers give the same file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

_OURS, _WITH_GROUPS = "#0b6e75", "#9a9a9a"


def write_figure(path: Path, rows: Sequence[tuple[str, Mapping[Any, Any]]], name: str) -> None:
    """Plot the worst-group accuracy of every row with its interval; grey = the row uses group labels.

    Parameters
    ----------
    path
        The SVG file.
    rows
        Labels, and lines of what `summarize` returns, from top to bottom.
    name
        Name of the data set.
    """
    figure = Figure(figsize=(7.5, 0.32 * len(rows) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, row) in enumerate(reversed(rows)):
        color = _OURS if row["group_labels"] == "none" else _WITH_GROUPS
        axes.plot([row["low"], row["high"]], [place, place], color=color, linewidth=2, solid_capstyle="round")
        axes.plot(row["worst_group_accuracy"], place, "o", color=color, markersize=6)
    axes.set_yticks(range(len(rows)), [label for label, _ in reversed(rows)])
    axes.set_xlim(0, 1)
    axes.set_xlabel("worst-group accuracy (grey: uses group labels)")
    axes.set_title(name, loc="left", fontsize=11)
    _style(axes, "x")
    axes.tick_params(axis="y", length=0)
    _save(figure, path)


def write_cost_figure(path: Path, summary: pd.DataFrame, name: str) -> None:
    """Plot worst-group accuracy, and the true and the reported AUC, against the number of judgements.

    Parameters
    ----------
    path
        The SVG file.
    summary
        What `summarize_cost` returns.
    name
        Name of the data set.
    """
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    n = summary["judgements"]
    left.fill_between(n, summary["low"], summary["high"], color=_OURS, alpha=0.15, linewidth=0)
    left.plot(n, summary["worst_group_accuracy"], "o-", color=_OURS)
    left.set_ylabel("worst-group accuracy")
    left.set_title(name, loc="left", fontsize=11)
    right.fill_between(
        n, summary["reported_low"], summary["reported_high"], color=_WITH_GROUPS, alpha=0.25, linewidth=0
    )
    right.plot(n, summary["reported_auc"], "o-", color=_WITH_GROUPS, label="reported, with 95 % interval")
    right.plot(n, summary["true_auc"], "o-", color=_OURS, label="true")
    right.set_ylabel("AUC of the attention score")
    right.legend(frameon=False, loc="lower right")
    for axes in (left, right):
        axes.set_ylim(0, 1)
        axes.set_xlabel("judgements")
        _style(axes, "y")
    _save(figure, path)


def _style(axes: Axes, grid: Literal["x", "y"]) -> None:
    axes.grid(axis=grid, color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"] + (["left"] if grid == "x" else [])].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    """Write the file without a date, and with a fixed salt for the identifiers in it."""
    FigureCanvasSVG(figure)
    with matplotlib.rc_context({"svg.hashsalt": "slim", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})
