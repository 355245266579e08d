"""Exports a run's judgements to other programs, and imports answers from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slim.arguments import checked
from slim.data import Dataset
from slim.runs.formats import Format
from slim.runs.lock import alone_in
from slim.runs.log import logged
from slim.runs.run import Run, open_run
from slim.stages.annotate.annotate import annotation_pool, judgement_store
from slim.stages.annotate.formats import Found, Sheet, merge_answers
from slim.stages.annotate.formats.fiftyone import read_fiftyone, write_fiftyone
from slim.stages.annotate.formats.label_studio import read_label_studio, write_label_studio
from slim.stages.annotate.formats.lightly import read_lightly, write_lightly
from slim.stages.annotate.formats.merge import Rows
from slim.stages.annotate.formats.tables import read_csv, read_json_sheet, write_csv, write_json_sheet
from slim.stages.annotate.people import judgements_of_people
from slim.stages.annotate.queries import Queries
from slim.stages.annotate.selection import select_queries
from slim.stages.attend import Attention
from slim.stages.embed import Space

# A target or source is a file, except for FiftyOne, where it is the name of a dataset.
WRITERS: dict[Format, Callable[[Sheet, str], None]] = {
    "csv": lambda sheet, target: write_csv(sheet, Path(target)),
    "json": lambda sheet, target: write_json_sheet(sheet, Path(target)),
    "label-studio": lambda sheet, target: write_label_studio(sheet, Path(target)),
    "fiftyone": write_fiftyone,
    "lightly": lambda sheet, target: write_lightly(sheet, Path(target)),
}
READERS: dict[Format, Callable[[str], Rows]] = {
    "csv": lambda source: read_csv(Path(source)),
    "json": lambda source: read_json_sheet(Path(source)),
    "label-studio": lambda source: read_label_studio(Path(source)),
    "fiftyone": read_fiftyone,
    "lightly": lambda source: read_lightly(Path(source)),
}


@checked
def export_judgements(run: str | Path | Run, target: str | Path, to: Format = "csv") -> int:
    """Write a run's judgements for another program.

    Parameters
    ----------
    run
        The run folder, which must have its attention space. Images without an answer can be judged in the other
        program.
    target
        The file to write; for FiftyOne, the name of the dataset to create.
    to
        The format.

    Returns
    -------
    int
        Number of images, judged or not.

    Raises
    ------
    ArtifactError
        The run has no attention space yet.
    SlimError
        FiftyOne is not installed.

    Examples
    --------
    ``slim.export_judgements("runs/birds", "birds.json", to="label-studio")``
    """
    opened = run if isinstance(run, Run) else open_run(run)
    opened.check_ready("annotate")
    about = opened.data, opened.load("attend"), opened.load("embed")
    folder, queries = opened.stage_folder("annotate"), _queries(opened, about)
    with judgement_store(*about, folder) as store:
        pool = annotation_pool(*about, opened.settings["propagate"], folder)
        judgements = opened.load("annotate") if opened.state("annotate") == "done" else None
        sheet = Sheet.from_store(pool, queries.index, store, _found(opened, about[2].pool), judgements)
    WRITERS[to](sheet, str(target))
    return len(sheet.index)


def _found(run: Run, pool: str) -> Found:
    """What the stages after the judgements found, as far as they are done."""
    done = {verb for verb in ("propagate", "locate", "curate") if run.state(verb) == "done"}
    scores = run.load("propagate").values if "propagate" in done else None
    objects = run.load("locate").split(pool) if "locate" in done else None
    return Found(scores, objects, run.load("curate").to_frame() if "curate" in done else None)


def _queries(run: Run, about: tuple[Dataset, Attention, Space]) -> Queries:
    """The queries that the run's settings select."""
    return select_queries(*about, run.settings["annotate"], seed=run.settings.seed)


@checked
def import_judgements(run: str | Path, source: str | Path, source_format: Format = "csv") -> int:
    """Import answers from another program into a run, as its judgements.

    Parameters
    ----------
    run
        The run folder.
    source
        The file to read; for FiftyOne, the name of the dataset.
    source_format
        The format.

    Returns
    -------
    int
        Number of new answers. No answer replaces a later one. Without a new one, judgements that are up to date stay
        as they are, with their settings.

    Raises
    ------
    ArtifactError
        The run has no attention space yet.
    AnnotationError
        The source is in another format, holds no answer, or has answers about images of another run.
    SlimError
        FiftyOne is not installed.

    Notes
    -----
    From then on people are this run's annotators, as with ``--annotator browser``: everybody's answers count, those
    given at the terminal and recorded ones included. Earlier answers of an oracle are kept, but no longer count.

    Examples
    --------
    ``slim.import_judgements("runs/birds", "birds-annotated.json", source_format="label-studio")``
    """
    rows = READERS[source_format](str(source))
    by_people = {"annotator": "browser", "until": "budget", "recorded": None, "noise": 0.0, "click_noise": 0.0}
    opened = open_run(run, settings={"annotate": by_people})
    opened.check_ready("annotate")
    about = opened.data, opened.load("attend"), opened.load("embed")
    queries, pool = _queries(opened, about), opened.data.split(about[2].pool)
    folder, done = opened.stage_folder("annotate"), open_run(run).state("annotate") == "done"
    with alone_in(opened.folder.path), logged(opened.folder.path), opened.folder.changing(folder.name):
        with judgement_store(*about, folder) as store:
            new = merge_answers(store, pool, rows)
            judgements = judgements_of_people(store, pool, queries.index.tolist())
        if new or not done:
            opened.replace("annotate", judgements)
    return new
