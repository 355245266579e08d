"""Files that are either complete or absent: text and JSON written atomically, tables, and digests of their content."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

from slim.errors import ArtifactError

if TYPE_CHECKING:
    import pandas as pd

VERSION = "0.2.0"
"""Of SLIM; pyproject.toml reads it here."""
NAMES = "surrogateescape"
"""How text keeps the names of files that are not in UTF-8: byte for byte."""
MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    SyntaxError,
    TokenError,
    TypeError,
    ValueError,
)
"""What reading a file of another structure than expected may raise."""
_MAX_DEPTH = 100
_COMPRESSED = {".bz2", ".gz", ".tar", ".xz", ".zip", ".zst"}
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_SEAL = "digest"
Version = tuple[int, int, int, int, int]
"""Of a file; see `file_version`."""


def cache_folder() -> Path:
    """Where downloads, and what archives are unpacked to, go: ``SLIM_CACHE``, or ``.cache/slim`` in the home folder."""
    return Path(os.environ.get("SLIM_CACHE") or Path.home() / ".cache" / "slim").absolute()


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: it holds either the old text or all of the new one.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> write_text(target, "whole")
    >>> target.read_text()
    'whole'
    """
    partial = path.with_name(path.name + ".partial")
    with naming(path), partial.open("w", encoding="utf-8", errors=NAMES) as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


@contextmanager
def made_once(path: Path) -> Iterator[Path]:
    """Where to make a file or folder that other processes may make too: the first one that is complete stays.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "cache" / "note.txt"
    >>> with made_once(target) as partial:
    ...     _ = partial.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(partial)  # of a killed process with the same number
    try:
        yield partial
        try:
            partial.replace(path)
        except OSError:  # a folder that another process has made meanwhile, or on Windows a file that is being read
            if not path.exists():
                raise
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    """Remove a file, or a folder and everything in it, where there is one."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name a file in the errors of the system that name none, such as that of a full disk.

    Examples
    --------
    >>> with naming(Path("maps.npy")):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    ...
    OSError: [Errno 28] No space left on device: 'maps.npy'
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        # numpy says how many bytes it could not write, and no number.
        raise OSError(error.errno or errno.ENOSPC, error.strerror or str(error), str(path)) from error


def sync(path: Path) -> None:
    """Wait until a file, or a folder and everything in it, is on the disk itself, where a power cut leaves it.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_text(folder / "note.txt", "whole")
    >>> sync(folder)
    """
    for inner in path.rglob("*") if path.is_dir() else [path]:
        if inner.is_file():
            _sync(inner)
        elif inner.is_dir():
            sync_names(inner)
    if path.is_dir():
        sync_names(path)


def sync_names(folder: Path) -> None:
    """Wait until the names in a folder are on the disk itself, where the system can tell."""
    with suppress(OSError):  # Windows opens no folders, and some network disks do not wait for them
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def share(path: Path, mode: int) -> None:
    """Give a file these permissions, where the disk keeps any: safetensors lets only the owner read what it writes.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> file.touch(0o600)
    >>> share(file, 0o644)
    >>> oct(file.stat().st_mode & 0o777)
    '0o644'
    """
    with suppress(PermissionError):
        path.chmod(mode & 0o777)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN is refused, since other readers would not accept it."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file in any Unicode encoding; for any other file, an `ArtifactError` names the fault."""
    try:
        return parse_json(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path} must hold JSON. Got: {error.strerror}. Check its name.") from error
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError):
            fault = f"a file that is invalid JSON at line {error.lineno}"
        elif isinstance(error, UnicodeDecodeError):
            fault = "a file that is invalid JSON in its encoding"
        else:
            fault = str(error)
        raise ArtifactError(f"{path} must hold JSON. Got {fault}. Remove it and run the stage again.") from error


def parse_json(content: bytes) -> Any:
    """The value of JSON in any Unicode encoding.

    Raises
    ------
    ValueError
        It is no JSON, or nested deeper than 100 levels, which no file or request of SLIM is.

    Examples
    --------
    >>> parse_json(b'{"a": [1, 2]}')
    {'a': [1, 2]}
    >>> parse_json(b"[" * 50_000)
    Traceback (most recent call last):
    ...
    ValueError: JSON nested deeper than 100 levels
    """
    too_deep = f"JSON nested deeper than {_MAX_DEPTH} levels"
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise ValueError(too_deep) from error
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [inner for one in level for inner in _inner(one)]
        if not level:
            return value
    raise ValueError(too_deep)


def _inner(value: Any) -> list[Any]:
    """What a list or an object of JSON holds."""
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object that ends with a digest of itself, so that `check_seal` notices any change.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "seed.json"
    >>> write_sealed(file, {"seed": 3})
    >>> check_seal(file, read_json(file))
    {'seed': 3}
    >>> write_text(file, file.read_text().replace("3", "4", 1))
    >>> check_seal(file, read_json(file))
    Traceback (most recent call last):
    ...
    slim.errors.ArtifactError: ...seed.json must be as SLIM wrote it. Got a changed file. ...
    """
    write_text(path, _sealed(values))


def check_seal(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a JSON object without the digest of `write_sealed`; without one, a file is taken as it is.

    Raises
    ------
    ArtifactError
        The file has such a digest, and has changed since.
    """
    rest = {name: value for name, value in values.items() if name != _SEAL}
    if _SEAL in values and path.read_bytes() != _sealed(rest).encode():
        raise ArtifactError(
            f'{path} must be as SLIM wrote it. Got a changed file. Undo the change, or remove the line "{_SEAL}" to '
            "have it accepted as it is."
        )
    return rest


def _sealed(values: Mapping[str, Any]) -> str:
    """A JSON object as text, with its digest as the last value."""
    digest = hashlib.sha256(json.dumps(values, allow_nan=False).encode()).hexdigest()[:16]
    return json.dumps({**values, _SEAL: digest}, indent=2, allow_nan=False) + "\n"


def guarded(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: one that begins like one gets an apostrophe before it.

    `unguarded` takes it away again, so that whatever was written is read.

    Examples
    --------
    >>> [guarded(text) for text in ("=1+1", "@ann", "ann", "'=1+1")]
    ["'=1+1", "'@ann", 'ann', "''=1+1"]
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(text: str) -> str:
    """What `guarded` was given.

    Examples
    --------
    >>> [unguarded(text) for text in ("'=1+1", "'ann", "''=1+1")]
    ['=1+1', "'ann", "'=1+1"]
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as CSV, atomically, in which no text is a formula; see `guarded`."""
    cells = frame.copy(deep=False)
    for name in frame.select_dtypes(exclude=["number", "bool"]):  # numbers keep their precision
        cells[name] = frame[name].map(lambda value: guarded(value) if isinstance(value, str) else value)
    write_text(path, cells.to_csv(index=False, lineterminator="\n"))


def read_cells(path: Path, **options: Any) -> pd.DataFrame:
    """A CSV table with every value as text, so that an image named 007 keeps its name.

    Commas, semicolons, tabs or bars separate values, whichever the first line has most of, or what ``sep=`` in it says;
    a byte-order mark and spaces at the start of values and around the names of columns are left out.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is empty, ragged, compressed, not in UTF-8, or names two columns alike.

    Examples
    --------
    >>> import tempfile
    >>> table = Path(tempfile.mkdtemp()) / "table.csv"
    >>> write_text(table, "name; y\\na.png;1\\n")
    >>> read_cells(table).to_dict("list")
    {'name': ['a.png'], 'y': ['1']}
    """
    import pandas as pd  # here: every command imports this module, few read a table

    if path.suffix.lower() in _COMPRESSED:
        raise ValueError("a compressed file")

    with path.open(encoding="utf-8-sig", errors=NAMES) as stream:
        head = stream.readline()
        said = head[4:5] if head.lower().startswith("sep=") else ""  # as Excel writes it
        head = stream.readline() if said else head
    separator = said or max(",;\t|", key=head.count)
    names = [name.strip() for name in next(csv.reader([head], delimiter=separator, skipinitialspace=True), [])]
    double = next((name for name in names if name and names.count(name) > 1), None)
    if double is not None:
        raise ValueError(f"the column {double!r} twice")
    options = {"sep": separator, "skiprows": int(bool(said)), "dtype": str, "keep_default_na": False, **options}
    frame: pd.DataFrame = pd.read_csv(path, encoding="utf-8-sig", skipinitialspace=True, **options)
    return frame.rename(columns=lambda name: str(name).strip())


def file_digest(path: Path) -> str:
    """What identifies a file's content: 16 hexadecimal digits, computed once per process and version of the file.

    Examples
    --------
    >>> import tempfile
    >>> note = Path(tempfile.mkdtemp()) / "note.txt"
    >>> write_text(note, "whole")
    >>> file_digest(note)
    '5d5766cf2d787016'
    """
    known = known_digest(path)
    if known is None:
        before = file_version(path)
        with path.open("rb") as stream:
            known = hashlib.file_digest(stream, "sha256").hexdigest()[:16]
        _digests[before] = known
    return known


def known_digest(path: Path) -> str | None:
    """The digest of a file that this process has computed before; None where it has not."""
    return _digests.get(file_version(path))


_digests: dict[Version, str] = {}


def file_version(path: Path) -> Version:
    """What changes when a file is written again, but not when its folder is renamed."""
    now = path.stat()
    return now.st_dev, now.st_ino, now.st_mtime_ns, now.st_ctime_ns, now.st_size
