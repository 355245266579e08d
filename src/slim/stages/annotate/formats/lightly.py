"""Exchange with LightlyStudio.

LightlyStudio exports classifications as CSV, one row per annotation, with the columns written here
(https://docs.lightly.ai/studio/workflows/export/). It does not import that file: its documentation suggests to read a
file in Python and to add each row to the sample of that path, as the example in docs/annotate.md does
(https://docs.lightly.ai/studio/workflows/image_dataset/, "Custom Annotations"). It has no points, and its CSV has no
columns for a place: ours come after its own, and are read where they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from slim.errors import AnnotationError, first_line
from slim.files import read_cells, unguarded, write_table
from slim.stages.annotate.formats.records import SCORES, AnswerRow, Sheet
from slim.stages.annotate.formats.tables import answer_row, place_cells
from slim.stages.annotate.recorded import PLACE_NAMES, parse_place

COLUMNS = ("file_path_abs", "class_name", "confidence", "annotation_source")
SETTLED = " (settled)"


def write_lightly(sheet: Sheet, target: Path) -> None:
    """One row per answer, with its annotator as the source, and one per score, with its confidence in [0.5, 1]."""
    rows: list[tuple[float | str, ...]] = []
    for image in sheet:
        path = str(Path(image.path).absolute())
        for one in image.answers:
            source = f"{one.annotator}{SETTLED * one.settles}"
            rows.append((path, one.answer, 1.0 if one.by_oracle else "", source, *place_cells(one.place)))
        if image.score is not None:
            kind = "core" if image.score >= 0.5 else "spurious"
            rows.append((path, kind, max(image.score, 1 - image.score), SCORES, *place_cells(None)))
    write_table(target, pd.DataFrame(rows, columns=[*COLUMNS, *PLACE_NAMES]))


def read_lightly(source: Path) -> list[tuple[str, AnswerRow]]:
    """The answers in a classification CSV of LightlyStudio; rows with a confidence are predictions, not answers."""
    try:
        rows = read_cells(source).map(unguarded)
    except (OSError, ValueError) as error:
        raise AnnotationError(
            f"Classifications must be in a CSV file. Got {source}: {first_line(error)}. Check its name."
        ) from error
    if missing := [column for column in COLUMNS if column not in rows.columns]:
        raise AnnotationError(
            f"LightlyStudio's classifications must have the columns {', '.join(COLUMNS)}. Got none named "
            f"{', '.join(missing)} in {source}. Export them as Classification CSV."
        )
    return [
        (row["file_path_abs"], _answer(row, f"line {line} of {source}"))
        for line, row in enumerate(rows.to_dict("records"), 2)
        if not row["confidence"]
    ]


def _answer(row: dict[Any, str], where: str) -> AnswerRow:
    """The answer in a row."""
    answer, name = row["class_name"], row["annotation_source"]
    place = parse_place({**row, "answer": answer}, where)
    return answer_row(answer, name.removesuffix(SETTLED), 0, "", name.endswith(SETTLED), where, place)
