"""The last stage: what a run found, as one page for people and one `metrics.json` for programs.

`records` come in, `findings` says what they mean, `views` and `page` make the page, and `terminal` the short table.
"""

from slim.report.findings import Headline, headline, metrics
from slim.report.page import write_report
from slim.report.records import DataSummary, Example, ModelKey, ModelRow, QueryCard, ReportInput, Scatter
from slim.report.terminal import table
from slim.report.views import MAX_POINTS, THUMBNAIL

__all__ = [
    "MAX_POINTS",
    "THUMBNAIL",
    "DataSummary",
    "Example",
    "Headline",
    "ModelKey",
    "ModelRow",
    "QueryCard",
    "ReportInput",
    "Scatter",
    "headline",
    "metrics",
    "table",
    "write_report",
]
