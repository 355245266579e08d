"""Judgements as CSV and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from slim.errors import AnnotationError
from slim.files import read_json, write_json, write_table
from slim.stages.annotate.formats.records import AnswerRow, Sheet, utc, well_formed
from slim.stages.annotate.recorded import INDEX_COLUMN, PLACE_NAMES, YES, key_column, parse_answer, read_rows
from slim.stages.judgements import PLACE_COLUMNS, Place, check_place

KIND, VERSION = "slim judgements", 1


def write_csv(sheet: Sheet, target: Path) -> None:
    """One row per answer: path, label, answer, annotator, seconds, time, settles, and the place: x, y, width, height.

    An image without an answer has an empty one, which a person may fill in. `slim.RecordedAnswers` and `read_csv` read
    it.
    """
    columns = ("path", "label", "answer", "annotator", "seconds", "time", "settles", *PLACE_NAMES)
    rows: list[tuple[Any, ...]] = []
    for image in sheet:
        for one in image.answers:
            answer = one.answer, one.annotator, one.seconds, one.time, one.settles
            rows.append((image.path, image.label, *answer, *place_cells(one.place)))
        if not image.answers:
            rows.append((image.path, image.label, *[""] * 5, *place_cells(None)))
    write_table(target, pd.DataFrame(rows, columns=columns))


def place_cells(place: Place | None) -> tuple[float | str, ...]:
    """x, y, width and height of a place as cells of a table, which are empty without one.

    Examples
    --------
    >>> place_cells(Place(0.5, 0.25)), place_cells(None)
    ((0.5, 0.25, 0.0, 0.0), ('', '', '', ''))
    """
    return ("",) * len(PLACE_NAMES) if place is None else place.columns


def read_csv(source: Path) -> list[tuple[str, AnswerRow]]:
    """The answers in a CSV file that `write_csv` or a person wrote.

    It needs the columns ``path`` and ``answer``. A row without an ``annotator`` is attributed to the file's name.
    """
    rows = read_rows(source)
    column = key_column(rows, source)
    if column == INDEX_COLUMN:
        raise AnnotationError(
            f'Imported answers must name images in a column "path". Got only positions in {source}. Add the paths.'
        )
    answers = []
    for line, row in enumerate(rows.to_dict("records"), 2):
        if not row["answer"] or not row[column].strip():
            continue
        where = f"line {line} of {source}"
        settles = row.get("settles", "").lower() in YES
        annotator = row.get("annotator", "").strip() or source.stem
        values = row["answer"], annotator, row.get("seconds"), row.get("time"), settles
        place = Place.from_columns(*(row[name] for name in PLACE_COLUMNS))
        answers.append((row[column], answer_row(*values, where, place)))
    return answers


def answer_row(
    answer: str,
    annotator: str,
    seconds: Any,
    time: Any,
    settles: bool,
    where: str,
    place: Place | Mapping[str, float] | None = None,
) -> AnswerRow:
    """An answer from another program's values.

    Raises
    ------
    AnnotationError
        The answer is unknown or empty, the seconds are not a number, the time is not an ISO time, or the place is not
        in the photo or goes with "unsure".
    """
    known = parse_answer(str(answer), where)
    try:
        if not known:
            raise ValueError("an empty answer")
        found = place if isinstance(place, Place | None) else Place(**place)  # a TypeError where it is no mapping
        check_place(known, found)
        seconds = max(float(seconds or 0), 0.0)
        return AnswerRow(known, str(annotator), seconds, utc(str(time or "")), bool(settles), found)
    except (AnnotationError, TypeError) as error:
        raise AnnotationError(
            "A place must be x, y, width and height from 0 to 1, of the answer core or spurious. "
            f"Got {place} with {known} in {where}. Correct it."
        ) from error
    except ValueError as error:
        raise AnnotationError(
            f"An answer must have seconds as a number and an ISO time, or leave them empty. Got {error} in {where}. "
            "Correct it."
        ) from error


def write_json_sheet(sheet: Sheet, target: Path) -> None:
    """Each image with its prediction and score, everybody's answers and places, and those that count."""
    images = [asdict(image) for image in sheet]
    value = {"kind": KIND, "version": VERSION, "run": sheet.pool.title, "images": images}
    write_json(target, {**value, "classes": list(sheet.pool.table.class_names)})


def read_json_sheet(source: Path) -> list[tuple[str, AnswerRow]]:
    """The answers in a JSON file that `write_json_sheet` wrote."""
    value = read_json(source)
    if not isinstance(value, dict) or value.get("kind") != KIND or value.get("version") != VERSION:
        raise AnnotationError(
            f"{source} must hold {KIND}, version {VERSION}. Got something else. Name its format: --from NAME."
        )
    with well_formed(source):
        return [
            (
                str(image["path"]),
                answer_row(
                    *(a["answer"], a["annotator"], a["seconds"], a["time"], a["settles"]),
                    f"{image['path']} of {source}",
                    a.get("place"),
                ),
            )
            for image in value["images"]
            for a in image["answers"]
        ]
