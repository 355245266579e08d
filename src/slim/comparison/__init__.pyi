from slim.comparison.cost import cost_curve, cost_table, summarize_cost
from slim.comparison.rows import DEFAULT_ROWS, ROWS, Row
from slim.comparison.running import compare
from slim.comparison.table import comparison_table, summarize

__all__ = [
    "DEFAULT_ROWS",
    "ROWS",
    "Row",
    "compare",
    "comparison_table",
    "cost_curve",
    "cost_table",
    "summarize",
    "summarize_cost",
]
