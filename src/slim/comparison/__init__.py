"""Side by side: SLIM and what it is compared with, on the same splits, reference models and features."""

from slim.comparison.rows import ROWS, Row
from slim.comparison.running import compare
from slim.comparison.table import comparison_table, summarize

__all__ = ["ROWS", "Row", "compare", "comparison_table", "summarize"]
