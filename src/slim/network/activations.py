"""Activations that enter a cut, cached for all images of a table: the part before it runs once per image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from slim.errors import SettingsError
from slim.network.partial import Cut, Forward
from slim.room import free_memory, size_text


@dataclass(frozen=True, eq=False)
class Activations:
    """The activations that enter a cut, for every image of a table, on the CPU.

    Attributes
    ----------
    values
        (n, ...), in the network's own memory layout, so that a batch is read as it was written.
    dtype
        The type that the network computed them in.
    """

    values: Tensor
    dtype: torch.dtype

    def batch(self, index: Tensor, device: torch.device) -> Tensor:
        """The activations of some images, in the type that the network computed them in."""
        return self.values[index].to(device).to(self.dtype)


def cache_activations(
    cut: Cut, batches: Iterable[Tensor], n: int, *, dtype: torch.dtype | None = None, forward: Forward | None = None
) -> Activations:
    """Run the network up to the cut, once per image, and keep the activations that enter it.

    Parameters
    ----------
    cut
        Where to stop.
    batches
        Normalised images, (b, 3, size, size) each.
    n
        Number of images in all batches.
    dtype
        Type to keep the activations in; the network's own when None.
    forward
        Called instead of the network itself, for instance to run it in mixed precision.

    Raises
    ------
    SettingsError
        The activations overflow half precision.

    Examples
    --------
    >>> from torch import nn
    >>> from slim.network.partial import find_cut
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> cached = cache_activations(find_cut(net, "3", 8), [torch.rand(5, 3, 8, 8)], n=5)
    >>> cached.batch(torch.tensor([4, 0]), torch.device("cpu")).shape
    torch.Size([2, 4])
    """
    cached: Activations | None = None
    done = 0
    for images in batches:
        activations = cut.activations(images, forward)
        cached = cached or Activations(_allocated(activations, n, dtype), activations.dtype)
        cached.values[done : done + len(activations)] = activations.to("cpu")
        done += len(activations)
    assert cached is not None
    _check_range(cached)
    return cached


def _allocated(activations: Tensor, n: int, dtype: torch.dtype | None) -> Tensor:
    """An empty tensor for n images, with the same memory layout."""
    last = activations.ndim == 4 and activations.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last and not activations.is_contiguous() else torch.contiguous_format
    return torch.empty((n, *activations.shape[1:]), dtype=dtype or activations.dtype, memory_format=layout)


def _check_range(cached: Activations) -> None:
    """Refuse activations that overflowed half precision, which ends at 65,504."""
    if cached.values.dtype == torch.float16 != cached.dtype and not bool(torch.isfinite(cached.values).all()):
        raise SettingsError(
            "Activations must stay below 65,504 to be cached in half precision, the only one that fits into memory. "
            "Got larger ones. Train the whole network (--trainable all), or a later part (--trainable NAME)."
        )


def fitting_dtype(cut: Cut, n: int) -> torch.dtype | None:
    """The type in which the activations of n images take at most half of the free memory.

    Returns
    -------
    dtype or None
        None for the network's own; float16 if only half precision fits.

    Raises
    ------
    SettingsError
        Not even half precision fits; the message names the sizes.
    """
    free = free_memory()
    values = n * torch.Size(cut.shape).numel()
    if free is None or values * 4 <= free / 2:
        return None
    if values * 2 <= free / 2:
        return torch.float16
    raise SettingsError(
        f"The cached input of {cut.name}, for all {n:,} images, must fit into half of the free memory, "
        f"{size_text(free / 2)}. Got {size_text(2 * values)} in half precision. Train the whole network "
        "(--trainable all), a later part (--trainable NAME), or use fewer or smaller images."
    )
