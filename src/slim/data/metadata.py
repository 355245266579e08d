"""Metadata tables: from a CSV file or a DataFrame to `Rows`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from slim.data import columns
from slim.data.splits import carve
from slim.data.table import BOX_COLUMNS
from slim.errors import DataError, SlimWarning, first_line
from slim.files import read_cells


@dataclass(frozen=True)
class Rows:
    """All images of a data set, unchecked: `file`, `split`, `y` and, if present, `a`, `mask` and the box columns."""

    frame: pd.DataFrame
    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...] = ()
    drawn: bool = False
    """Whether some splits were drawn at random, and not given."""


def read_metadata(path: Path) -> pd.DataFrame:
    """A CSV table, with the boxes from a boxes.csv beside it."""
    return _with_box_file(_read_csv(path), path)


def table_rows(
    frame: pd.DataFrame, what: str, attribute: str | Sequence[str] | None, mask: str | None, seed: int
) -> Rows:
    """The rows of a metadata table."""
    frame = frame.reset_index(drop=True)
    if frame.empty:
        raise DataError(f"{what} must have a row per image. Got none. Add the rows, or name another table.")
    if not frame.columns.is_unique:
        double = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"{what} must have each column once. Got {double!r} twice. Rename or drop one.")
    files = columns.required_texts(frame, columns.file_column(frame, what), "Image files")
    y, class_names = columns.labels(frame, what)
    split = columns.splits(frame) if "split" in frame.columns else carve(y, files, seed)
    rows = pd.DataFrame({"file": files, "split": split, "y": y})
    mask = columns.mask_column(frame, mask)
    attribute_columns = columns.attribute_columns(frame, attribute, mask)
    attribute_names: tuple[str, ...] = ()
    if attribute_columns:
        rows["a"], attribute_names = columns.attributes(frame, attribute_columns)
    if mask is not None and any(masks := columns.texts(frame, mask)):
        rows["mask"] = masks
    if any(column in frame.columns for column in BOX_COLUMNS):
        rows[list(BOX_COLUMNS)] = columns.boxes(_with_all_box_columns(frame, what), BOX_COLUMNS, files)
    return Rows(rows, class_names, attribute_names, drawn="split" not in frame.columns)


def _read_csv(path: Path) -> pd.DataFrame:
    """A CSV file with every value as text."""
    try:
        frame = read_cells(path)
    except ValueError as error:  # pandas raises it for an empty, ragged or differently encoded file
        raise DataError(
            f"{path} must be a CSV table in UTF-8. Got: {first_line(error)}. Save it again as CSV, or pass a DataFrame."
        ) from error
    for column in frame.columns:
        broken = frame[column].str.contains("\n", regex=False)
        if broken.any():
            warnings.warn(
                f"{path} has a line break in column {column!r} of row {int(broken.argmax())} (the first is row 0). "
                "If it should not, a quotation mark there swallows rows: remove it.",
                SlimWarning,
                stacklevel=5,
            )
            break
    # If rows are longer than the header, pandas takes their first values as row names and shifts the others.
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(
            f"{path} must have a column name for every value. Got {len(frame.columns)} names and longer rows. "
            "Complete the first line, or remove trailing commas from the others."
        )
    return frame


def _with_box_file(frame: pd.DataFrame, table: Path) -> pd.DataFrame:
    """The table with the boxes from a boxes.csv beside it, joined by id; box columns of the table take precedence."""
    path = table.with_name("boxes.csv")
    if set(BOX_COLUMNS) <= set(frame.columns) or not path.exists():
        return frame
    boxes = _read_csv(path)
    names = [name.removeprefix("box_") for name in BOX_COLUMNS]
    key = next((k for k in (*columns.FILE_COLUMNS, columns.ID_COLUMN) if k in boxes and k in frame), None)
    if key is None or not set(names) <= set(boxes.columns):
        raise DataError(
            f"{path} must have x, y, width, height and an id that is also in {table.name}: "
            f"img_filename, filename or img_id. Got {columns.listed(boxes.columns)}. Rename the columns."
        )
    doubled = boxes[key].duplicated()
    if doubled.any():
        raise DataError(
            f"{path} must have one box per image. Got two for {boxes.loc[doubled, key].iloc[0]}. Keep the larger one."
        )
    joined = boxes.set_index(key)[names].reindex(frame[key]).reset_index(drop=True)
    return frame.assign(**{f"box_{name}": joined[name] for name in names})


def _with_all_box_columns(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """Refuse a table that has only some of the box columns."""
    absent = [column for column in BOX_COLUMNS if column not in frame.columns]
    if absent:
        raise DataError(
            f"{what} must have all of {', '.join(BOX_COLUMNS)}, or none. Got no {', '.join(absent)}. "
            "Add what is missing, or drop the others."
        )
    return frame
