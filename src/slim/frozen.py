"""Train only the last part of a network: cut it, keep what reaches the cut, and run the rest from there.

It works for any module, because it does not take the network apart. The network runs as always, but the submodules
that are done before the cut give zeros of the right shape instead of computing, and what enters the cut is replaced
by the activations that were kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from slim.errors import ModelError, SettingsError
from slim.models import Classifier, evaluating

Forward = Callable[[Tensor], Tensor]
_TRACED = 2  # images in the traced forward pass
_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Cut:
    """Where a network is cut, and what is needed to run it from there. `find_cut` makes one.

    Attributes
    ----------
    module
        The whole network.
    name
        The first submodule that still runs.
    finished
        Submodules that are done before the cut, and the shape and type of each of their outputs for two images.
    shape
        Of the activations that enter the cut, without the batch.
    image_size
        Side of the network's input.
    trained
        Names of the parameters that act on the logits from the cut on.
    """

    module: nn.Module
    name: str
    finished: dict[str, tuple[tuple[tuple[int, ...], torch.dtype], ...]]
    shape: tuple[int, ...]
    image_size: int
    trained: frozenset[str] = frozenset()

    def activations(self, images: Tensor, forward: Forward | None = None) -> Tensor:
        """What enters the cut, (b, *shape), for normalised images (b, 3, size, size); nothing behind it runs.

        Parameters
        ----------
        images
            Normalised.
        forward
            How to call the network, where not directly.
        """

        def stop(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            raise _CutReachedError(inputs[0])

        hook = self.module.get_submodule(self.name).register_forward_pre_hook(stop)
        try:
            with evaluating(self.module), torch.no_grad():
                (forward or self.module)(images)
        except _CutReachedError as reached:
            return reached.activations.detach()
        finally:
            hook.remove()
        raise ModelError(f"The network must run {self.name} for every image. Got a pass without it. Name another part.")

    def replay(self, activations: Tensor, forward: Forward | None = None) -> Tensor:
        """Logits (b, n_classes) of what `activations` returned, in whatever mode the network is in.

        Parameters
        ----------
        activations
            (b, *shape).
        forward
            How to call the network, where not directly.
        """

        def enter(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (activations, *inputs[1:])

        n = len(activations)
        blank = _zeros((n, 3, self.image_size, self.image_size), torch.float32, activations.device)
        hook = self.module.get_submodule(self.name).register_forward_pre_hook(enter)
        try:
            with self._skipping(n, activations.device):
                return cast(Tensor, (forward or self.module)(blank))
        finally:
            hook.remove()

    @contextmanager
    def _skipping(self, n: int, device: torch.device) -> Iterator[None]:
        """Within the block the finished submodules give zeros."""
        patched: list[tuple[nn.Module, Any]] = []
        try:
            for name, outputs in self.finished.items():
                child = self.module.get_submodule(name)
                patched.append((child, child.__dict__.get("forward")))
                child.__dict__["forward"] = _blank_forward(outputs, n, device)
            yield
        finally:
            for child, before in patched:
                del child.__dict__["forward"]
                if before is not None:
                    child.__dict__["forward"] = before


class _CutReachedError(Exception):
    """The forward pass came to the cut."""

    def __init__(self, activations: Tensor) -> None:
        super().__init__()
        self.activations = activations


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros that take no memory."""
    return torch.zeros((), dtype=dtype, device=device).expand(shape)


def _blank_forward(
    outputs: Sequence[tuple[tuple[int, ...], torch.dtype]], n: int, device: torch.device
) -> Callable[..., Tensor]:
    """A forward that gives zeros as large as the traced outputs, one call after the other, for n images."""
    calls = iter(outputs)

    def forward(*_: object, **__: object) -> Tensor:
        (first, *rest), dtype = next(calls)
        images = first // _TRACED * n if first % _TRACED == 0 else first
        return _zeros((images, *rest), dtype, device)

    return forward


@dataclass
class _Call:
    """One call of a submodule: when it began and ended, and what went in and came out."""

    name: str
    start: int
    end: int = -1
    inputs: tuple[Any, ...] = ()
    output: Any = None


@dataclass
class _Trace:
    """All calls in the order they began."""

    calls: list[_Call] = field(default_factory=list)

    def of(self, name: str) -> list[_Call]:
        """The calls of one submodule."""
        return [call for call in self.calls if call.name == name]


def _traced(module: nn.Module, images: Tensor) -> _Trace:
    """Run the network in evaluation mode and note every call."""
    trace, clock, running = _Trace(), count(), list[_Call]()
    names = {child: name for name, child in module.named_modules() if name}

    def enter(child: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        running.append(_Call(names[child], next(clock), inputs=(*(args or (None,)), *kwargs.values())))
        trace.calls.append(running[-1])

    def leave(_: nn.Module, __: object, output: object) -> None:
        call = running.pop()
        call.end, call.output = next(clock), output

    hooks = [child.register_forward_pre_hook(enter, with_kwargs=True) for child in names]
    hooks += [child.register_forward_hook(leave) for child in names]
    try:
        with evaluating(module), torch.no_grad():
            module(images)
    finally:
        for hook in hooks:
            hook.remove()
    return trace


def find_cut(module: nn.Module, name: str, image_size: int) -> Cut:
    """Cut a network before one of its submodules, and check that the part behind gives the same logits.

    Parameters
    ----------
    module
        Normalised images (b, 3, image_size, image_size) in, logits out. It is left as it is.
    name
        The first submodule that is to be trained, for instance ``"layer4"``.
    image_size
        Side of the input.

    Raises
    ------
    ModelError
        No such submodule, it does not run just once on one tensor, or something goes around it, such as a skip
        connection from before the cut to behind it.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> cut = find_cut(net, "4", 8)
    >>> cut.shape, sorted(cut.trained)
    ((4,), ['4.bias', '4.weight'])
    >>> images = torch.rand(5, 3, 8, 8)
    >>> torch.allclose(cut.replay(cut.activations(images)), net(images))
    True
    """
    known = [child for child, _ in module.named_modules() if child]
    if name not in known:
        parts = ", ".join(child for child, _ in module.named_children())
        raise ModelError(
            f"The part to train must start at one of the network's submodules. Got {name!r}. "
            f"Its top ones: {parts}. Name one of them, or one inside, or all, head or last-stage (--trainable)."
        )
    trace = _traced(module, _noise(module, _TRACED, image_size))
    entry = _only_call(trace, name)
    cut = Cut(module, name, _finished(trace, entry), tuple(entry.inputs[0].shape[1:]), image_size)
    _verify(cut)
    return Cut(**{**vars(cut), "trained": _trained(cut)})


def _noise(module: nn.Module, n: int, image_size: int) -> Tensor:
    """Random images, the same ones each time."""
    noise = torch.randn(n, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    return noise.to(next(module.parameters()).device).to(memory_format=torch.channels_last)


def _only_call(trace: _Trace, name: str) -> _Call:
    """The one call of the submodule at the cut, which must take one tensor."""
    calls = trace.of(name)
    tensors = [value for value in calls[0].inputs if isinstance(value, Tensor)] if len(calls) == 1 else []
    if len(tensors) != 1 or calls[0].inputs[0] is not tensors[0] or len(tensors[0]) % _TRACED:
        got = f"{len(tensors)} tensors" if len(calls) == 1 else f"{len(calls)} calls"
        raise ModelError(
            f"The part to train must start at a submodule that runs once, on one tensor. Got {got} for {name}. "
            "Name the submodule around it, or train all (--trainable all)."
        )
    return calls[0]


def _finished(trace: _Trace, entry: _Call) -> dict[str, tuple[tuple[tuple[int, ...], torch.dtype], ...]]:
    """The outermost submodules of which every call ends before the cut, with their outputs' shapes."""
    outputs: dict[str, list[Any]] = {}
    for call in trace.calls:
        outputs.setdefault(call.name, []).append(call.output if call.end < entry.start else None)
    done = {name for name, values in outputs.items() if all(isinstance(value, Tensor) for value in values)}
    outermost = [name for name in outputs if name in done and not done & set(_ancestors(name))]
    return {name: tuple((tuple(o.shape), o.dtype) for o in outputs[name]) for name in outermost}


def _ancestors(name: str) -> list[str]:
    """``"a.b.c"`` lies in ``"a"`` and ``"a.b"``."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _verify(cut: Cut) -> None:
    """The logits from the cut on must be those of the whole network, for another number of images than traced."""
    images = _noise(cut.module, _TRACED + 1, cut.image_size)
    with evaluating(cut.module), torch.no_grad():
        whole = cut.module(images)
        try:
            difference = float((cut.replay(cut.activations(images)) - whole).abs().max())
        except (RuntimeError, ValueError, TypeError, StopIteration) as error:
            raise _not_separable(cut.name, f"the error {str(error).splitlines()[0]!r}") from error
    if not difference <= _TOLERANCE * (1 + float(whole.abs().max())):
        raise _not_separable(cut.name, f"a difference of {difference:.2g}")


def _not_separable(name: str, got: str) -> ModelError:
    return ModelError(
        f"The network must give the same logits when it is run from {name} on. Got {got}: something goes around "
        "this submodule. Name the one around it, or train all (--trainable all)."
    )


def _trained(cut: Cut) -> frozenset[str]:
    """The parameters with a gradient when the network runs from the cut on."""
    named = {name: value for name, value in cut.module.named_parameters() if value.requires_grad}
    if not named:
        return frozenset()
    activations = cut.activations(_noise(cut.module, _TRACED, cut.image_size))
    with evaluating(cut.module), torch.enable_grad():
        logits = cut.replay(activations)
        if not logits.requires_grad:
            return frozenset()
        gradients = torch.autograd.grad(logits.sum(), list(named.values()), allow_unused=True)
    return frozenset(name for name, gradient in zip(named, gradients, strict=True) if gradient is not None)


def last_stage(model: Classifier) -> str:
    """Name of the stage that the attended layer lies in or follows.

    ``layer4`` of a ResNet, the last block of a ViT, the last stage of an EfficientNet, ConvNeXt or Swin. A stage is
    found by nesting: the last of several submodules that hold blocks of layers, else of blocks, else of layers.

    Examples
    --------
    >>> from slim.models import build
    >>> last_stage(build("resnet10t", ["cat", "dog"], weights=None, image_size=64))
    'layer4'
    """
    trace = _traced(model.module, _noise(model.module, _TRACED, model.image_size))
    end = max(call.end for call in trace.of(model.layer))
    started = {name for call in trace.calls if call.start <= end for name in (call.name, *_ancestors(call.name))}
    return _last_stage(model.module, "", started)


def _last_stage(module: nn.Module, path: str, started: set[str]) -> str:
    """The last stage among a module's submodules that have started."""
    children = {f"{path}.{name}".lstrip("."): child for name, child in module.named_children()}
    children = {name: child for name, child in children.items() if name in started and _has_parameters(child)}
    for depth in (2, 1):
        nested = [name for name, child in children.items() if _depth(child) >= depth]
        if len(nested) > 1:
            return nested[-1]
        if nested:
            only = children[nested[0]]
            opens = depth == 2 or isinstance(only, nn.Sequential | nn.ModuleList)
            return _last_stage(only, nested[0], started) if opens else nested[0]
    weighted = [name for name, child in children.items() if any(values.ndim > 1 for values in child.parameters())]
    return weighted[-1] if weighted else path


def _depth(module: nn.Module) -> int:
    """How deeply submodules with parameters are nested; 0 = a layer."""
    return max((1 + _depth(child) for child in module.children() if _has_parameters(child)), default=0)


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


@dataclass(frozen=True, eq=False)
class Activations:
    """What enters the cut for every image of a table, on the CPU.

    Attributes
    ----------
    values
        (n, ...); feature maps that the network keeps channels-last have their channels last.
    dtype
        In which the network gave them.
    channels_last
        Whether the second axis was moved to the end.
    """

    values: Tensor
    dtype: torch.dtype
    channels_last: bool

    def batch(self, index: Tensor, device: torch.device) -> Tensor:
        """Those of some images, as the network gave them."""
        values = self.values[index].to(device).to(self.dtype)
        return values.permute(0, 3, 1, 2) if self.channels_last else values


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
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> kept = keep_activations(find_cut(net, "3", 8), [torch.rand(5, 3, 8, 8)], n=5)
    >>> kept.batch(torch.tensor([4, 0]), torch.device("cpu")).shape
    torch.Size([2, 4])
    """
    kept: Tensor | None = None
    done, came, channels_last = 0, torch.float32, False
    for images in batches:
        activations = cut.activations(images, forward)
        if kept is None:
            came = activations.dtype
            channels_last = activations.ndim == 4 and activations.is_contiguous(memory_format=torch.channels_last)
            channels_last &= not activations.is_contiguous()
            shape = activations.permute(0, 2, 3, 1).shape if channels_last else activations.shape
            kept = torch.empty((n, *shape[1:]), dtype=dtype or came)
        values = activations.permute(0, 2, 3, 1) if channels_last else activations
        kept[done : done + len(values)] = values.to("cpu")
        done += len(values)
    assert kept is not None
    _check_range(kept, came)
    return Activations(kept, came, channels_last)


def _check_range(kept: Tensor, came: torch.dtype) -> None:
    """Half precision ends at 65,504."""
    if kept.dtype == torch.float16 != came and not bool(torch.isfinite(kept).all()):
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
