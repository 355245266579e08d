"""Checkpoints: read tensors from any common file format, without running code from it, and load them into a model."""

from __future__ import annotations

import os
import pickle
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast
from warnings import warn

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from slim.errors import ModelError, SlimWarning, first_line
from slim.files import share, sync
from slim.network.class_names import names_in_order
from slim.network.stand_ins import refuse_stand_in

StateDict = dict[str, Tensor]

# Keys under which training scripts store a state_dict: PyTorch's tutorials, Lightning, WILDS.
_WRAPPERS = ("model_state_dict", "state_dict", "algorithm", "model")
# Keys of the classes' names beside it, as lists or numbered either way.
_NAMES = ("class_names", "classes", "class_to_idx", "idx_to_class")
# Prefixes that DataParallel, WILDS and Lightning add to every name.
_PREFIXES = ("module.", "model.")
# Parts of names, anywhere, that torch.compile, FSDP and activation checkpointing add.
_INSERTED = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")


def read_state_dict(path: str | Path) -> StateDict:
    """Read the tensors of a checkpoint by name.

    Reads safetensors, a bare ``state_dict``, ``{"model_state_dict": ...}``, ``{"state_dict": ...}``, WILDS'
    ``{"algorithm": ...}``, or any other key where nothing else holds tensors, recognised by their content. Drops what
    compilation inserts into names (``_orig_mod.``) and the prefixes ``module.`` and ``model.`` if every name has them.

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
    return read_checkpoint(path)[0]


def read_checkpoint(path: str | Path) -> tuple[StateDict, tuple[str, ...] | None]:
    """The tensors of a checkpoint, see `read_state_dict`, and the names of its classes in the order of its outputs.

    The names are None where the file has none beside the tensors.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "model.pt"
    >>> torch.save({"state_dict": {"fc.weight": torch.zeros(2, 3)}, "class_to_idx": {"dog": 1, "cat": 0}}, file)
    >>> read_checkpoint(file)[1]
    ('cat', 'dog')
    """
    content = _read(Path(path))
    tensors = _unwrapped(content, Path(path))
    named = _class_names(content) if isinstance(content, Mapping) else None
    return dict(zip(_without_prefixes(tensors), tensors.values(), strict=True)), named


def _class_names(content: Mapping[Any, object]) -> tuple[str, ...] | None:
    """The names of the classes in the order of the outputs, where they are beside the tensors."""
    found = (names_in_order(content.get(key)) for key in _NAMES)
    return next((names for names in found if names is not None), None)


def read_tensors(path: Path) -> StateDict:
    """Read the tensors of a checkpoint under the names that they have in the file; see `read_state_dict`."""
    return _unwrapped(_read(path), path)


def _read(path: Path) -> object:
    """The content of the file: a mapping of tensors, possibly wrapped."""
    if not path.is_file():
        raise ModelError(f"A checkpoint must be a file. Got {path}, which does not exist. Check the path.")
    with path.open("rb") as stream:
        start = stream.read(512)
    refuse_stand_in(path, start)
    if start[8:9] == b"{":  # after the length of the header in eight bytes
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ModelError(f"{path} must be a safetensors file. Got: {first_line(error)}. Save it again.") from error
    try:
        with path.open("rb") as stream:  # of a path, PyTorch would look at the suffix
            return torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not start.startswith((b"PK", b"\x80")):  # an archive, or the first byte of a pickle
            raise ModelError(
                f"{path} must be a PyTorch checkpoint or a safetensors file. Got a file of another kind. "
                "Name the file that torch.save wrote."
            ) from error
        raise ModelError(
            f"A checkpoint must hold tensors only, since code in a file is never run. Got other objects in {path}. "
            "Save it again as torch.save(model.state_dict(), path)."
        ) from error
    except Exception as error:  # on a damaged file, PyTorch's reader raises nearly anything
        reason = first_line(error)
        raise ModelError(
            f"{path} must be a PyTorch checkpoint or a safetensors file. Got one that PyTorch cannot read: {reason}. "
            "Save it again."
        ) from error


def _is_state_dict(value: object) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    return all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())


def _leads_to_tensors(value: object) -> bool:
    """Whether a value is a state_dict, or a mapping that holds one at some depth."""
    return _is_state_dict(value) or (isinstance(value, Mapping) and any(map(_leads_to_tensors, value.values())))


def _unwrapped(value: object, path: Path) -> StateDict:
    """The state_dict, without the containers that a training script put around it."""
    while isinstance(value, Mapping) and not _is_state_dict(value):
        inner = [value[key] for key in _WRAPPERS if isinstance(value.get(key), Mapping)]
        others = [one for one in value.values() if isinstance(one, Mapping) and _leads_to_tensors(one)]
        if not inner and len(others) != 1:
            break
        value = (inner or others)[0]
    if not _is_state_dict(value):
        content = _listed(value) if isinstance(value, Mapping) else type(value).__name__
        raise ModelError(
            "A checkpoint must hold a state_dict: bare, as the only one, or under one of "
            f"{', '.join(_WRAPPERS)}. "
            f"Got {content or 'nothing'} in {path}. Save model.state_dict()."
        )
    return dict(cast("Mapping[str, Tensor]", value))


def _without_prefixes(names: Iterable[str]) -> list[str]:
    """The same names, without the prefixes that all share and without what compilation inserts."""
    names = list(names)
    for part in _INSERTED:
        names = [name.replace(part, "") for name in names]
    prefix = next((p for p in _PREFIXES if names and all(name.startswith(p) for name in names)), None)
    return names if prefix is None else _without_prefixes(name.removeprefix(prefix) for name in names)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file so that it is either the old one or the whole new one, never a part.

    Raises
    ------
    OSError
        The disk is full, for instance.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> write_tensors(file, {"fc.weight": torch.zeros(2, 3)})
    >>> list(read_state_dict(file))
    ['fc.weight']
    """
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    partial.touch()
    usual = partial.stat().st_mode  # which safetensors changes
    own = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    try:
        save_file(own, partial, metadata)  # copies, since the format has no tensors that share memory
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    share(partial, usual)
    sync(partial)
    partial.replace(path)


def load_tensors(
    module: nn.Module,
    tensors: StateDict,
    *,
    head: str | None = None,
    source: str = "checkpoint",
    known: bool = False,
) -> None:
    """Copy the tensors of a checkpoint into a module, either all or none.

    Names must match, whatever prefix all tensors of the network have in the file, such as ``backbone.``. If few do,
    tensors are matched in order, provided that every shape and the last part of every name (``weight``,
    ``running_mean``, ...) agree, and that the names were not sorted: the same network, written by another author.

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
    known
        Whether the file is known to hold this network, so that a match in order needs no warning.

    Raises
    ------
    ModelError
        Names, shapes or types do not match, tensors hold NaN, or there are several such networks in the file; the
        message names the tensors.

    Warns
    -----
    SlimWarning
        Tensors are matched in order; or beside the network, under its prefix, there are other tensors, such as a
        loss's, which are left out.

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
    tensors, beside = _under_own_names(own, tensors, source, known)
    kept = _head_to_keep(own, tensors, head)
    wanted = {name: tensor for name, tensor in own.items() if name not in kept}
    offered = {name: tensor for name, tensor in tensors.items() if name not in kept}
    fitting = {name: tensor for name, tensor in offered.items() if name not in beside}
    problem = _mismatch(wanted, fitting) and _mismatch(wanted, offered)
    empty = [name for name in wanted if name in fitting and fitting[name].is_meta]
    if empty:
        raise ModelError(f"The {source} must hold numbers. Got none (meta) in {_listed(empty)}. Save the loaded model.")
    broken = [name for name in wanted if name in fitting and _is_broken(fitting[name], own[name])]
    if broken:
        kind = "NaN" if any(fitting[name].isnan().any() for name in broken) else "infinity"
        raise ModelError(
            f"The {source} must hold numbers. Got {kind} in {_listed(broken)}. "
            "Take one from before the training diverged."
        )
    if problem:
        raise ModelError(f"The {source} must fit the model. Got {problem}. {_hint(wanted, fitting)}")
    if beside:
        warn(
            f"The {source} holds tensors that are not part of the network and are left out: {_listed(sorted(beside))}.",
            SlimWarning,
            stacklevel=3,
        )
    module.load_state_dict({**own, **{name: fitting[name] for name in wanted if name in fitting}})


def _is_broken(tensor: Tensor, own: Tensor) -> bool:
    """Whether a tensor holds NaN, or infinity where the network has none, as a mask of attention has."""
    return not bool(tensor.isfinite().all()) and (bool(tensor.isnan().any()) or bool(own.isfinite().all()))


def _head_to_keep(own: StateDict, tensors: StateDict, head: str | None) -> set[str]:
    """Names of the tensors of the head, if the checkpoint has another number of classes."""
    names = {f"{head}.weight", f"{head}.bias"} if head else set()
    fits = all(name in tensors and tensors[name].shape == own[name].shape for name in names & own.keys())
    return set() if fits else names


def _under_own_names(own: StateDict, tensors: StateDict, source: str, known: bool) -> tuple[StateDict, set[str]]:
    """The tensors under the names of the module, whatever prefix they have, and the names of those without the prefix.

    In order where few names match.
    """
    bare = dict(zip(_without_prefixes(own), own, strict=True))
    counts = Counter(name[:start] for name in tensors for start in _starts(name) if name[start:] in bare)
    most = max(counts.values(), default=0)
    if not most or (not counts[""] and most < len(own) / 2):
        in_order = _by_order(own, tensors)
        if own and in_order is not tensors and not known:
            warn(
                f"The names in the {source} are not those of the network: its tensors were taken in order, since all "
                "shapes agree. Check the accuracy.",
                SlimWarning,
                stacklevel=4,
            )
        return in_order, set()
    prefixes = sorted(prefix for prefix, count in counts.items() if count == most)
    if prefixes[0] and len(prefixes) > 1:
        raise ModelError(
            f"The {source} must hold one network that fits. Got {len(prefixes)}, under {_listed(prefixes)}. "
            "Save the state_dict of one of them."
        )
    inside = {name.removeprefix(prefixes[0]): name for name in tensors if name.startswith(prefixes[0])}
    outside = {name: name for name in tensors if not name.startswith(prefixes[0])}
    found = {bare.get(name, name): tensors[old] for name, old in {**outside, **inside}.items()}
    return found, outside.keys() - bare.keys()


def _starts(name: str) -> list[int]:
    """Where the parts of a name start."""
    return [0, *(place + 1 for place, letter in enumerate(name) if letter == ".")]


def _by_order(own: StateDict, tensors: StateDict) -> StateDict:
    """The tensors under the names of the module, matched in order; unchanged if the lists differ or are sorted."""

    def parts(state: StateDict) -> list[tuple[str, Tensor]]:
        counters = "num_batches_tracked"  # older files lack them, and they do not affect the output
        return [(name, tensor) for name, tensor in state.items() if not name.endswith(counters)]

    mine, theirs = parts(own), parts(tensors)
    same_list = len(mine) == len(theirs) and all(
        a.rpartition(".")[2] == b.rpartition(".")[2] and (x.shape == y.shape or i >= len(mine) - 2)
        for i, ((a, x), (b, y)) in enumerate(zip(mine, theirs, strict=True))
    )
    if not same_list or _are_sorted([name for name, _ in theirs]):
        return tensors
    return {name: tensor for (name, _), (_, tensor) in zip(mine, theirs, strict=True)}


def _are_sorted(names: list[str]) -> bool:
    """Whether names seem sorted as text, which loses the order of a network: 10 before 2, or a before b."""
    numbers: dict[str, int] = {}
    for name in names:
        for digits in re.finditer(r"\d+", name):
            before = name[: digits.start()]
            if int(digits[0]) < numbers.get(before, 0):
                return True
            numbers[before] = int(digits[0])
    kinds = {re.sub(r"\d+", "", name.rpartition(".")[0]) for name in names}
    return len(kinds) > 1 and names == sorted(names)


def _hint(wanted: StateDict, offered: StateDict) -> str:
    """What to do about a checkpoint that does not fit."""
    reshaped = [name for name in wanted if name in offered and wanted[name].shape != offered[name].shape]
    others = wanted.keys() != offered.keys()
    if others and not _mismatch(wanted, {name: offered[name] for name in wanted if name in offered}):
        return "Leave them out if they are not the network's, or name the architecture that has them (--arch)."
    if (
        reshaped
        and not others
        and len(reshaped) <= 2
        and all(wanted[n].shape[1:] == offered[n].shape[1:] for n in reshaped)
    ):
        return f"It has {len(offered[reshaped[0]])} classes: give those that it was trained on."
    return "Name the architecture that it was trained with (--arch)."


def _mismatch(wanted: StateDict, offered: StateDict) -> str:
    """A description of the tensors that do not match; empty if all do."""

    def size(tensor: Tensor) -> str:
        return "x".join(map(str, tensor.shape)) or "scalar"

    missing = [n for n in wanted.keys() - offered.keys() if not n.endswith("num_batches_tracked")]
    shared = wanted.keys() & offered.keys()
    reshaped = [n for n in shared if wanted[n].shape != offered[n].shape]
    retyped = [n for n in shared if wanted[n].is_floating_point() and not offered[n].is_floating_point()]
    problems = {
        "no tensor for": missing,
        "unknown tensors": offered.keys() - wanted.keys(),
        "another shape for": [f"{n} ({size(offered[n])} for {size(wanted[n])})" for n in reshaped],
        "no floating-point numbers for": retyped,
    }
    return "; ".join(f"{text} {_listed(sorted(names))}" for text, names in problems.items() if names)


def _listed(names: Iterable[object]) -> str:
    """The first three names, and how many more there are."""
    texts = list(map(str, names))
    return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")
