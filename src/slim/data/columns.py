"""Columns of a metadata table: finding them, reading them, and locating wrong values."""

from __future__ import annotations

import difflib
import re
import unicodedata
import warnings
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from slim.arrays import Floats, Ints
from slim.data.splits import SPLIT_ALIASES, SPLIT_CODES
from slim.data.table import BOX_COLUMNS
from slim.errors import DataError, SlimWarning

FILE_COLUMNS = ("img_filename", "filename")
ID_COLUMN = "img_id"
MASK_COLUMN = "mask_filename"
CLASS_NAME_COLUMNS = ("class_name", "label_name")
_ATTRIBUTE_COLUMNS = ("place", "a")
_RESERVED = {*FILE_COLUMNS, ID_COLUMN, MASK_COLUMN, *CLASS_NAME_COLUMNS, "y", "split", *BOX_COLUMNS}
_MOST_ATTRIBUTES = 1000
_FEW = 20  # values of an attribute, as many as it may always have
_NUMBER = re.compile(r"[+-]?(\d{1,40}\.?\d{0,40}|\.\d{1,40})(e[+-]?\d{1,2})?", re.IGNORECASE | re.ASCII)


def file_column(frame: pd.DataFrame, what: str) -> str:
    """The column with the file names of the images."""
    column = next((name for name in FILE_COLUMNS if name in frame.columns), None)
    if column is None:
        raise DataError(
            f"{what} must have a column img_filename (or filename) with the image files. Got {listed(frame.columns)}. "
            "Rename the column that holds them."
        )
    return column


def texts(frame: pd.DataFrame, column: str) -> list[str]:
    """The values of a column as text; `""` for a missing one. Only names of files keep spaces around them."""
    cells = zip(frame[column], frame[column].isna(), strict=True)
    values = ["" if missing else str(_plain_value(value)) for value, missing in cells]
    values = values if column in FILE_COLUMNS else [value.strip() for value in values]
    return ["" if value.strip().lower() in ("", "nan") else value for value in values]


def _plain_value(value: Any) -> Any:
    """A value without the scalar of numpy, or the tensor, around it."""
    return value.item() if hasattr(value, "item") and not getattr(value, "ndim", 0) else value


def required_texts(frame: pd.DataFrame, column: str, what: str) -> list[str]:
    """The values of a column as text; none may be missing."""
    values = texts(frame, column)
    if "" in values:
        raise DataError(
            f"{what} in column {column!r} must all be filled in. Got none in {_row(values.index(''))}. "
            "Fill it in, or drop the row."
        )
    return values


def labels(frame: pd.DataFrame, what: str) -> tuple[Ints, tuple[str, ...]]:
    """Labels as 0 to n_classes - 1 in the order of their values, and the name of each class."""
    if "y" not in frame.columns:
        raise DataError(
            f"{what} must have a column y with the labels. Got {listed(frame.columns)}. "
            "Rename the column that holds them."
        )
    values = required_texts(frame, "y", "Labels")
    numbers = _numbers(values)
    if not _whole(numbers):
        first = next(row for row, number in enumerate(numbers) if not _whole([number]))
        raise DataError(
            f"Labels in column 'y' must be whole numbers. Got {values[first]!r} in {_row(first)}. "
            "Use an ImageFolder tree (one folder per class), or number the classes with pandas.factorize."
        )
    for huge in (number for number in numbers if number is not None and abs(number) >= 2**63):
        raise DataError(
            f"Labels in column 'y' must be numbers of classes. Got {_plain(huge)}, which no integer of 64 bits holds. "
            "Number the classes with pandas.factorize."
        )
    codes, names = _coded(numbers)
    if "-1" in names and len(names) > 2:
        warnings.warn(
            f"Labels in column 'y' hold -1 beside {len(names) - 1} other values: it is taken for a class. "
            "If it means that an image has no label, drop its row.",
            SlimWarning,
            stacklevel=4,
        )
    column = next((name for name in CLASS_NAME_COLUMNS if name in frame.columns), None)
    return codes, tuple(names) if column is None else _class_names(frame, column, codes)


def splits(frame: pd.DataFrame) -> npt.NDArray[np.object_]:
    """The split of each row, from 0 / 1 / 2 or train / val / test."""
    values = required_texts(frame, "split", "Splits")
    numbers = _numbers(values)
    keys = [value.lower() if number is None else _plain(number) for value, number in zip(values, numbers, strict=True)]
    known = SPLIT_CODES | SPLIT_ALIASES
    wrong = next((row for row, key in enumerate(keys) if key not in known), None)
    if wrong is not None:
        raise DataError(
            f"Splits in column 'split' must be 0, 1, 2 or train, val, test. Got {values[wrong]!r} in {_row(wrong)}. "
            "Correct it, or leave out the column to draw a seeded split."
        )
    return np.array([known[key] for key in keys], dtype=object)


def attribute_columns(frame: pd.DataFrame, attribute: str | Sequence[str] | None, mask: str | None) -> list[str]:
    """The columns of the spurious attribute; none if there is no attribute."""
    if attribute is None:
        usual = [column for column in _ATTRIBUTE_COLUMNS if column in frame.columns]
        if len(usual) > 1:
            raise DataError(
                f"The spurious attribute must be unambiguous. Got columns {listed(usual)}. "
                "Choose one: attribute='place'."
            )
        return usual
    chosen = [attribute] if isinstance(attribute, str) else list(dict.fromkeys(attribute))
    candidates = [column for column in frame.columns if column not in _RESERVED | {mask}]
    for column in chosen:
        _check_column(column, candidates, "attribute")
    return chosen


def attributes(frame: pd.DataFrame, columns: Sequence[str]) -> tuple[Ints, tuple[str, ...]]:
    """Codes 0 to n_attributes - 1 of all combinations of the columns' values, and the name of each."""
    codes, names = np.zeros(len(frame), dtype=np.int64), [""]
    for column in columns:
        own_codes, own_names = _attribute(frame, column)
        codes = codes * len(own_names) + own_codes
        names = [f"{name}, {own}" if name else own for name in names for own in own_names]
        if len(names) > _MOST_ATTRIBUTES:
            raise DataError(
                f"An attribute must have at most {_MOST_ATTRIBUTES} values. Got {len(names)} from {listed(columns)}. "
                "Choose a column whose values many images share."
            )
    return codes, tuple(names)


def mask_column(frame: pd.DataFrame, mask: str | None) -> str | None:
    """The column with the file names of the masks, or None."""
    if mask is None:
        return MASK_COLUMN if MASK_COLUMN in frame.columns else None
    candidates = [
        column for column in frame.columns if "mask" in str(column).lower() and column not in (*FILE_COLUMNS, "y")
    ]
    if mask not in frame.columns or mask in (*FILE_COLUMNS, "y", "split"):
        _check_column(mask, candidates, "mask")
    return mask


def boxes(frame: pd.DataFrame, columns: Sequence[str], files: Sequence[str]) -> Floats:
    """Boxes (n, 4) as x, y, width, height. Every image must have one."""
    cells = pd.DataFrame({column: texts(frame, column) for column in columns})
    absent = (cells == "").any(axis=1).to_numpy()
    if absent.any():
        raise DataError(
            f"If some images have a box, all must. Got none for {int(absent.sum())} of {len(files)}, "
            f"the first is {files[int(np.argmax(absent))]}. Add the boxes, or drop those images."
        )
    values: Floats = cells.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    for row, column in np.argwhere(~np.isfinite(values))[:1]:
        raise DataError(
            "A box must hold numbers of pixels, with a decimal point and not a comma. "
            f"Got {cells.iat[row, column]!r} in column {columns[column]!r} for {files[row]}. Correct it."
        )
    if (values <= 1).all():
        raise DataError(
            f"A box must be in pixels. Got fractions of the image, such as {', '.join(f'{v:g}' for v in values[0])} "
            f"for {files[0]}. Multiply them by the width and the height of each image."
        )
    flat = (values[:, 2:] <= 0).any(axis=1)
    if flat.any():
        first = int(np.argmax(flat))
        raise DataError(
            f"A box must have a width and a height above 0. Got {values[first, 2]:g} x {values[first, 3]:g} "
            f"for {files[first]}. Correct it: a box is x, y, width and height in pixels."
        )
    return values


def warn_of_twins(names: Sequence[str], what: str, wanted: str) -> None:
    """Say that names differ only in case, spaces or Unicode form, and yet stand for different classes or groups."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(folded(name), name)
        if other != name:
            warnings.warn(
                f"There are {what} called {other!r} and {name!r}, which are taken for two. "
                f"If they are the same, write them alike: {wanted}.",
                SlimWarning,
                stacklevel=5,
            )
            return


def folded(name: str) -> str:
    """A name without what is easily overlooked: case, spaces around it, and whether characters are composed."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def listed(names: Sequence[str] | pd.Index[str]) -> str:
    """Names for a message; only the first twelve."""
    shown = [str(name) for name in names][:12]
    return (", ".join(shown) or "none") + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _attribute(frame: pd.DataFrame, column: str) -> tuple[Ints, list[str]]:
    """Codes and names of one column: in numerical order if all values are numbers, else in alphabetical order."""
    values = [unicodedata.normalize("NFC", value) for value in required_texts(frame, column, "Attributes")]
    numbers = _numbers(values)
    codes, names = _coded(values if None in numbers else numbers)
    measured = None not in numbers and not _whole(numbers)
    warn_of_twins(names, f"values in column {column!r}", "one value per group")
    unshared = len(names) == len(values) > 2
    if unshared or len(names) > (_FEW if measured else max(_FEW, len(values) // 2)):
        raise DataError(
            f"An attribute must have values that many images share. Got {len(names)} different ones for {len(values)} "
            f"images in column {column!r}, such as {names[-1]}. Cut them into a few bins, or name another column."
        )
    return codes, [f"{column}={name}" for name in names]


def _coded(values: Sequence[Any]) -> tuple[Ints, list[str]]:
    """Each value as its place among the distinct ones, in their order, and these as text."""
    distinct = sorted(set(values))
    places = {value: place for place, value in enumerate(distinct)}
    names = [value if isinstance(value, str) else _plain(value) for value in distinct]
    return np.array([places[value] for value in values], dtype=np.int64), names


def _plain(number: Decimal) -> str:
    """A number as text, in the same way for 1, 1.0 and 1e0."""
    return str(int(number)) if number == number.to_integral_value() else f"{number:f}".rstrip("0")


def _class_names(frame: pd.DataFrame, column: str, codes: Ints) -> tuple[str, ...]:
    """The name of each class, from a column."""
    pairs = pd.DataFrame({"code": codes, "name": required_texts(frame, column, "Class names")}).drop_duplicates()
    if pairs["code"].duplicated().any() or pairs["name"].duplicated().any():
        double = pairs[pairs.duplicated("code", keep=False) | pairs.duplicated("name", keep=False)]
        raise DataError(
            f"Column {column!r} must have one name per label, and one label per name. Got conflicting names: "
            f"{listed(double['name'].tolist())}. Correct the names, or drop the column."
        )
    return tuple(pairs.sort_values("code")["name"].tolist())


def _check_column(column: str, candidates: Sequence[str], argument: str) -> None:
    """Refuse a column that is not among the candidates."""
    if column in candidates:
        return
    close = difflib.get_close_matches(str(column), [str(name) for name in candidates], n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Leave out {argument}= if there is none."
    raise DataError(f"{argument}= must name one of these columns: {listed(candidates)}. Got {column!r}. {hint}")


def _numbers(values: Sequence[str]) -> list[Decimal | None]:
    """Texts as numbers, exactly, since ids may exceed what floats hold; None for a text that is not a number."""
    known = {text: Decimal(text) if _NUMBER.fullmatch(text) else None for text in set(values)}
    return [known[text] for text in values]


def _whole(numbers: Sequence[Decimal | None]) -> bool:
    """Whether all are whole numbers."""
    return all(number is not None and number == number.to_integral_value() for number in numbers)


def _row(position: int) -> str:
    """A row, as messages name it."""
    return f"row {position} (the first is row 0)"
