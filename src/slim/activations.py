"""What enters a cut, kept for every image of a table, so that the part before it runs once an image."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from slim.errors import SettingsError
from slim.frozen import Cut, Forward


@dataclass(frozen=True, eq=False)
class Activations:
    """What enters the cut for every image of a table, on the CPU.

    Attributes
    ----------
    values
        (n, ...), laid out in memory as the network gave them: a batch of them is read as it was written.
    dtype
        In which the network gave them.
    """

    values: Tensor
    dtype: torch.dtype

    def batch(self, index: Tensor, device: torch.device) -> Tensor:
        """Those of some images, as the network gave them."""
        return self.values[index].to(device).to(self.dtype)


def keep_activations(
    cut: Cut, batches: Iterable[Tensor], n: int, *, dtype: torch.dtype | None = None, forward: Forward | None = None
) -> Activations:
    """Run the network up to the cut, once for each image, and keep what comes there.

    Parameters
    ----------
    cut
        Where to stop.
    batches
        Normalised images, (b, 3, size, size) each.
    n
        How many images there are in all.
    dtype
        In which to keep them; as they come when None.
    forward
        How to call the network, where not directly.

    Examples
    --------
    >>> from torch import nn
    >>> from slim.frozen import find_cut
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> kept = keep_activations(find_cut(net, "3", 8), [torch.rand(5, 3, 8, 8)], n=5)
    >>> kept.batch(torch.tensor([4, 0]), torch.device("cpu")).shape
    torch.Size([2, 4])
    """
    kept: Activations | None = None
    done = 0
    for images in batches:
        activations = cut.activations(images, forward)
        kept = kept or Activations(_room(activations, n, dtype), activations.dtype)
        kept.values[done : done + len(activations)] = activations.to("cpu")
        done += len(activations)
    assert kept is not None
    _check_range(kept)
    return kept


def _room(activations: Tensor, n: int, dtype: torch.dtype | None) -> Tensor:
    """Memory for n of them, laid out alike."""
    last = activations.ndim == 4 and activations.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last and not activations.is_contiguous() else torch.contiguous_format
    return torch.empty((n, *activations.shape[1:]), dtype=dtype or activations.dtype, memory_format=layout)


def _check_range(kept: Activations) -> None:
    """Half precision ends at 65,504."""
    if kept.values.dtype == torch.float16 != kept.dtype and not bool(torch.isfinite(kept.values).all()):
        raise SettingsError(
            "Activations must stay below 65,504 to be kept in half precision, the only one that fits into memory. "
            "Got larger ones. Train all (--trainable all), or start at a later submodule (--trainable NAME)."
        )


def fitting_dtype(cut: Cut, n: int) -> torch.dtype | None:
    """In which precision the activations of n images take at most half of the free memory.

    Returns
    -------
    dtype or None
        None = as they come; float16 where only that fits.

    Raises
    ------
    SettingsError
        Neither fits; the message names the gigabytes.
    """
    free = _free_memory()
    values = n * torch.Size(cut.shape).numel()
    if free is None or values * 4 <= free / 2:
        return None
    if values * 2 <= free / 2:
        return torch.float16
    raise SettingsError(
        f"What enters {cut.name} is kept for all {n:,} images and must fit into half of the free memory, "
        f"{free / 2e9:.1f} GB. Got {values * 2e-9:.1f} GB in half precision. "
        "Train all (--trainable all), start at a later submodule (--trainable NAME), or use fewer or smaller images."
    )


def _free_memory() -> int | None:
    """Bytes that can still be used, or None where the system does not say; within a container, its own."""
    free = [available for available in (_available_memory(), _container_memory()) if available is not None]
    return min(free, default=None)


def _available_memory() -> int | None:
    """What Linux calls available; elsewhere all memory that is installed."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        names = getattr(os, "sysconf_names", {})
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in names else None


def _container_memory() -> int | None:
    """What a container may still use; None without a limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        return None if limit == "max" else int(limit) - int((folder / "memory.current").read_text())
    except OSError:
        return None
