"""Train only the last part of a network: cut it, cache the activations that enter the cut, and run it from there.

This works for any module, since the network is not taken apart. It runs as usual, but submodules that finish before
the cut return zeros of the right shape instead of computing, and the input of the cut is replaced by the cached
activations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, cast

import torch
from torch import Tensor, nn

from slim.errors import ModelError
from slim.network.classifier import Classifier
from slim.network.devices import device_of
from slim.network.tracing import evaluating

Forward = Callable[[Tensor], Tensor]
Outputs = tuple[tuple[tuple[int, ...], torch.dtype], ...]  # shape and type of the output of each call of a submodule
_TRACED = 2  # images in the traced forward pass
_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Cut:
    """A place to cut a network, and what is needed to run it from there; made by `find_cut`.

    Attributes
    ----------
    module
        The whole network.
    name
        The first submodule that still runs.
    finished
        Submodules that finish before the cut, and the shape and type of each of their outputs for two images.
    shape
        Shape of the activations that enter the cut, without the batch.
    image_size
        Side of the network's input.
    trained
        Names of the parameters behind the cut that affect the logits.
    """

    module: nn.Module
    name: str
    finished: dict[str, Outputs]
    shape: tuple[int, ...]
    image_size: int
    trained: frozenset[str] = frozenset()

    def activations(self, images: Tensor, forward: Forward | None = None) -> Tensor:
        """The activations (b, *shape) that enter the cut; nothing behind it runs.

        Parameters
        ----------
        images
            (b, 3, image_size, image_size), normalised.
        forward
            Called instead of the network itself, for instance to run it in mixed precision.

        Raises
        ------
        ModelError
            The forward pass does not reach the cut.
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
        raise ModelError(
            f"The network must run {self.name} for every image. Got a forward pass without it. "
            "Name another part (--trainable)."
        )

    def replay(self, activations: Tensor, forward: Forward | None = None) -> Tensor:
        """Logits (b, n_classes), in the network's present mode.

        Parameters
        ----------
        activations
            (b, *shape), from `activations`.
        forward
            As for `activations`.
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
        """Make the finished submodules return zeros within the block."""
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
    """The forward pass has reached the cut."""

    def __init__(self, activations: Tensor) -> None:
        super().__init__()
        self.activations = activations


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros that share one value in memory."""
    return torch.zeros((), dtype=dtype, device=device).expand(shape)


def _blank_forward(outputs: Outputs, n: int, device: torch.device) -> Callable[..., Tensor]:
    """A forward that returns zeros in the shapes of the traced outputs, call by call, for n images."""
    calls = iter(outputs)

    def forward(*_: object, **__: object) -> Tensor:
        (first, *rest), dtype = next(calls)
        images = first // _TRACED * n if first % _TRACED == 0 else first
        return _zeros((images, *rest), dtype, device)

    return forward


@dataclass
class _Call:
    """One call of a submodule: its start and end, inputs and output."""

    name: str
    start: int
    end: int = -1
    inputs: tuple[Any, ...] = ()
    output: Any = None


def _traced(module: nn.Module, image_size: int) -> list[_Call]:
    """All calls of submodules in one forward pass in evaluation mode, in the order in which they started."""
    calls, running, clock = list[_Call](), list[_Call](), count()
    names = {child: name for name, child in module.named_modules() if name}

    def enter(child: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        running.append(_Call(names[child], next(clock), inputs=(*(args or (None,)), *kwargs.values())))
        calls.append(running[-1])

    def leave(_: nn.Module, __: object, output: object) -> None:
        call = running.pop()
        call.end, call.output = next(clock), output

    hooks = [child.register_forward_pre_hook(enter, with_kwargs=True) for child in names]
    hooks += [child.register_forward_hook(leave) for child in names]
    try:
        with evaluating(module), torch.no_grad():
            module(_noise(module, _TRACED, image_size))
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def find_cut(module: nn.Module, name: str, image_size: int) -> Cut:
    """Cut a network before one of its submodules, and check that the part behind the cut gives the same logits.

    Parameters
    ----------
    module
        Normalised images (b, 3, image_size, image_size) in, logits out. It is not changed.
    name
        The first submodule to train, for instance ``"layer4"``.
    image_size
        Side of the input.

    Raises
    ------
    ModelError
        There is no such submodule, it does not run exactly once on one tensor, or a connection bypasses it, such as
        a skip connection from before the cut to behind it.

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
            f"Name one of {parts}, a submodule of these, or all, head or last-stage (--trainable)."
        )
    calls = _traced(module, image_size)
    entry = _only_call(calls, name)
    cut = Cut(module, name, _finished(calls, entry), tuple(entry.inputs[0].shape[1:]), image_size)
    _verify(cut)
    return replace(cut, trained=_trained(cut))


def _noise(module: nn.Module, n: int, image_size: int) -> Tensor:
    """Random images, the same in every call."""
    noise = torch.randn(n, 3, image_size, image_size, generator=torch.Generator().manual_seed(0), device="cpu")
    return noise.to(device_of(module)).to(memory_format=torch.channels_last)


def _only_call(calls: list[_Call], name: str) -> _Call:
    """The one call of the submodule at the cut, which must take one tensor."""
    calls = [call for call in calls if call.name == name]
    tensors = [value for value in calls[0].inputs if isinstance(value, Tensor)] if len(calls) == 1 else []
    if len(tensors) != 1 or calls[0].inputs[0] is not tensors[0] or len(tensors[0]) % _TRACED:
        got = f"{len(tensors)} tensors" if len(calls) == 1 else f"{len(calls)} calls"
        raise ModelError(
            f"The part to train must start at a submodule that runs once, on one tensor. Got {got} for {name}. "
            "Name the submodule that contains it, or train the whole network (--trainable all)."
        )
    return calls[0]


def _finished(calls: list[_Call], entry: _Call) -> dict[str, Outputs]:
    """The outermost submodules whose every call ends before the cut, with the shapes of their outputs."""
    outputs: dict[str, list[Any]] = {}
    for call in calls:
        outputs.setdefault(call.name, []).append(call.output if call.end < entry.start else None)
    done = {name for name, values in outputs.items() if all(isinstance(value, Tensor) for value in values)}
    outermost = [name for name in outputs if name in done and not done & set(_ancestors(name))]
    return {name: tuple((tuple(o.shape), o.dtype) for o in outputs[name]) for name in outermost}


def _ancestors(name: str) -> list[str]:
    """The submodules that contain one: ``"a"`` and ``"a.b"`` for ``"a.b.c"``."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _verify(cut: Cut) -> None:
    """Refuse a cut behind which the logits differ from the whole network's, for another batch size than traced."""
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
        f"The network must give the same logits when it runs from {name} on. Got {got}: a connection bypasses this "
        "submodule. Name the submodule that contains it, or train the whole network (--trainable all)."
    )


def _trained(cut: Cut) -> frozenset[str]:
    """The parameters that receive a gradient when the network runs from the cut on."""
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
    """Name of the stage that contains the attended layer, or that comes before it.

    That is ``layer4`` of a ResNet, the last block of a ViT, and the last stage of an EfficientNet, ConvNeXt or Swin.
    Stages are recognised by nesting: the last of several submodules that hold blocks of layers, else blocks, else
    layers.

    Examples
    --------
    >>> from slim.network.build import build
    >>> last_stage(build("resnet10t", ["cat", "dog"], weights=None, image_size=64))
    'layer4'
    """
    calls = _traced(model.module, model.image_size)
    end = max(call.end for call in calls if call.name == model.layer)
    started = {name for call in calls if call.start <= end for name in (call.name, *_ancestors(call.name))}
    return _last_stage(model.module, "", started)


def _last_stage(module: nn.Module, path: str, started: set[str]) -> str:
    """The last stage among the submodules of a module that have started."""
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
    """Nesting depth of submodules with parameters; 0 for a layer."""
    return max((1 + _depth(child) for child in module.children() if _has_parameters(child)), default=0)


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
