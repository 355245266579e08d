"""Judgements as CSV and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from slim.annotation.exchange.records import Given, Sheet, utc
from slim.annotation.recorded import INDEX_COLUMN, YES, answer_of, key_column, read_rows
from slim.artifacts import read_json, write_json, write_text
from slim.errors import AnnotationError

KIND, VERSION = "slim judgements", 1


def write_csv(sheet: Sheet, target: Path) -> None:
    """One row an answer: path, label, answer, annotator, seconds, time, settles. What has no answer has an empty one.

    `slim.RecordedAnswers` reads it, and so does `read_csv`. A person may fill in the empty ones.
    """
    columns = ("path", "label", "answer", "annotator", "seconds", "time", "settles")
    rows: list[tuple[Any, ...]] = []
    for image in sheet:
        for given in image.answers:
            rows.append((image.path, image.label, *vars(given).values()))
        if not image.answers:
            rows.append((image.path, image.label, "", "", "", "", ""))
    write_text(target, pd.DataFrame(rows, columns=columns).to_csv(index=False, lineterminator="\n"))


def read_csv(source: Path) -> list[tuple[str, Given]]:
    """The answers in a CSV file, as `write_csv` or a person writes it.

    Columns ``path`` and ``answer`` are needed. Where there is no ``annotator``, the file's name stands for him.
    """
    rows = read_rows(source)
    column = key_column(rows, source)
    if column == INDEX_COLUMN:
        raise AnnotationError(
            f'Imported answers must name images in a column "path". Got positions only in {source}. Add the paths.'
        )
    found = []
    for line, row in enumerate(rows.to_dict("records"), 2):
        if not row["answer"] or not row[column].strip():
            continue
        where = f"line {line} of {source}"
        settles = row.get("settles", "").lower() in YES
        annotator = row.get("annotator", "").strip() or source.stem
        found.append(
            (row[column], given(row["answer"], annotator, row.get("seconds"), row.get("time"), settles, where))
        )
    return found


def given(answer: str, annotator: str, seconds: Any, time: Any, settles: bool, where: str) -> Given:
    """An answer from another program's values.

    Raises
    ------
    AnnotationError
        There is no such answer, or seconds or the time are none.
    """
    said = answer_of(str(answer), where)
    try:
        if not said:
            raise ValueError("an empty answer")
        return Given(said, annotator, max(float(seconds or 0), 0.0), utc(str(time or "")), settles)
    except ValueError as error:
        raise AnnotationError(
            f"An answer must have seconds as a number and an ISO time, or leave them empty. Got {error} in {where}. "
            "Correct it."
        ) from error


def write_json_sheet(sheet: Sheet, target: Path) -> None:
    """Each image that was asked about, with what is known of it, everybody's answers and the one of record."""
    images = [image.facts() for image in sheet]
    value = {"kind": KIND, "version": VERSION, "run": sheet.pool.title, "images": images}
    write_json(target, {**value, "classes": list(sheet.pool.table.class_names)})


def read_json_sheet(source: Path) -> list[tuple[str, Given]]:
    """The answers in a JSON file that `write_json_sheet` wrote."""
    value = read_json(source)
    if not isinstance(value, dict) or value.get("kind") != KIND or value.get("version") != VERSION:
        raise AnnotationError(
            f'{source} must hold {KIND}, version {VERSION}. Got something else. Name its format: --from "label-studio".'
        )
    return [
        (
            image["path"],
            given(a["answer"], a["annotator"], a["seconds"], a["time"], a["settles"], f"{image['path']} of {source}"),
        )
        for image in value["images"]
        for a in image["answers"]
    ]
