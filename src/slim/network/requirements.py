"""What a network of one's own must be, before it runs for the first time, and what its outputs must be."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from slim.errors import ModelError


def check_network(module: nn.Module) -> None:
    """Refuse a network whose layers cannot be looked at, or that does not compute in float32.

    Raises
    ------
    ModelError
        It is no module, is scripted, traced or quantised, or has parameters or buffers of another type, or NaN in them.

    Examples
    --------
    >>> check_network(nn.Linear(2, 2).half())
    Traceback (most recent call last):
    ...
    slim.errors.ModelError: The network must compute in float32. Got weight in float16. Pass module.float().
    """
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"The network must be a PyTorch module (nn.Module). Got {_kind(module)}. "
            "Pass the module itself; slim.build makes one from a timm name, and slim.restore from a checkpoint."
        )
    if any(isinstance(child, torch.jit.ScriptModule) for child in module.modules()):
        raise ModelError(
            "The network must be a plain PyTorch module, whose layers can be inspected. Got a TorchScript module. "
            "Pass the module that it was scripted or traced from."
        )
    state = {**module.state_dict(), **dict(module.named_parameters())}
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.is_quantized:
            raise ModelError(
                f"The network must keep its state in tensors of floating-point numbers. Got {name}, which is quantised "
                "or no tensor. Pass the network as it was before quantisation."
            )
    for name, value in state.items():
        if value.is_floating_point() and value.dtype != torch.float32:
            kind = str(value.dtype).removeprefix("torch.")
            raise ModelError(f"The network must compute in float32. Got {name} in {kind}. Pass module.float().")
        if not is_lazy(value) and not value.is_meta and value.isnan().any():
            raise ModelError(
                f"The network must hold numbers. Got NaN in {name}. "
                "Take a checkpoint from before its training diverged."
            )


def _kind(value: object) -> str:
    """What a value is, for a message."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def check_input(image_size: int, mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuse an input that no network of square RGB images in [0, 1] has.

    Raises
    ------
    ModelError
        The size is not a whole number, or the mean or the standard deviation is not three numbers in range.

    Examples
    --------
    >>> check_input(224, (123.7, 116.3, 103.5), (58.4, 57.1, 57.4))
    Traceback (most recent call last):
    ...
    slim.errors.ModelError: mean must be three numbers from 0 to 1, one per channel. Got 123.7, 116.3, 103.5. ...
    """
    if not isinstance(image_size, Integral) or isinstance(image_size, bool) or image_size < 1:
        raise ModelError(
            f"image_size must be one whole number of pixels, the side of a square. Got {image_size!r}. Try 224."
        )
    rules = {"mean": (mean, "from 0 to 1", 0.0), "std": (std, "above 0 and at most 1", 1e-12)}
    for name, (values, must, least) in rules.items():
        numbers = _numbers(values)
        if len(numbers) != 3 or not all(isfinite(number) and least <= number <= 1 for number in numbers):
            got = ", ".join(f"{number:g}" for number in numbers) or repr(values)
            raise ModelError(
                f"{name} must be three numbers {must}, one per channel. Got {got}. "
                "Images are in [0, 1]: divide by 255 what was meant for bytes."
            )


def _numbers(values: object) -> list[float]:
    """The numbers of a sequence, array or tensor; none where it holds anything else."""
    try:
        return [float(value) for value in values]  # type: ignore[attr-defined]  # else a TypeError
    except (TypeError, ValueError):
        return []


def check_logits(logits: object, last: Sequence[nn.Module] = ()) -> Tensor:
    """The output of a network, which must be logits of at least two classes.

    Parameters
    ----------
    logits
        What the network returned.
    last
        The submodules that returned the same tensor.

    Raises
    ------
    ModelError
        It is something else: several outputs, or probabilities.

    Examples
    --------
    >>> check_logits((torch.zeros(2, 2), torch.zeros(2, 5)))
    Traceback (most recent call last):
    ...
    slim.errors.ModelError: The network must return logits (images, classes). Got tuple. Wrap it in a module that does.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(
            f"The network must return logits (images, classes). Got {shape}. Wrap it in a module that does."
        )
    if any(isinstance(child, nn.Sigmoid | nn.Softmax) for child in last) or _are_probabilities(logits):
        raise ModelError(
            "The network must return logits. Got probabilities. Leave out its last activation (softmax or sigmoid)."
        )
    return logits


def _are_probabilities(values: Tensor) -> bool:
    """Whether each row is positive and sums to 1."""
    return not values.is_meta and bool((values >= 0).all() and ((values.sum(1) - 1).abs() < 1e-4).all())
