"""Explains the reference model of a run, and keeps what was found, and its names, in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slim.errors import ArtifactError
from slim.files import write_text
from slim.progress import announce
from slim.runs.explained import EXPLANATION, READS, load_explanation, made_from
from slim.runs.lock import alone_in
from slim.runs.log import logged
from slim.runs.run import Run
from slim.stages import STAGES
from slim.stages.settings import ExplainSettings, plain_settings

if TYPE_CHECKING:
    from slim.stages.explain.explanation import Explanation

PAGE = "explain.html"


def explain_run(
    run: Run, settings: Mapping[str, Any] | None = None, names: Mapping[int, str] | None = None
) -> tuple[Explanation, Path]:
    """Explain the reference model of a run, or load what was found before; see `slim.explain`.

    Parameters
    ----------
    run
        Its attention must be up to date.
    settings
        Values by name; those left out are as they were in the run's last explanation.
    names
        Names for concepts by their numbers, which are kept with the run.

    Returns
    -------
    tuple of Explanation and Path
        What was found, and the page that shows it.

    Raises
    ------
    ArtifactError
        The attention is missing, stale or damaged.
    SettingsError
        A setting is out of range, or a name is for a concept that was not found.
    """
    with alone_in(run.folder.path), logged(run.folder.path):
        for verb in READS:
            _check_done(run, verb)
        current = _settings(run, settings or {})
        explanation = _known(run, current)
        if explanation is None:
            explanation = _explained(run, current)
            _write(run, current, explanation)
        if names:
            explanation = explanation.named(names)
            _write(run, current, explanation)
    return explanation, run.folder.stage(EXPLANATION) / PAGE


def _check_done(run: Run, verb: str) -> None:
    """Refuse to explain while a stage that is read is not done."""
    run.damage(verb, read=True)
    if (state := run.state(verb)) != "done":
        noun = STAGES[verb].noun
        raise ArtifactError(
            f"{run.folder.path} must have its {noun} up to date before explain. Got one that is {state}. "
            f"Run: slim {verb} {run.folder.path}"
        )


def _settings(run: Run, changes: Mapping[str, Any]) -> ExplainSettings:
    """Those of the last explanation, and what is changed now."""
    manifest = run.folder.manifest(EXPLANATION)
    return replace(ExplainSettings(**(manifest.settings if manifest else {})), **changes)


def _known(run: Run, settings: ExplainSettings) -> Explanation | None:
    """What was found before, if it is what would be found now."""
    manifest = run.folder.manifest(EXPLANATION)
    if manifest is None:
        return None
    if (manifest.settings, manifest.seed) == (plain_settings(settings), run.settings.seed):
        known = load_explanation(run)
        if known is not None:
            return known
    announce("  again, since settings or images have changed; concepts get new numbers, and lose their names")
    return None


def _explained(run: Run, settings: ExplainSettings) -> Explanation:
    from slim.stages.explain.explain import explain

    return explain(run.data, run.load("train"), run.load("attend"), settings, seed=run.settings.seed)


def _write(run: Run, settings: ExplainSettings, explanation: Explanation) -> None:
    """Keep an explanation, and the page that shows it."""
    from slim.stages.explain.page import page

    # Not mapped into memory: their files are replaced.
    explanation = replace(explanation, pictures=np.array(explanation.pictures), extremes=np.array(explanation.extremes))
    plain = plain_settings(settings)
    with run.folder.writing(
        EXPLANATION, "explain", settings=plain, seed=run.settings.seed, inputs=made_from(run)
    ) as folder:
        explanation.save(folder)
        write_text(folder / PAGE, page(explanation, run.data.name))
