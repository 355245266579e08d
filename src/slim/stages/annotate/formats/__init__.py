"""Exchange of judgements with other programs."""

from slim.stages.annotate.formats.merge import merge_answers
from slim.stages.annotate.formats.records import Sheet

__all__ = ["Sheet", "merge_answers"]
