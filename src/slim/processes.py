"""The processes that do one command together, as torchrun starts them; this one alone where nothing connected them.

Only the command line connects processes. Functions called in somebody's own distributed program work alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from slim.errors import SlimError

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

_WAIT = timedelta(days=7)
"""How long a process waits for the others: a person may be answering in the first."""

_number, _count = 0, 1


def started() -> int:
    """The number of processes that torchrun has started for this command; 1 without it.

    Examples
    --------
    >>> started()
    1
    """
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


@contextmanager
def connected() -> Iterator[None]:
    """Work with the other processes within the block; each takes a GPU of its own, if there are any."""
    global _number, _count
    if started() == 1:
        yield
        return
    import torch
    from torch import distributed

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_WAIT)
    _number, _count = distributed.get_rank(), distributed.get_world_size()
    try:
        yield
    finally:
        _number, _count = 0, 1
        distributed.destroy_process_group()


def number() -> int:
    """The number of this process, from 0."""
    return _number


def count() -> int:
    """How many processes work together."""
    return _count


def first() -> bool:
    """Whether this process is the one that writes files and speaks to the user."""
    return _number == 0


def strategy(*, idle: bool = False) -> dict[str, Any]:
    """How Fabric is to train.

    Parameters
    ----------
    idle
        Whether there are parameters to train that get no gradient, which otherwise the processes would wait for.

    Examples
    --------
    >>> strategy()
    {'devices': 1}
    """
    if _count == 1:
        return {"devices": 1}
    here = _here()
    name = "ddp_find_unused_parameters_true" if idle else "ddp"  # the first warns where all get one
    return {"strategy": name, "devices": here, "num_nodes": _count // here}


def _here() -> int:
    """How many of the processes run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def cores() -> int:
    """This process's part of the cores that it may run on.

    Examples
    --------
    >>> cores() >= 1
    True
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, allowed // _here())


def share(n: int) -> slice:
    """The part of n rows that is this process's: the parts follow each other and differ by at most one row.

    Examples
    --------
    >>> share(10)
    slice(0, 10, None)
    """
    return slice(n * _number // _count, n * (_number + 1) // _count)


def part(batch: Any) -> Any:
    """This process's images of a batch, a sequence or an array of positions.

    The first of them where none is left for it, since all processes must take part.

    Examples
    --------
    >>> part([4, 2, 7])
    [4, 2, 7]
    """
    mine = batch[_number::_count]
    return mine if len(mine) else batch[:1]


@contextmanager
def alone() -> Iterator[None]:
    """Let this process work within the block as if there were no others, which wait for it elsewhere.

    Examples
    --------
    >>> with alone():
    ...     count()
    1
    """
    global _count
    before, _count = _count, 1
    try:
        yield
    finally:
        _count = before


@contextmanager
def _exchange() -> Iterator[None]:
    """Say in one line that another process has ended within the block."""
    try:
        yield
    except RuntimeError as error:
        raise SlimError(
            f"All {_count} processes must run to the end. Got one that has stopped before. Read its message; the same "
            "command then continues."
        ) from error


def wait() -> None:
    """Wait until every process is here."""
    if _count > 1:
        from torch import distributed

        with _exchange():
            distributed.barrier()


def agreed(value: T) -> T:
    """The first process's value, in every process."""
    if _count == 1:
        return value
    from torch import distributed

    values = [value]
    with _exchange():
        distributed.broadcast_object_list(values, src=0)
    return values[0]


def summed(values: NDArray[Any]) -> NDArray[Any]:
    """The sum over all processes, in every process.

    Examples
    --------
    >>> import numpy as np
    >>> summed(np.array([1.0, 2.0])).tolist()
    [1.0, 2.0]
    """
    if _count == 1:
        return values
    import torch
    from torch import distributed

    tensor = torch.from_numpy(values.copy())
    with _exchange():
        distributed.all_reduce(tensor)
    return tensor.numpy()
