"""The explanation in a run folder: whether it is of the present attention, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slim.stages import STAGES

if TYPE_CHECKING:
    from slim.runs.stored import StoredRun
    from slim.stages.explain.explanation import Explanation

EXPLANATION = "explanation"
"""Its folder, beside those of the stages: only the report shows it, where there is one."""

READS = ("train", "attend")
"""The stages that it is made from."""


def made_from(run: StoredRun) -> dict[str, str]:
    """Digests of everything that an explanation is made from."""
    digests = {verb: run.folder.digest(STAGES[verb].folder) or "" for verb in READS}
    return {**digests, "data": run.data.fingerprint}


def explanation_digest(run: StoredRun) -> str | None:
    """What identifies an undamaged explanation of the present attention; None where there is none."""
    manifest = run.folder.manifest(EXPLANATION)
    if manifest is None or manifest.inputs != made_from(run) or run.folder.faults(EXPLANATION, read=True):
        return None
    return run.folder.digest(EXPLANATION)


def load_explanation(run: StoredRun) -> Explanation | None:
    """What `slim explain` found about the present attention; None where it was not asked."""
    if explanation_digest(run) is None:
        return None
    from slim.stages.explain.explanation import Explanation

    return Explanation.load(run.folder.stage(EXPLANATION))
