"""The comparison of the models, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from slim.stages.report.findings import measure, worst_line
from slim.stages.report.records import ModelRow
from slim.stages.report.wording import decimal, interval, percent, plain


def table(rows: Sequence[ModelRow]) -> Table:
    """Return the comparison as a table for the terminal.

    Parameters
    ----------
    rows
        The models, in the order of the table's rows.

    Examples
    --------
    >>> group = {"name": "cat", "n": 4, "accuracy": 0.75, "low": 0.3, "high": 0.95}
    >>> evaluation = {"worst_group_accuracy": 0.75, "worst_group": "cat", "average_accuracy": 0.9, "groups": [group]}
    >>> table([ModelRow("reference", "Reference model", "class labels", 100, evaluation)]).row_count
    1
    """
    evaluations = [plain(row.evaluation) for row in rows]
    measures = [measure(evaluation, "inside_fraction") for evaluation in evaluations]
    uniform = next((m["uniform"] for m in measures if m), None)
    caption = "Worst-group accuracy: accuracy on the group where the model does worst, with its 95 % Wilson interval."
    result = Table(caption_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    result.add_column("Model")
    for title in ("Worst-group\naccuracy", "Average\naccuracy"):
        result.add_column(title, justify="right")
    if uniform is not None:
        result.add_column("Inside\nfraction", justify="right")
        caption += (
            "\nInside fraction: the share of the strong attention that falls on the object; "
            f"a uniform map gets {decimal(uniform)}."
        )
    result.add_column("Supervision")
    result.caption = caption
    for row, evaluation, inside_fraction in zip(rows, evaluations, measures, strict=True):
        worst = f"{percent(evaluation['worst_group_accuracy'])}\n({interval(worst_line(evaluation))})"
        inside = [] if uniform is None else [f"{decimal(inside_fraction.get('value'))}\n(uniform {decimal(uniform)})"]
        cells = [row.title, worst, percent(evaluation["average_accuracy"]), *inside, row.supervision]
        result.add_row(*(Text(cell) for cell in cells))
    return result
