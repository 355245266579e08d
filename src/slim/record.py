"""Records: what each stage hands on. Every one saves itself into a folder and loads itself from it in the same way.

An array, quantized or not, becomes ``<field>.npy`` and is memory-mapped on loading, a table ``<field>.csv``, a record
inside a record a folder of its own; everything else goes into ``record.json``, which is written last and says what the
folder holds and in which format. Nothing is pickled.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import Field, asdict, fields, is_dataclass
from html import escape
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt
import pandas as pd

from slim import processes
from slim.errors import ArtifactError, SlimError, first_line
from slim.files import MALFORMED, NAMES, naming, read_json, unguarded, write_json, write_table, write_text
from slim.notebook import table_html
from slim.quantized import Quantized

FILE = "record.json"


class Record:
    """The base of every record: a frozen dataclass that saves and loads itself.

    A field may name its file without the suffix, ``field(metadata={"file": "scores"})``; a text or JSON value with
    such a name, suffix included, gets a file of its own. A field with ``metadata={"saved": False}``
    is not saved, and a loaded record has its default.

    Attributes
    ----------
    format
        Raised by one whenever the meaning of a saved field changes.

    Examples
    --------
    >>> import tempfile
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, eq=False)
    ... class Sizes(Record):
    ...     values: np.ndarray
    ...     unit: str
    >>> folder = Path(tempfile.mkdtemp())
    >>> Sizes(np.array([1.5, 2.5]), "mm").save(folder)
    >>> sorted(file.name for file in folder.iterdir())
    ['record.json', 'values.npy']
    >>> Sizes.load(folder).values.tolist()
    [1.5, 2.5]
    """

    format: ClassVar[int] = 1

    def save(self, folder: str | Path) -> None:
        """Write the record into a folder, which is made where there is none."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).unlink(missing_ok=True)
        values: dict[str, Any] = {}
        for item in _fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Record):
                value.save(folder / _stem(item))
            elif isinstance(value, (np.ndarray, Quantized)):
                _save_array(folder / f"{_stem(item)}.npy", value)
            elif isinstance(value, pd.DataFrame):
                values[item.name] = {name: str(kind) for name, kind in value.dtypes.items()}
                write_table(folder / f"{_stem(item)}.csv", value)
            elif "file" in item.metadata:
                path = folder / _stem(item)
                write_text(path, value) if isinstance(value, str) else write_json(path, value)
            else:
                values[item.name] = _plain(value)
        write_json(folder / FILE, {"record": type(self).__name__, "format": self.format, "values": values})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote; arrays are mapped into memory and not read.

        Raises
        ------
        ArtifactError
            The folder holds no such record, or one that another version of SLIM wrote.
        """
        folder = Path(folder)
        with as_written(folder):
            loaded = cls._load_fields(folder, cls._values(folder))
            try:
                return cls(**loaded)
            except SlimError as error:  # a file was changed into what no such record may hold
                raise ArtifactError(f"{folder}: {error}") from error

    def _tables(self) -> dict[str, pd.DataFrame]:
        """The tables that a notebook shows, by title."""
        values = {item.name: getattr(self, item.name) for item in _fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, pd.DataFrame)}

    def _repr_html_(self) -> str:
        """What a notebook shows: the tables, or the text where there are none."""
        tables = [table_html(frame, title) for title, frame in self._tables().items()]
        return "".join([f"<p>{type(self).__name__}</p>", *tables]) if tables else f"<pre>{escape(repr(self))}</pre>"

    @classmethod
    def _load_fields(cls, folder: Path, values: Mapping[str, Any], without: Collection[str] = ()) -> dict[str, Any]:
        """The values of the saved fields."""
        hints, items = get_type_hints(cls), [item for item in _fields(cls) if item.name not in without]
        return {item.name: _load(folder, item, _without_none(hints[item.name]), values) for item in items}

    @classmethod
    def _values(cls, folder: Path) -> dict[str, Any]:
        """The plain values of a saved record of this class."""
        with as_written(folder):
            values: dict[str, Any] = dict(cls._content(folder, FILE)["values"])
        return values

    @classmethod
    def _content(cls, folder: Path, file: str) -> dict[str, Any]:
        """A record's JSON file, which must be of this class and in its present format."""
        if not (folder / file).exists():
            raise ArtifactError(
                f"{folder} must hold {cls.__name__}. Got no {file} there. Run the stage that writes it again."
            )
        content = read_json(folder / file)
        kind, version = (content.get("record"), content.get("format")) if isinstance(content, dict) else (None, None)
        if (kind, version) != (cls.__name__, cls.format):
            raise ArtifactError(
                f"{folder} must hold {cls.__name__} in format {cls.format}. Got {kind} in format {version}, "
                "which another version of SLIM wrote. Use a new run folder, or install that version."
            )
        return dict(content)


@contextmanager
def as_written(folder: Path) -> Iterator[None]:
    """Refuse files that were changed into what no record may hold, whatever it is.

    Raises
    ------
    ArtifactError
        Reading them in the block went wrong.

    Examples
    --------
    >>> with as_written(Path("runs/birds/03-space")):
    ...     {"pool": "train"}["points"]
    Traceback (most recent call last):
    ...
    slim.errors.ArtifactError: runs/birds/03-space must be as it was written. Got KeyError: 'points'. ...
    """
    try:
        yield
    except MALFORMED as error:
        reason = first_line(error)
        raise ArtifactError(
            f"{folder} must be as it was written. Got {type(error).__name__}: {reason}. "
            "Run the stage that writes it again."
        ) from error


class ArrayToFill:
    """An array of zeros for a record's field: in the record's folder where there is one, else in memory.

    Where several processes work together, all of them make it, and fill their shares of the same file. Nothing that was
    written to the file stays in memory, so that it takes no more for many rows than for few.

    Parameters
    ----------
    folder
        Of the record.
    name
        Of its field.
    shape, dtype
        Of the array; a structured type is that of `Quantized` vectors.

    Raises
    ------
    OSError
        The disk has no room for it: said now, since writing to memory without a place on the disk ends the process.

    Examples
    --------
    >>> array = ArrayToFill(None, "values", (2, 3))
    >>> array[1] = 5
    >>> array.filled().tolist()
    [[0.0, 0.0, 0.0], [5.0, 5.0, 5.0]]
    """

    def __init__(
        self, folder: str | Path | None, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32
    ) -> None:
        self._memory: np.ndarray[Any, Any] | None = np.zeros(shape, dtype) if folder is None else None
        self._path = Path(folder or ".") / f"{name}.npy"
        if folder is None:
            return
        if processes.first():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with naming(self._path):
                np.lib.format.open_memmap(self._path, mode="w+", dtype=dtype, shape=shape)
            if hasattr(os, "posix_fallocate"):
                with naming(self._path), self._path.open("r+b") as stream:
                    os.posix_fallocate(stream.fileno(), 0, self._path.stat().st_size)
        processes.wait()

    def __setitem__(self, rows: Any, values: Any) -> None:
        self._opened()[rows] = values

    def filled(self) -> Any:
        """The array, once every process has filled its share of the rows."""
        array = self._opened()
        if isinstance(array, np.memmap):
            array.flush()
            processes.wait()
        else:
            array = processes.summed(array.view(np.uint8)).view(array.dtype)
        return Quantized(array) if array.dtype.names else array

    def _opened(self) -> np.ndarray[Any, Any]:
        return np.lib.format.open_memmap(self._path, mode="r+") if self._memory is None else self._memory


def _fields(record: Record | type[Record]) -> tuple[Field[Any], ...]:
    """The fields that are saved."""
    every = fields(record)  # type: ignore[arg-type]  # every record is a dataclass
    return tuple(item for item in every if item.metadata.get("saved", True))


def _stem(item: Field[Any]) -> str:
    return str(item.metadata.get("file", item.name))


def _save_array(path: Path, array: np.ndarray[Any, Any] | Quantized) -> None:
    array = array.stored if isinstance(array, Quantized) else array
    if isinstance(array, np.memmap) and array.filename is not None and path.exists() and path.samefile(array.filename):
        array.flush()  # it was filled where it belongs
    else:
        with naming(path):
            np.save(path, array, allow_pickle=False)


def _plain(value: Any) -> Any:
    """A value as JSON knows it."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def _load(folder: Path, item: Field[Any], hint: Any, values: Mapping[str, Any]) -> Any:
    """A field's value from its file, or from the record's plain values."""
    if values.get(item.name, ...) is None:
        return None
    kind = get_origin(hint) or hint
    kind = get_origin(getattr(kind, "__value__", kind)) or kind  # since numpy 2.5, NDArray is an alias in itself
    path = folder / _stem(item)
    if isinstance(kind, type) and issubclass(kind, Record):
        return kind.load(path)
    if kind is np.ndarray or Quantized in get_args(hint):
        return _opened(path.with_name(f"{path.name}.npy"), _array)
    if kind is pd.DataFrame:
        columns = values[item.name]
        return _opened(path.with_name(f"{path.name}.csv"), lambda file: _table(file, columns))
    if "file" in item.metadata:
        return _opened(path, lambda file: file.read_text("utf-8", NAMES)) if kind is str else read_json(path)
    return _typed(values[item.name], hint)


def _array(path: Path) -> np.ndarray[Any, Any] | Quantized:
    """A file's array, mapped into memory."""
    array: np.ndarray[Any, Any] = np.load(path, mmap_mode="r")
    return Quantized(array) if array.dtype.names else array


def _opened(path: Path, read: Any) -> Any:
    """A file's content, or an error that names it."""
    try:
        return read(path)
    except (OSError, EOFError, *MALFORMED) as error:
        reason = first_line(error)
        raise ArtifactError(
            f"{path} must be as it was written. Got: {reason}. Run the stage that writes it again."
        ) from error


def _table(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """A table with the types that its columns had; an empty cell is NaN among numbers and empty among texts."""
    texts = pd.read_csv(path, dtype=str, keep_default_na=False, encoding_errors=NAMES).map(unguarded)
    return pd.DataFrame({name: _column(texts[name].tolist(), kind) for name, kind in columns.items()})


def _column(texts: list[str], kind: str) -> pd.Series[Any]:
    """A column of a table, numbers exactly as they were written."""
    if kind == "bool":
        return pd.Series([text == "True" for text in texts], dtype=bool)
    if kind.startswith("float"):
        return pd.Series([float(text or "nan") for text in texts], dtype=kind)
    if kind.startswith(("int", "uint")):
        return pd.Series([int(text) for text in texts], dtype=kind)
    return pd.Series(texts, dtype=str)


def _without_none(hint: Any) -> Any:
    """The type that is left of ``X | None``."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    return kinds[0] if get_origin(hint) is UnionType and len(kinds) == 1 else hint


def _typed(value: Any, hint: Any) -> Any:
    """A plain value as the field's type: tuples and small dataclasses come back as what they were."""
    hint = _without_none(hint)
    kind = get_origin(hint)
    if value is None:
        return None
    if kind is dict:
        return {key: _typed(one, get_args(hint)[1]) for key, one in value.items()}
    if kind is tuple:
        inner = get_args(hint)[0]
        return tuple(_typed(one, inner) for one in value)
    if isinstance(hint, type) and is_dataclass(hint):
        return hint(**{item.name: _typed(value[item.name], get_type_hints(hint)[item.name]) for item in fields(hint)})
    return value
