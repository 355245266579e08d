"""A copy of a benchmark: its files are found where they are published, and archives are unpacked into the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import time

from slim.data.columns import listed
from slim.data.trees import is_shown
from slim.errors import DataError, first_line
from slim.files import cache_folder, made_once
from slim.progress import track

_DEEPEST = 3  # folders that publishers put around a benchmark
_TAR = (".tar", ".tar.gz", ".tgz")
_DAY = 24 * 60 * 60  # seconds


@dataclass(frozen=True)
class Copy:
    """A folder with a benchmark as published, unpacked or in archives; nothing is written there.

    Parameters
    ----------
    title
        What people call the benchmark.
    root
        The folder.
    page
        Where the benchmark is published.
    """

    title: str
    root: Path
    page: str

    def need(self, *names: str, archives: Sequence[str] = ()) -> Path:
        """What `find` finds.

        Raises
        ------
        DataError
            Nothing of the kind is there.
        """
        found = self.find(*names, archives=archives)
        if found is None:
            within = f", unpacked or in {' or '.join(archives)}" if archives else ""
            held = sorted(entry.name for entry in self.root.iterdir()) if self.root.is_dir() else []
            raise DataError(
                f"{self.title} must have {' or '.join(names)}{within}. Got {listed(held)} in {self.root}. "
                f"Name the folder that holds it, or get it from {self.page}."
            )
        return found

    def find(self, *names: str, archives: Sequence[str] = ()) -> Path | None:
        """The file or folder with one of these names at most three folders deep, also in an archive; None without.

        Parameters
        ----------
        names
            Of the file or folder, the preferred one first.
        archives
            Names of archives to look into if it is not in the folder itself.
        """
        for name in names:
            if (found := _below(self.root, name)) is not None:
                return found
        packed = (path for archive in archives if (path := _below(self.root, archive)) is not None)
        for path in packed:
            unpacked = _unpacked(path)
            for name in names:
                if (found := _below(unpacked, name)) is not None:
                    return found
        return None


def _below(root: Path, name: str) -> Path | None:
    """The file or folder with this name: the root itself, or the least deep below it, not in hidden folders."""
    if root.name == name:
        return root
    level = [str(root)] if root.is_dir() else []
    for _ in range(_DEEPEST + 1):
        deeper: list[str] = []
        for folder in level:
            with os.scandir(folder) as entries:
                held = list(entries)
            found = next((entry.path for entry in held if entry.name == name), None)
            if found is not None:
                return Path(found)
            deeper += sorted(entry.path for entry in held if is_shown(entry.name) and entry.is_dir())
        level = deeper
    return None


def _unpacked(archive: Path) -> Path:
    """The folder of the cache that an archive is unpacked into, once for each version of it."""
    state = archive.stat()
    version = f"{archive.absolute()} {state.st_size} {state.st_mtime_ns}"
    folder = cache_folder() / "unpacked" / f"{archive.name}-{hashlib.sha256(version.encode()).hexdigest()[:8]}"
    if not folder.is_dir():
        _remove_killed(folder)
        with made_once(folder) as partial:
            partial.mkdir()
            _unpack(archive, partial)
            if sys.platform != "win32":
                os.sync()  # waits for all at once, and there may be ten thousand files
    return folder


def _remove_killed(folder: Path) -> None:
    """Remove what killed processes have left of the same archive: what nobody has added to for a day."""
    for partial in folder.parent.glob(f"{folder.name}.*.partial"):
        if partial.stat().st_mtime < time() - _DAY:
            shutil.rmtree(partial, ignore_errors=True)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive; what would land outside the folder is refused."""
    import tarfile
    import zipfile
    import zlib

    what = f"unpacking {archive.name} into {cache_folder()}"
    try:
        if archive.name.endswith(_TAR):
            with tarfile.open(archive) as tar:
                for member in track(tar, what):
                    tar.extract(member, folder, filter="data")
        else:
            with zipfile.ZipFile(archive) as packed:
                for name in track(packed.namelist(), what):
                    packed.extract(name, folder)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(
            f"{archive} must be a complete archive. Got: {first_line(error)}. Download it again."
        ) from error
