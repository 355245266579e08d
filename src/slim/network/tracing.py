"""One traced forward pass, to find the layer to attend to, a finer layer, and the linear head."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slim.errors import ModelError, SlimWarning, first_line
from slim.network.devices import device_of, undisturbed
from slim.network.requirements import check_logits

TRACED = 2
"""Images in the pass."""

_NOISE = 8  # images of noise
# Modules that only forward, scale, pool or drop the output of the previous layer: never the layer to attend to.
_PASSIVE = re.compile("Identity|Dropout|Pool(?!Former)|Flatten|Softmax")


@dataclass(frozen=True)
class Trace:
    """The result of one traced forward pass of two images, so that what is the same for all images is told apart.

    Attributes
    ----------
    inputs, outputs
        Shapes by submodule, in the order in which the submodules finished.
    kinds
        Type of each submodule.
    logits
        (2, n_classes).
    head
        The linear layer whose output is the logits; None if it is another module's.
    """

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    kinds: dict[str, str]
    logits: Tensor
    head: str | None

    def active(self) -> dict[str, tuple[int, ...]]:
        """Outputs of the submodules that compute features of each image; a table of positions is not among them."""
        return {
            name: shape
            for name, shape in self.outputs.items()
            if shape[:1] == (TRACED,) and not _PASSIVE.search(self.kinds[name])
        }


def run_once(module: nn.Module, image_size: int) -> Trace:
    """Run two grey images through the network and record the shapes of every submodule.

    Raises
    ------
    ModelError
        It does not take such images, or does not return logits.
    """
    inputs: dict[str, tuple[int, ...]] = {}
    outputs: dict[str, tuple[int, ...]] = {}
    names = {child: name for name, child in module.named_modules() if name}
    vectors: list[tuple[nn.Module, Tensor, Tensor | None]] = []

    def record(child: nn.Module, arguments: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor):
            given = arguments[0] if arguments and isinstance(arguments[0], Tensor) else None
            if given is not None:
                inputs[names[child]] = tuple(given.shape)
            outputs.pop(names[child], None)
            outputs[names[child]] = tuple(output.shape)
            if output.ndim == 2:
                vectors.append((child, output, given))

    hooks = [child.register_forward_hook(record) for child in names]
    try:
        logits = returned(module, image_size)
    finally:
        for hook in hooks:
            hook.remove()
    kinds = {names[child]: type(child).__name__ for child in names}
    last = [vector for vector in reversed(vectors) if _is_same(vector[1], logits)]
    checked = check_logits(logits, [child for child, _, _ in last])
    head = next((names[child] for child, output, given in last if _is_linear(child, given, output)), None)
    return Trace(inputs, outputs, kinds, checked, head)


def _is_same(output: Tensor, logits: object) -> bool:
    """Whether the output of a submodule is the network's, perhaps seen as another tensor, as by ``squeeze``."""
    if output is logits or not isinstance(logits, Tensor) or output.is_meta:
        return output is logits
    return output.shape == logits.shape and output.data_ptr() == logits.data_ptr()


def _is_linear(child: nn.Module, given: Tensor | None, output: Tensor) -> bool:
    """Whether a submodule computed what a linear layer does: one derived from it, such as a cosine head, may not."""
    if not isinstance(child, nn.Linear) or given is None:
        return False
    if output.is_meta or type(child).forward is nn.Linear.forward:
        return True
    with undisturbed(), torch.no_grad():
        plain = nn.functional.linear(given, child.weight, child.bias)
    largest = float(plain.nan_to_num().abs().max())
    return plain.shape == output.shape and torch.allclose(plain, output, 1e-3, 1e-4 * largest, equal_nan=True)


def returned(module: nn.Module, image_size: int, *, differentiable: bool = False) -> object:
    """What a network returns for two grey images, in evaluation mode.

    Parameters
    ----------
    module
        The network.
    image_size
        Side of the images.
    differentiable
        Whether autograd records how the result was computed.

    Raises
    ------
    ModelError
        It does not take such images.
    """
    try:
        with evaluating(module), torch.set_grad_enabled(differentiable):
            images = torch.zeros(TRACED, 3, image_size, image_size, device=device_of(module))
            return module(images.requires_grad_(differentiable).clone())  # a copy, which may be overwritten
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise _not_taken(module, image_size, error) from error


def check_outputs(module: nn.Module, image_size: int, trace: Trace) -> None:
    """Try outputs on a single image and, where they could be probabilities, on noise that drives logits far apart.

    Raises
    ------
    ModelError
        The output of a single image has another shape.

    Warns
    -----
    SlimWarning
        All outputs lie between 0 and 1 whatever the image, so that they seem to be probabilities.
    """
    one = _outputs(module, torch.zeros(1, 3, image_size, image_size, dtype=torch.float32, device="cpu"))
    n_classes = trace.logits.shape[1]
    if not isinstance(one, Tensor) or one.shape != (1, n_classes):
        got = tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__
        raise ModelError(
            f"The network must return logits (1, {n_classes}) for a single image. Got {got}. "
            "Name the dimension that it removes, such as squeeze(-1), or write flatten(1)."
        )
    if trace.logits.is_meta or not _between_0_and_1(trace.logits):
        return
    noise = torch.randn(
        _NOISE, 3, image_size, image_size, generator=torch.Generator().manual_seed(0), dtype=torch.float32, device="cpu"
    )
    if _like_probabilities(_outputs(module, 100 * noise), trace.logits[:1]):
        warnings.warn(
            "All outputs of the network lie between 0 and 1, even on noise, as probabilities do. SLIM takes them for "
            "logits: leave out a last softmax or sigmoid.",
            SlimWarning,
            stacklevel=3,
        )


def _outputs(module: nn.Module, images: Tensor) -> Tensor:
    """The outputs for images that are normalised already."""
    with evaluating(module), torch.no_grad():
        outputs: Tensor = module(images.to(device_of(module)))
    return outputs


def _like_probabilities(driven: Tensor, usual: Tensor) -> bool:
    """Whether outputs stay between 0 and 1 although noise drives them far, or add up to 1.

    Those of a new network that normalises its features can be small and positive whatever the image.
    """
    sums, far = driven.sum(1), (driven - usual).abs().max() > 0.3
    return _between_0_and_1(driven) and bool(far or torch.isclose(sums, torch.ones_like(sums), atol=1e-4).all())


def _between_0_and_1(values: Tensor) -> bool:
    """Whether all are, and not all equal, as from a head that starts at zero."""
    return bool((values >= 0).all() and (values <= 1).all() and values.max() > values.min())


def own_normalization(trace: Trace) -> str | None:
    """The submodule that normalises the images, where the network does that itself."""
    images = trace.inputs.get(next(iter(trace.outputs), ""), ())
    kinds = ((name, trace.kinds[name]) for name, shape in trace.outputs.items() if shape == images)
    return next((name for name, kind in kinds if "Normali" in kind and images[1:2] == (3,)), None)


def _not_taken(module: nn.Module, image_size: int, error: Exception) -> ModelError:
    """The error of a network that does not run on images of this size."""
    reason = first_line(error)
    first = next((child for child in module.modules() if isinstance(child, nn.Conv2d)), None)
    if first is not None and first.in_channels != 3:
        return ModelError(
            f"The network must take images of three channels. Got a first convolution of {first.in_channels}. "
            "Wrap it in a module that converts them, such as images.mean(1, keepdim=True)."
        )
    return ModelError(
        f"The network must take images of {image_size} x {image_size}. Got: {reason}. "
        "If it was built for another size, set that (--image-size)."
    )


def find_layer(trace: Trace) -> str:
    """The layer to attend to: the last with a grid, or the first norm in the last block of a transformer."""
    active = trace.active()
    grids = [name for name, shape in active.items() if len(shape) == 4 and _side(shape) > 1]
    tokens = [name for name, shape in active.items() if len(shape) == 3 and shape[1] > 3]
    order = list(trace.outputs)
    if tokens and (not grids or order.index(tokens[-1]) > order.index(grids[-1])):
        return _last_block_norm(tokens, trace.kinds) or [name for name in tokens if not _is_reduced(trace, name)][-1]
    if not grids:
        raise ModelError(
            "The network must have a layer with a spatial grid to attend to. Got none that SLIM recognises. "
            "Name it: slim.wrap(module, layer=...) or --layer."
        )
    return grids[-1]


def _last_block_norm(tokens: list[str], kinds: dict[str, str]) -> str | None:
    """The first norm in the last of a transformer's numbered blocks, which contain no other block."""
    norms = [name for name in tokens if "Norm" in kinds[name] and name.rpartition(".")[0][-1:].isdigit()]
    blocks = [name.rpartition(".")[0] for name in norms]
    innermost = [block for block in blocks if not any(other.startswith(f"{block}.") for other in blocks)]
    return norms[blocks.index(innermost[-1])] if innermost else None


def _is_reduced(trace: Trace, name: str) -> bool:
    """Whether a layer of tokens is inside a stage that takes as many tokens and gives fewer."""

    def count(shape: tuple[int, ...]) -> int:
        return shape[1] if len(shape) == 3 else 0

    own = count(trace.outputs[name])
    return any(
        count(trace.inputs.get(stage, ())) == own > count(trace.outputs.get(stage, ())) > 0 for stage in _stages(name)
    )


def _stages(name: str) -> list[str]:
    """The submodules that contain one."""
    return [name[:end] for end, letter in enumerate(name) if letter == "."]


def find_finer(trace: Trace, layer: str) -> str:
    """The last layer before `layer` whose grid has at least 1.5 times its side; `layer` itself if there is none.

    Layers inside a stage that reduces this finer grid to a coarser one do not count: if ``layer4`` of a ResNet is
    attended to, the result is ``layer3``, not the first convolution of ``layer4``. Neither do those inside a stage of
    coarser grids, such as the table of all pairs of positions within an attention.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2), nn.ReLU(),
    ...                     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    >>> find_finer(run_once(net, 32), "3")
    '1'
    """
    finer, least = layer, 1.5 * _side(trace.outputs[layer])
    if not least:
        return layer
    for name, shape in trace.active().items():
        if name == layer:
            break
        if _side(shape) >= least and not any(_coarsens(trace, stage, _side(shape), least) for stage in _stages(name)):
            finer = name
    return finer


def _coarsens(trace: Trace, stage: str, side: int, least: float) -> bool:
    """Whether a stage with a grid of this side inside takes that or a coarser one, and gives one that is coarser."""
    before, after = (_side(shapes.get(stage, ())) for shapes in (trace.inputs, trace.outputs))
    return 0 < before <= side and 0 < after < (least if before == side else side)


def find_place_layers(module: nn.Module, layer: str, image_size: int) -> tuple[str, ...]:
    """Layers that see the places of an image at three depths, the attended one last.

    Those with ever finer grids before it; in a transformer, whose blocks all have the same grid, the same part of the
    blocks at half and three quarters of the depth.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2), nn.ReLU(),
    ...                     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    >>> find_place_layers(net, "3", 32)
    ('1', '3')
    """
    trace = run_once(module, image_size)
    layers = [layer]
    while len(layers) < 3 and (finer := find_finer(trace, layers[0])) != layers[0]:
        layers.insert(0, finer)
    if len(layers) > 1:
        return tuple(layers)
    shape = trace.outputs[layer]
    alike = [name for name, other in trace.active().items() if other == shape and _part(name) == _part(layer)]
    if layer not in alike:
        return (layer,)
    depth = alike.index(layer)
    return tuple(dict.fromkeys([alike[depth // 2], alike[3 * depth // 4], layer]))


def _part(name: str) -> str:
    """A submodule's name without numbers: the same in every block."""
    return ".".join(word for word in name.split(".") if not word.isdigit())


def _side(shape: tuple[int, ...]) -> int:
    """Side of the square grid of each image, from (2, d, h, w) or (2, h, w, d); 0 if there is no grid."""
    return sorted(shape[1:])[1] if len(shape) == 4 and shape[0] == TRACED else 0


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Set evaluation mode within the block, undisturbed by the caller; then each submodule has its previous mode again.

    Examples
    --------
    >>> net = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    >>> with evaluating(net):
    ...     net[0].training
    False
    >>> net[0].training, net[1].training
    (True, False)
    """
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        with undisturbed():
            yield
    finally:
        for child, mode in modes.items():
            child.training = mode
