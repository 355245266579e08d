"""Room in memory and on the disk: how much is left, and whether it can hold what comes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from slim import processes
from slim.errors import SlimError
from slim.progress import announce

_WORTH_SAYING = 100_000_000
"""Bytes from which on a need is announced."""


def check_room(
    what: str, *, disk: int = 0, memory: int = 0, folder: str | Path | None = None, fewer: str = "fewer images"
) -> None:
    """Announce what comes, where it is much, and stop where it cannot be held.

    Parameters
    ----------
    what
        What takes the room, in a few words.
    disk, memory
        Bytes: no more than what is needed at least, so that nothing is refused that would have worked.
    folder
        Where the files go. Without one, they stay in memory.
    fewer
        What takes less memory.

    Raises
    ------
    SlimError
        The disk or the memory cannot hold it.

    Examples
    --------
    >>> check_room("the maps", memory=10**18)
    Traceback (most recent call last):
    ...
    slim.errors.SlimError: The maps must fit into memory. Got 1000000000.0 GB for ... GB that are left. ...
    """
    disk, memory = (0, memory + disk) if folder is None else (disk if processes.first() else 0, memory)
    needs = []
    if disk and folder is not None:
        left = free_disk(folder)
        if disk > left:
            raise SlimError(
                f"{_capital(what)} must fit on the disk. Got {size_text(disk)} for {size_text(left)} that are left. "
                "Make room; the same command then continues."
            )
        needs.append(f"{size_text(disk)} of the {size_text(left)} left on the disk")
    free = free_memory()
    if memory and free is not None:
        if memory > free:
            raise SlimError(
                f"{_capital(what)} must fit into memory. Got {size_text(memory)} for {size_text(free)} that are left. "
                f"End other programs, or use {fewer}; the same command then continues."
            )
        needs.append(f"{size_text(memory)} of the {size_text(free)} left in memory")
    if max(disk, memory) >= _WORTH_SAYING:
        announce(f"  {what}: {', '.join(needs)}")


def free_disk(folder: str | Path) -> int:
    """Bytes that are left on the disk of a folder, which need not exist yet."""
    path = Path(folder).absolute()
    return shutil.disk_usage(next(one for one in (path, *path.parents) if one.exists())).free


def free_memory() -> int | None:
    """Free memory in bytes, within the limit of a container; None if the system does not report it."""
    free = [available for available in (_available_memory(), _container_memory()) if available is not None]
    return min(free, default=None)


def size_text(size: float) -> str:
    """A number of bytes in kB, MB or GB.

    Examples
    --------
    >>> size_text(1_230_000_000), size_text(4_200_000), size_text(900)
    ('1.2 GB', '4.2 MB', '0.9 kB')
    """
    unit, name = next(((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB")) if size >= unit), (1e3, "kB"))
    return f"{size / unit:.1f} {name}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _available_memory() -> int | None:
    """Available memory on Linux; elsewhere all installed memory."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        names = getattr(os, "sysconf_names", {})
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in names else None


def _container_memory() -> int | None:
    """Memory that a container may still use; None without a limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        return None if limit == "max" else int(limit) - int((folder / "memory.current").read_text())
    except OSError:
        return None
