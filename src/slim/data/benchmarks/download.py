"""Downloads: from several addresses, continued where they stopped, and checked before they count."""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from slim.errors import DataError
from slim.files import VERSION, sync
from slim.progress import track

TIMEOUT = 30.0
"""Seconds without a byte after which a server counts as stalled."""

ATTEMPTS = 5
"""How often a broken transfer from one address is continued."""

_CHUNK = 2**20
_PAGE = re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE)


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Parameters
    ----------
    name
        Its name on disk, as published.
    urls
        Its addresses, the one to try first first.
    md5
        Of the whole file, if it is known.
    needed
        Whether the benchmark cannot be used without it.
    """

    name: str
    urls: tuple[str, ...]
    md5: str | None = None
    needed: bool = True


class _BrokenError(Exception):
    """A transfer that stopped early, and can be continued."""


class _UselessError(Exception):
    """An address that does not have the file."""


def download(file: RemoteFile, folder: Path) -> Path:
    """Download a file, unless it is there already.

    Parameters
    ----------
    file
        What to download. Its addresses are tried in turn; a transfer that breaks is continued where it stopped, also by
        a later call.
    folder
        Receives it. The file appears under its name only when it is complete.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    DataError
        No address has it; the message says what each of them answered.
    """
    target = folder / file.name
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    refused = []
    for url in file.urls:
        # A part belongs to its address: another one may have another version of the file.
        partial = folder / f"{file.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.partial"
        try:
            _complete(url, partial, file)
        except _UselessError as error:
            refused.append(f"{url} ({error})")
            continue
        sync(partial)
        partial.replace(target)
        for rest in folder.glob(f"{file.name}.*.partial"):
            rest.unlink()
        return target
    raise DataError(
        f"{file.name} must come from one of {len(refused)} addresses. Got no file: {'; '.join(refused)}. "
        "Try again later, or download it in a browser."
    )


def _complete(url: str, partial: Path, file: RemoteFile) -> None:
    """Fill the partial file, however often the transfer breaks, and check it."""
    reason = ""
    for _ in range(ATTEMPTS):
        try:
            _transfer(url, partial, file.name)
            break
        except _BrokenError as error:
            reason = str(error)
    else:
        raise _UselessError(reason)
    if file.md5 is not None and (found := _md5(partial)) != file.md5:
        partial.unlink()
        raise _UselessError(f"its MD5 is {found}, not {file.md5}")


def _transfer(url: str, partial: Path, name: str) -> None:
    """Append what is missing of a file; start again where the server cannot continue."""
    have = partial.stat().st_size if partial.exists() else 0
    request = Request(url, headers={"User-Agent": f"slim/{VERSION}"} | ({"Range": f"bytes={have}-"} if have else {}))
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:
            _refuse_page(answer.headers.get("Content-Type", ""))
            start, total = _extent(answer, have)
            megabytes = None if total is None else -(-(total - start) // _CHUNK)
            with partial.open("r+b" if start else "wb") as stream:
                stream.seek(start)
                for _ in track(_copied(answer, stream), f"downloading {name} (MB)", megabytes):
                    pass
                size = stream.tell()
    except HTTPError as error:
        if error.code == 416 and have:
            return _after_the_end(error.headers.get("Content-Range", ""), partial)
        raise _UselessError(f"HTTP {error.code} {error.reason}") from error
    except (TimeoutError, ConnectionError, HTTPException) as error:
        raise _BrokenError(f"the transfer broke: {error or type(error).__name__}") from error
    except OSError as error:
        if error.filename is not None or error.errno == errno.ENOSPC:
            raise  # this machine's disk, and not the server
        raise _UselessError(f"no connection: {getattr(error, 'reason', error)}") from error
    if total is not None and size < total:
        raise _BrokenError(f"it stopped after {size:,} of {total:,} bytes")


def _extent(answer: HTTPResponse, have: int) -> tuple[int, int | None]:
    """Where the answer starts within the file, and the size of the whole file if the server says it."""
    if answer.status == 206:
        content_range = answer.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", content_range)
        if match is None or int(match[1]) != have:
            raise _UselessError(f"it continues at the wrong place: {content_range!r}")
        return have, int(match[2])
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _after_the_end(content_range: str, partial: Path) -> None:
    """The server has no bytes after ours: either we have them all, or ours are of another file."""
    if content_range != f"bytes */{partial.stat().st_size}":
        partial.unlink()
        raise _BrokenError("the file has changed since the transfer began")


def _refuse_page(content_type: str) -> None:
    """Refuse a web page, which asks to sign in or says that the file is gone."""
    if content_type.lower().startswith("text/html"):
        raise _UselessError("a web page in place of the file, such as one to sign in")


def _copied(answer: HTTPResponse, stream: BinaryIO) -> Iterator[None]:
    """Write bytes as they arrive, so that none is lost where the transfer breaks; yield after each megabyte begun."""
    start = stream.tell()
    yielded = 0
    while arrived := answer.read1(_CHUNK):
        if stream.tell() == 0:
            _refuse_page("text/html" if _PAGE.match(arrived) else "")
        stream.write(arrived)
        while yielded * _CHUNK < stream.tell() - start:
            yielded += 1
            yield


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()
