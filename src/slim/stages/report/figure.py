"""The attention space as a picture: once by attention score, by label, and by the spurious attribute."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from slim.arrays import Ints
from slim.stages.report.records import Scatter

# Okabe and Ito's, then others that stay apart for most colour-blind readers.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999933", "#882255", "#888888")
_MARKS = {"core": "o", "spurious": "x", "unsure": "D"}
_SIDE, _DPI = 4.2, 110  # inches of a panel


def colours(names: Sequence[str]) -> list[dict[str, str]]:
    """The ``name`` and ``colour`` of each label or attribute value, for a legend in the page's own fonts."""
    return [{"name": name, "colour": _COLOURS[code % len(_COLOURS)]} for code, name in enumerate(names)]


def draw_space(scatter: Scatter, shown: Ints) -> Image.Image:
    """Draw the attention space, judged images marked, as panels side by side.

    Parameters
    ----------
    scatter
        The points.
    shown
        (m,) positions of the points to draw; judged images are drawn in any case.
    """
    codes = {"label": scatter.y} | ({} if scatter.a is None else {"spurious attribute": scatter.a})
    figure = Figure(figsize=(_SIDE * (1 + len(codes)), _SIDE + 0.6), dpi=_DPI, layout="constrained")
    axes = figure.subplots(1, 1 + len(codes), squeeze=False)[0]
    x, y = scatter.coordinates[shown].T
    size = 4 if len(shown) > 5000 else 14
    cloud = axes[0].scatter(x, y, size, scatter.scores[shown], cmap="viridis", vmin=0, vmax=1, linewidths=0)
    below = axes[0].inset_axes((0.2, -0.07, 0.6, 0.03))
    figure.colorbar(cloud, cax=below, orientation="horizontal", ticks=[0, 0.5, 1])
    for panel, values in zip(axes[1:], codes.values(), strict=True):
        panel.scatter(x, y, size, [_COLOURS[code % len(_COLOURS)] for code in values[shown]], linewidths=0)
    for panel, title in zip(axes, ("attention score", *codes), strict=True):
        _mark_judged(panel, scatter)
        panel.set(xticks=[], yticks=[], aspect="equal", anchor="N")
        panel.set_title(title, fontsize=11)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", bbox_inches="tight")
    return Image.open(picture)


def _mark_judged(panel: Axes, scatter: Scatter) -> None:
    """Mark the judged images; a white halo keeps the marks readable on points of any colour."""
    answers = np.array(scatter.answers, dtype=object)
    for answer, marker in _MARKS.items():
        x, y = scatter.coordinates[scatter.queries[answers == answer]].reshape(-1, 2).T
        for colour, width in (("white", 3.5), ("black", 1.3)):
            panel.plot(x, y, marker, zorder=3, mec=colour, mew=width, mfc="none", ms=8)
