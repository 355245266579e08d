"""What a run knows of each image, as one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from slim.runs.stored import StoredRun


def pool_frame(run: StoredRun) -> pd.DataFrame:
    """One row per image of the pool, from the records of the stages that are done; see `Run.to_frame`."""
    run.check_ready("annotate")
    space = run.load("embed")
    table = run.data.split(space.pool)
    parts = [table.frame, run.load("attend").split(space.pool).to_frame(), space.to_frame()]
    arguments: dict[str, tuple[Any, ...]] = {"annotate": (len(table),), "locate": (space.pool,)}
    for verb in ("annotate", "propagate", "locate", "curate"):
        if run.state(verb) == "done":
            parts.append(run.load(verb).to_frame(*arguments.get(verb, ())))
    frame: pd.DataFrame = pd.concat(parts, axis="columns")
    return frame
