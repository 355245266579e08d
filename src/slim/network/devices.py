"""Where a network runs, and in which floating-point precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Literal

import torch
from torch import nn

from slim.errors import SettingsError
from slim.network.choices import Device, Precision


def resolve_device(device: Device) -> torch.device:
    """The device that ``"auto"`` means on this machine: a GPU if PyTorch sees one, else the CPU.

    Raises
    ------
    SettingsError
        `device` is "cuda", and PyTorch sees no GPU.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise SettingsError("device cuda must be a GPU that PyTorch sees. Got none. Use --device cpu or auto.")
    return torch.device("cuda" if available and device != "cpu" else "cpu")


def resolve_precision(precision: Precision, device: torch.device) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    """The precision that ``"auto"`` means on a device: bfloat16 if the hardware supports it, else float32.

    Hardware without bfloat16 instructions emulates them, a CPU at a twentieth of the speed of float32; a GPU then
    computes in float16.

    Examples
    --------
    >>> resolve_precision("32-true", torch.device("cpu"))
    '32-true'
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "bf16-mixed"
    return "32-true"


def device_of(module: nn.Module) -> torch.device:
    """The device of a network's parameters, or else of its buffers; the CPU where it has neither.

    Examples
    --------
    >>> device_of(nn.Flatten())
    device(type='cpu')
    """
    return next((values.device for values in chain(module.parameters(), module.buffers())), torch.device("cpu"))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Switch off within the block what its caller may have switched on: autocast, inference mode, other defaults.

    Examples
    --------
    >>> with torch.inference_mode(), torch.autocast("cpu"), undisturbed():
    ...     torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
    (False, False)
    """
    default = torch.get_default_dtype()
    with ExitStack() as block:
        block.callback(torch.set_default_dtype, default)
        torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":
            block.enter_context(torch.device("cpu"))
        if torch.is_inference_mode_enabled():  # else gradients would be switched on
            block.enter_context(torch.inference_mode(False))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                block.enter_context(torch.autocast(device, enabled=False))
        yield
