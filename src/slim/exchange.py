"""A run's judgements to other programs and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from slim.annotation import Judgements
from slim.annotation.exchange import Sheet, take_in
from slim.annotation.exchange.fiftyone import read_fiftyone, write_fiftyone
from slim.annotation.exchange.intake import Rows
from slim.annotation.exchange.label_studio import read_label_studio, write_label_studio
from slim.annotation.exchange.lightly import read_lightly, write_lightly
from slim.annotation.exchange.text import read_csv, read_json_sheet, write_csv, write_json_sheet
from slim.pipeline import Pipeline, open_run
from slim.propagation import Scores
from slim.work import judgement_store, page_pool, queries, save_judgements

Format = Literal["csv", "json", "label-studio", "fiftyone", "lightly"]

# FiftyOne's datasets have a name, the others are files.
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


def export_judgements(run: str | Path | Pipeline, target: str | Path, to: Format = "csv") -> int:
    """Write a run's judgements for another program.

    Parameters
    ----------
    run
        The run folder, whose attention space is there. Where nobody has answered yet, others may do so in that program.
    target
        The file to write; for FiftyOne the name of the dataset to make.
    to
        The format.

    Returns
    -------
    int
        How many images were asked about.

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
    pipeline = run if isinstance(run, Pipeline) else open_run(run)
    pipeline.check_ready("annotate")
    scores = Scores.load(pipeline.folder("propagate")).values if pipeline.state("propagate") == "done" else None
    with judgement_store(pipeline) as store:
        sheet = Sheet.of(page_pool(pipeline), queries(pipeline).index, store, scores)
    WRITERS[to](sheet, str(target))
    return len(sheet.index)


def import_judgements(run: str | Path, source: str | Path, of: Format = "csv") -> int:
    """Take answers that were given in another program into a run, as its judgements.

    Parameters
    ----------
    run
        The run folder.
    source
        The file to read; for FiftyOne the name of the dataset.
    of
        The format.

    Returns
    -------
    int
        How many answers were new. Importing again changes nothing, and no answer takes the place of a later one.

    Raises
    ------
    ArtifactError
        The run has no attention space yet.
    AnnotationError
        The source is of another format, holds no answer, or answers about images of another run.
    SlimError
        FiftyOne is not installed.

    Notes
    -----
    From then on people are this run's annotators, as with ``--annotator browser``; what an oracle answered before is
    kept and no longer counts.

    Examples
    --------
    ``slim.import_judgements("runs/birds", "birds-annotated.json", of="label-studio")``
    """
    rows = READERS[of](str(source))
    by_people = {"annotator": "browser", "recorded": None, "noise": 0.0}
    pipeline = open_run(run, settings={"annotate": by_people})
    pipeline.check_ready("annotate")
    asked = queries(pipeline).index.tolist()
    with judgement_store(pipeline) as store:
        new = take_in(store, pipeline.pool, rows)
        judgements = Judgements.of_people(store, pipeline.pool, asked)
    if new or pipeline.state("annotate") != "done":
        pipeline.do("annotate", lambda _, folder: save_judgements(judgements, folder))
    return new
