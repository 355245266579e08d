"""What a late stage would refuse, refused before the first one."""

from __future__ import annotations

from pathlib import Path

from slim.data import Dataset
from slim.errors import SettingsError
from slim.runs.settings import RunSettings
from slim.stages.annotate.annotator import Annotator
from slim.stages.annotate.page.server import BrowserAnnotator
from slim.stages.annotate.registry import choose_annotator
from slim.stages.annotate.selection import check_budget
from slim.stages.locate.locate import check_source


def foresee(
    data: Dataset, settings: RunSettings, answers: Path, annotator: Annotator | BrowserAnnotator | None = None
) -> None:
    """Refuse now what a later stage would refuse after hours of training.

    Parameters
    ----------
    data, settings
        Of the run.
    answers
        The folder of the judgements.
    annotator
        Who answers, instead of the annotator that the settings name.

    Raises
    ------
    SlimError
        There is nobody to answer; or the budget, the subset's size, the plane or the source of the object maps does
        not fit.
    """
    settings.check_plane()
    pool, size = data.split(settings["embed"].pool), settings["curate"].size
    if annotator is None:
        choose_annotator(settings["annotate"], pool, answers, settings.seed)
    check_budget(settings["annotate"].budget, pool)
    check_source(data, settings["locate"].source)
    if size > len(pool):
        raise SettingsError(
            f"The subset must not be larger than the pool. Got size {size} for {len(pool)} images in "
            f"{pool.split}. Try --curate.size {len(pool) // 4}."
        )
