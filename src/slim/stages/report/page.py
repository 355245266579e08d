"""The page: one file that makes no request.

Styles and pictures are inside it, it has no script, and its content security policy forbids the rest.
"""

from __future__ import annotations

from functools import cache

from jinja2 import Environment

from slim.pages import templates
from slim.stages.explain.explanation import Explanation
from slim.stages.explain.page import section
from slim.stages.report.findings import worst_line
from slim.stages.report.records import ReportInput
from slim.stages.report.views import page_view
from slim.stages.report.wording import decimal, duration, interval, percent


@cache
def _environment() -> Environment:
    """The template engine, with every text escaped."""
    environment = templates("slim.stages.report")
    environment.filters |= {"percent": percent, "decimal": decimal, "duration": duration}
    environment.filters |= {"interval": interval, "thousands": "{:,}".format}
    environment.filters["decimal_interval"] = lambda line: interval(line, decimal)
    environment.globals["worst"] = worst_line
    return environment


def render(report: ReportInput, explanation: Explanation | None = None) -> str:
    """The page as HTML, which needs no other file and no network."""
    explained = None if explanation is None else section(explanation)
    return _environment().get_template("report.html.j2").render(page_view(report), explained=explained)
