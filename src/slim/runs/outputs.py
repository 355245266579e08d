"""What a stage wrote, and what has been damaged since: names, sizes and digests of its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from slim.files import file_digest, known_digest

MANIFEST = "manifest.json"

ANSWERS = "annotations*.db"
"""Files of answers, which nothing but their owner may throw away."""

_PASSING = (MANIFEST, "*.partial", "page.json", "*-wal", "*-shm")
"""Files that say nothing about a finished stage: its own manifest, the page's address, and SQLite's helpers."""

_BESIDE = (ANSWERS, "asked-about.json", "history.csv", "last.safetensors", "*.png")
"""Files beside a stage's record, which no later stage reads; they hold times, and what a stage resumes from."""


@dataclass(frozen=True)
class Output:
    """A file that a stage wrote.

    Attributes
    ----------
    bytes
        Its size.
    digest
        Of its content; see `slim.files.file_digest`.
    """

    bytes: int
    digest: str

    def fault(self, path: Path, *, read: bool) -> str | None:
        """What is wrong with the file now, in a few words; None where nothing is.

        Parameters
        ----------
        path
            The file.
        read
            Whether to compare its content. Otherwise its digest is compared only if this process knows it already.
        """
        if not path.is_file():
            return "is missing"
        size = path.stat().st_size
        if size != self.bytes:
            return f"has {size} bytes instead of {self.bytes}"
        digest = file_digest(path) if read else known_digest(path)
        return None if digest in (None, self.digest) else "has another content"


def written(folder: Path) -> dict[str, Output]:
    """The files in a stage's folder by their names relative to it, each read once.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "scores.npy").write_bytes(b"12345")
    >>> written(folder)
    {'scores.npy': Output(bytes=5, digest='5994471abb01112a')}
    """
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not _matches(path.name, _PASSING))
    return {path.relative_to(folder).as_posix(): Output(path.stat().st_size, file_digest(path)) for path in files}


def faults(folder: Path, outputs: Mapping[str, Output], *, read: bool) -> dict[str, str]:
    """What is wrong with the files of a stage, by their names; empty where all are as they were written.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "scores.npy").write_bytes(b"12345")
    >>> before = written(folder)
    >>> _ = (folder / "scores.npy").write_bytes(b"123")
    >>> faults(folder, before, read=False)
    {'scores.npy': 'has 3 bytes instead of 5'}
    """
    found = {name: output.fault(folder / name, read=read) for name, output in outputs.items()}
    return {name: fault for name, fault in found.items() if fault is not None}


def described(faults: Mapping[str, str]) -> str:
    """Faults in one line.

    Examples
    --------
    >>> described({"scores.npy": "is missing", "record.json": "has another content"})
    'scores.npy is missing, record.json has another content'
    >>> described({f"{i}.npy": "is missing" for i in range(7)})
    '0.npy is missing, 1.npy is missing, 2.npy is missing and 4 more'
    """
    texts = [f"{name} {fault}" for name, fault in faults.items()]
    return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")


def is_of_record(name: str) -> bool:
    """Whether a file belongs to the record that later stages read."""
    return not _matches(Path(name).name, _BESIDE)


def lost_answers(folder: Path, outputs: Mapping[str, Output]) -> str | None:
    """Name of a file of answers whose content is in no file of answers any more; None where all are there."""
    present = {file_digest(path) for path in folder.glob(ANSWERS)}  # by content, since an archived file is renamed
    return next(
        (name for name, output in outputs.items() if fnmatch(name, ANSWERS) and output.digest not in present), None
    )


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
