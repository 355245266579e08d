"""What a late stage would refuse, refused before the first one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from slim.data import Dataset, check, load_dataset
from slim.data.inspection import faults_in
from slim.errors import SettingsError
from slim.files import read_json, write_json
from slim.progress import announce
from slim.runs.settings import RunSettings
from slim.stages.annotate.annotator import Annotator
from slim.stages.annotate.page.server import BrowserAnnotator
from slim.stages.annotate.registry import choose_annotator
from slim.stages.annotate.selection import check_budget
from slim.stages.locate.locate import check_source

if TYPE_CHECKING:
    from slim.runs.run import BadImages


def with_usable_images(data: Dataset, folder: Path, bad_images: BadImages) -> Dataset:
    """Read every image, mask and box once in the life of a run.

    Returns
    -------
    Dataset
        The same, or one without the images that cannot be used.

    Raises
    ------
    DataError
        Images cannot be used, and `bad_images` is "stop", or they cannot be left out of a table that came from Python.
    """
    marker, listed = folder / "images.json", folder / "bad-images.csv"
    if marker.exists() and read_json(marker) == {"checked": data.fingerprint}:
        return data
    found = check(data)
    for note in found.notes:
        announce(f"  note: {note}")
    earlier = data.source.get("without")
    if found.faults:
        replace(found, faults=(*(faults_in(earlier) if earlier else ()), *found.faults)).write(listed)
    elif earlier is None or Path(earlier).resolve() != listed.resolve():
        listed.unlink(missing_ok=True)  # its images have been mended
    if bad_images == "stop" or data.source.get("source") is None:
        found.stop(f"{listed} lists all. Replace them, or leave them out: --bad-images skip.")
    if found.faults:
        announce(f"  {len(found.faults)} images are left out, see {listed}")
        data = load_dataset(**{**data.source, "without": str(listed)})
    write_json(marker, {"checked": data.fingerprint})
    return data


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
    if size < len(pool.class_names):
        raise SettingsError(
            f"The subset must hold an image of each class. Got size {size} for {len(pool.class_names)} classes. "
            f"Try --curate.size {10 * len(pool.class_names)}."
        )
