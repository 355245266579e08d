"""Judgements for LightlyStudio, and back.

LightlyStudio exports classifications as CSV, one row an annotation, with the columns written here
(https://docs.lightly.ai/studio/workflows/export/). It has no import of that file: its documentation says to read a file
of one's own and to add each row to the sample of that path (https://docs.lightly.ai/studio/workflows/image_dataset/,
"Custom Annotations"), which the example in docs/annotate.md does.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from slim.annotation.exchange.records import SCORES, Given, Sheet
from slim.annotation.exchange.text import given
from slim.artifacts import write_text
from slim.errors import AnnotationError

COLUMNS = ("file_path_abs", "class_name", "confidence", "annotation_source")
SETTLED = " (settled)"


def write_lightly(sheet: Sheet, target: Path) -> None:
    """One row an answer, its annotator as the source; and one a score, with its confidence in [0.5, 1]."""
    rows: list[tuple[str, str, float | str, str]] = []
    for image in sheet:
        path = str(Path(image.path).absolute())
        for one in image.answers:
            rows.append((path, one.answer, 1.0 if one.by_oracle else "", f"{one.annotator}{SETTLED * one.settles}"))
        if image.score is not None:
            kind = "core" if image.score >= 0.5 else "spurious"
            rows.append((path, kind, max(image.score, 1 - image.score), SCORES))
    write_text(target, pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False, lineterminator="\n"))


def read_lightly(source: Path) -> list[tuple[str, Given]]:
    """The answers in a classification CSV of LightlyStudio; rows with a confidence are predictions, and no answers."""
    try:
        rows = pd.read_csv(source, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise AnnotationError(
            f"Classifications must be in a CSV file. Got {source}: {str(error).splitlines()[0]}. Look at its name."
        ) from error
    if missing := [column for column in COLUMNS if column not in rows.columns]:
        raise AnnotationError(
            f"LightlyStudio's classifications must have the columns {', '.join(COLUMNS)}. Got none named "
            f"{', '.join(missing)} in {source}. Export them as Classification CSV."
        )
    return [
        (path, given(kind, who.removesuffix(SETTLED), 0, "", who.endswith(SETTLED), f"line {line} of {source}"))
        for line, (path, kind, confidence, who) in enumerate(rows[list(COLUMNS)].itertuples(index=False), 2)
        if not confidence
    ]
