"""The method: ten stages in one direction, each one function from records and one settings record to one record.

`STAGES` lists them in order. The run folder, the commands, `slim.fit` and `slim.compare` call exactly these functions
and know nothing else about them; see ``docs/architecture.md``.
"""

from slim.stages.table import STAGES, Stage

__all__ = ["STAGES", "Stage"]
