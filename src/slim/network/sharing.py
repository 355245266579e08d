"""Copies of a network: with parameters of its own, or sharing them but for a part, or without compilation."""

from __future__ import annotations

from copy import deepcopy

from torch import nn
from torch._dynamo import OptimizedModule

from slim.errors import ModelError, first_line
from slim.network.devices import undisturbed


def independent_copy(module: nn.Module) -> nn.Module:
    """A copy with parameters of its own, undisturbed by the caller's context.

    Raises
    ------
    ModelError
        The module holds something that cannot be copied, such as a lock or an open file.

    Examples
    --------
    >>> net = nn.Linear(2, 2)
    >>> independent_copy(net).weight is net.weight
    False
    """
    try:
        with undisturbed():
            return deepcopy(module)
    except Exception as error:  # each class may refuse in its own way
        reason = first_line(error)
        raise ModelError(
            f"The network must be one that can be copied (copy.deepcopy). Got: {reason}. "
            "Remove what cannot, such as a lock, an open file, or tensors kept from a forward pass."
        ) from error


def shared_copy(module: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """A module that shares every submodule with another one, except for the one that is replaced.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> copy = shared_copy(net, "1", nn.Identity())
    >>> copy[0] is net[0], copy[1], net[1]
    (True, Identity(), Linear(in_features=2, out_features=2, bias=True))
    """
    first, _, rest = name.partition(".")
    copy = _copy(module)
    copy._modules[first] = shared_copy(module.get_submodule(first), rest, new) if rest else new
    return copy


def uncompiled(module: nn.Module) -> nn.Module:
    """The module without ``torch.compile``, whose code ignores hooks, here and in every submodule.

    The module itself where nothing is compiled, else a copy that shares the parameters.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 2))
    >>> import torch
    >>> uncompiled(torch.compile(net)) is net, uncompiled(net) is net
    (True, True)
    """
    while isinstance(module, OptimizedModule):
        module = module._orig_mod
    if module._compiled_call_impl is not None:
        module = _copy(module)
        module._compiled_call_impl = None
    for name, child in module.named_children():
        plain = uncompiled(child)
        if plain is not child:
            module = shared_copy(module, name, plain)
    return module


def _copy(module: nn.Module) -> nn.Module:
    """The same module in another object, with a list of submodules of its own."""
    copy = object.__new__(type(module))  # the classes of torch.fx make new classes in theirs
    copy.__dict__ = {**module.__dict__, "_modules": dict(module._modules)}
    return copy
