"""Files inside tar archives, named as if each archive were a folder: ``birds/train-0.tar/cat-7.jpg``.

An archive is read in place. The headers of its files are read once; where each file lies is kept in the cache.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import posixpath
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from slim.errors import ArtifactError, DataError, first_line
from slim.files import Version, cache_folder, file_version, made_once, read_json

SUFFIX = ".tar"


class Place(NamedTuple):
    """Where a file lies in an archive, in bytes."""

    start: int
    size: int


def members(archive: str) -> Mapping[str, Place]:
    """The files in an archive, by their names in it.

    Raises
    ------
    DataError
        It is compressed, truncated, or no tar archive.
    """
    return _members(archive, file_version(Path(archive)))


def inside(path: str) -> tuple[str, str] | None:
    """The archive that a path leads into, and the name in it; None for other paths, whether or not there is a file.

    Examples
    --------
    >>> inside("photos/cat.jpg") is None
    True
    """
    end = path.find(SUFFIX + os.sep)
    while end >= 0:
        end += len(SUFFIX)
        if os.path.isfile(path[:end]):
            return path[:end], path[end + 1 :].replace(os.sep, "/")
        end = path.find(SUFFIX + os.sep, end)
    return None


@contextmanager
def reading(archive: str) -> Iterator[Callable[[str], bytes]]:
    """A function that reads files of an archive, by their names in it; within the block it is open."""
    places = members(archive)
    with open(archive, "rb") as stream:

        def read(name: str) -> bytes:
            stream.seek(places[name].start)
            return stream.read(places[name].size)

        yield read


def archived(path: str) -> io.BytesIO | None:
    """A file in an archive, read into memory; None for a path that leads into none.

    Raises
    ------
    FileNotFoundError
        There is no such file in the archive.
    DataError
        The archive cannot be read.
    """
    found = inside(path)
    if found is None:
        return None
    place = _place(path, *found)
    with open(found[0], "rb") as stream:
        stream.seek(place.start)
        return io.BytesIO(stream.read(place.size))


def read_bytes(path: str) -> bytes:
    """The content of a file, in an archive or not; `OSError` where there is none."""
    content = archived(path)
    return Path(path).read_bytes() if content is None else content.getvalue()


def file_size(path: str) -> int:
    """The size of a file in bytes, in an archive or not; `OSError` where there is none."""
    found = inside(path)
    return os.path.getsize(path) if found is None else _place(path, *found).size


def names_in(folder: str) -> list[str]:
    """The names of the files in a folder of an archive; none for other folders."""
    found = inside(folder + os.sep)
    if found is None:
        return []
    archive, inner = found
    return _by_folder(archive, file_version(Path(archive))).get(inner.rstrip("/"), [])


def _place(path: str, archive: str, name: str) -> Place:
    """Where the file that a path leads to lies in its archive."""
    try:
        return members(archive)[name]
    except KeyError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None


@cache
def _members(archive: str, version: Version) -> Mapping[str, Place]:
    """The files in an archive of this version, as this process, another one before it, or a look at it finds them."""
    key = hashlib.sha256(json.dumps([archive, version]).encode()).hexdigest()[:16]
    kept = cache_folder() / "archives" / f"{key}.json"
    with suppress(ArtifactError, TypeError, ValueError, AttributeError):  # it is missing or damaged, and no loss
        return {name: Place(*place) for name, place in read_json(kept).items()}
    found = _scanned(archive)
    with suppress(OSError), made_once(kept) as partial:  # where the cache cannot be written, it is found again
        partial.write_text(json.dumps(found), encoding="utf-8")
    return found


@cache
def _by_folder(archive: str, version: Version) -> Mapping[str, list[str]]:
    """The names of the files in each folder of an archive."""
    folders: dict[str, list[str]] = defaultdict(list)
    for name in _members(archive, version):
        folders[posixpath.dirname(name)].append(posixpath.basename(name))
    return folders


def _scanned(archive: str) -> dict[str, Place]:
    """The files in an archive, from their headers."""
    found = {}
    try:
        with open(archive, "rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                name = posixpath.normpath(member.name).lstrip("/")
                if member.isfile() and not name.startswith("../"):
                    found[name] = Place(member.offset_data, member.size)
            stream.seek(tar.offset)
            if any(stream.read(tarfile.BLOCKSIZE) or b"?"):  # tarfile takes a damaged header for the end
                raise tarfile.ReadError("no end of the archive")
    except tarfile.TarError as error:
        raise DataError(
            f"{archive} must be a complete tar archive that is not compressed. Got: {first_line(error)}. "
            "Copy it again, or unpack what it was compressed with (gunzip)."
        ) from error
    return found
