"""The page: one file that asks the network for nothing.

Styles, scripts, photographs and Plotly are inside it, and its content security policy forbids the rest.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from slim.artifacts import write_json, write_text
from slim.report.findings import metrics, worst_line
from slim.report.records import ReportInput
from slim.report.views import page_view
from slim.report.wording import decimal, duration, interval, percent


@cache
def _environment() -> Environment:
    """The template engine, which escapes every text that it is given."""
    environment = Environment(
        loader=PackageLoader("slim.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "decimal": decimal, "duration": duration}
    environment.filters |= {"interval": interval, "thousands": "{:,}".format}
    environment.filters["decimal_interval"] = lambda line: interval(line, decimal)
    environment.globals["worst"] = worst_line
    return environment


def write_report(folder: Path, report: ReportInput) -> Path:
    """Write `metrics.json` and `report.html`, each whole or not at all.

    Parameters
    ----------
    folder
        Where they go; it is made where it is missing.
    report
        What the run found.

    Returns
    -------
    Path
        The page. It needs no other file, and no network.
    """
    page = _environment().get_template("report.html.j2").render(page_view(report))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "metrics.json", metrics(report))
    write_text(folder / "report.html", page)
    return folder / "report.html"
