"""Exchange of judgements with other programs."""

from slim.stages.annotate.formats.merge import merge_answers
from slim.stages.annotate.formats.records import Found, Sheet

__all__ = ["Found", "Sheet", "merge_answers"]
