"""Networks whose outputs mean logits of classes without being a tensor of them, as modules that return one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from slim.errors import ModelError
from slim.network.class_names import distinct_names
from slim.network.devices import device_of
from slim.network.sharing import shared_copy
from slim.network.tracing import TRACED, returned

# What autograd calls the steps that only rearrange a tensor.
_REARRANGING = ("View", "Squeeze", "Reshape", "Select", "Slice", "Alias", "Copy", "Clone")
_SEVERAL = (
    "several labels per image, SLIM cannot compare them: make a network of two classes out of the label to examine."
)


class LogitsOf(nn.Module):
    """A network that returns an object with ``logits``, as those of transformers do, as one that returns the logits.

    Parameters
    ----------
    model
        The network.

    Examples
    --------
    >>> from collections import namedtuple
    >>> class Own(nn.Linear):
    ...     def forward(self, x): return namedtuple("Output", "logits")(super().forward(x))
    >>> LogitsOf(Own(3, 2))(torch.zeros(1, 3)).shape
    torch.Size([1, 2])
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """The logits."""
        logits = _logits(self.model(images))
        assert logits is not None  # `adapted` has seen them
        return logits


class TwoLogits(nn.Module):
    """A network of a single logit, as one of two classes with the same probabilities.

    Each class gets half of the logit, the first with the opposite sign, so that Grad-CAM shows what speaks for either.

    Parameters
    ----------
    model
        Returns (b, 1) or (b,) logits of the second class.

    Examples
    --------
    >>> TwoLogits(nn.Flatten(0))(torch.tensor([[3.0]])).tolist()
    [[-1.5, 1.5]]
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """(b, 2) logits."""
        half = self.model(images).reshape(-1, 1) / 2
        return torch.cat([-half, half], 1)


def adapted(module: nn.Module, image_size: int) -> nn.Module:
    """A network as one that returns logits of classes, if its outputs mean such logits; else the same network.

    Parameters
    ----------
    module
        Returns logits; or an object or mapping with ``logits``; or a single logit, of the second of two classes.
    image_size
        Side of the square input.

    Raises
    ------
    ModelError
        It is made for several labels per image, or returns probabilities.
    """
    kind = getattr(config_of(module), "problem_type", None)
    if kind == "multi_label_classification":
        raise ModelError(
            f"The network must choose one class per image. Got {kind} in its config. If it predicts {_SEVERAL}"
        )
    output = returned(module, image_size, differentiable=True)
    logits = _logits(output)
    if not isinstance(output, Tensor) and logits is not None:
        module, output = LogitsOf(module), logits
    if not isinstance(output, Tensor):
        return module
    single = output.numel() == len(output) == TRACED and output.ndim < 3
    _check_activation(output, single=single)
    return _of_two_classes(module, output, image_size) if single else module


def own_names(module: nn.Module) -> tuple[str, ...] | None:
    """The classes in the order of the outputs, as the config of a network of transformers names them; None elsewhere.

    Examples
    --------
    >>> own_names(nn.Linear(3, 2)) is None
    True
    """
    names: Mapping[Any, str] | None = getattr(config_of(module), "id2label", None)
    if not isinstance(names, Mapping) or not names:
        return None
    ordered = distinct_names([str(names[key]) for key in sorted(names, key=int)])
    return None if ordered == tuple(f"LABEL_{k}" for k in range(len(ordered))) else ordered


def config_of(module: nn.Module) -> Any:
    """The config of a network of transformers; other networks may have one of another kind, or None."""
    return getattr(module.model if isinstance(module, LogitsOf) else module, "config", None)


def _logits(output: object) -> Tensor | None:
    """The logits in what a network returned, or None."""
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    return logits if isinstance(logits, Tensor) else None


def _check_activation(output: Tensor, *, single: bool) -> None:
    """Refuse outputs that went through a sigmoid or softmax last, as autograd has recorded."""
    step: Any = output.grad_fn
    while step is not None and any(word in step.name() for word in _REARRANGING):
        step = step.next_functions[0][0]
    if step is None or not step.name().startswith(("Sigmoid", "Softmax")):
        return
    several = "" if single or step.name().startswith("Softmax") else f" If they are of {_SEVERAL}"
    raise ModelError(
        "The network must return logits. Got probabilities. Leave out its last activation (softmax or sigmoid)."
        f"{several}"
    )


def _of_two_classes(module: nn.Module, single: Tensor, image_size: int) -> nn.Module:
    """The network with two outputs: of its last linear layer if that gives the logit, so that it can be retrained."""
    wanted = TwoLogits(nn.Flatten(0))(single)
    for name, layer in reversed(list(module.named_modules())):
        if isinstance(layer, nn.Linear) and layer.out_features == 1:
            try:
                doubled = shared_copy(module, name, _doubled(layer))
                output = returned(doubled, image_size)
            except (ModelError, IndexError):
                continue
            if isinstance(output, Tensor) and output.shape == wanted.shape and torch.allclose(output, wanted):
                return doubled
    return TwoLogits(module)


def _doubled(layer: nn.Linear) -> nn.Linear:
    """A linear layer of one output as one of two; see `TwoLogits`."""
    new = nn.Linear(layer.in_features, 2, device=device_of(layer))
    with torch.no_grad():
        new.weight.copy_(torch.cat([-layer.weight, layer.weight]) / 2)
        new.bias.copy_(torch.zeros(2) if layer.bias is None else torch.cat([-layer.bias, layer.bias]) / 2)
    return new.requires_grad_(layer.weight.requires_grad).train(layer.training)
