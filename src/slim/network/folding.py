"""Batch normalisation folded into the convolutions before it: the same network with less to compute."""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from slim.network.classifier import Classifier
from slim.network.tracing import evaluating

_TOLERANCE, _GPU_TOLERANCE = 1e-4, 1e-2  # of the largest logit; a GPU rounds convolutions to TF32 by default
"""The largest difference between the logits of both networks, relative to the largest logit, that is rounding."""


def folded(classifier: Classifier, watched: Collection[str]) -> Classifier:
    """A copy whose batch normalisation is part of the convolutions, for inference only.

    The classifier itself where it has nothing to fold or cannot be copied, or where the copy's logits differ, for
    instance since the output of a convolution is used a second time.

    Parameters
    ----------
    classifier
        Stays as it is.
    watched
        Names of submodules whose outputs must stay what they are.

    Examples
    --------
    >>> from slim.network.build import build
    >>> model = build("resnet10t", ["cat", "dog"], weights=None, image_size=32)
    >>> def count(classifier):
    ...     return sum(isinstance(module, nn.BatchNorm2d) for module in classifier.module.modules())
    >>> count(model), count(folded(model, ()))
    (14, 0)
    """
    module = classifier.module
    if not any(isinstance(child, nn.BatchNorm2d) for child in module.modules()):
        return classifier
    generator = torch.Generator().manual_seed(0)
    size = classifier.image_size
    images = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8, device="cpu", generator=generator)
    with torch.no_grad(), evaluating(module):
        inputs = classifier.normalize(images)
        pairs, logits = _pairs(module, inputs, watched)
        if not pairs:
            return classifier
        try:
            copy = deepcopy(module)
        except (RuntimeError, TypeError):  # it holds what cannot be copied, such as a lock
            return classifier
        for convolution, norm in pairs:
            _fold(copy, convolution, norm)
        copy = copy.to(memory_format=torch.channels_last)
        tolerance = _GPU_TOLERANCE if inputs.device.type == "cuda" else _TOLERANCE
        same = bool((copy(inputs) - logits).abs().max() <= tolerance * logits.abs().max())
    return replace(classifier, module=copy) if same else classifier


def _pairs(module: nn.Module, inputs: Tensor, watched: Collection[str]) -> tuple[list[tuple[str, str]], Tensor]:
    """Names of each convolution and of the batch normalisation that takes its output, and the logits."""
    names = {child: name for name, child in module.named_modules()}
    outputs: dict[int, tuple[str, Tensor]] = {}  # the tensor is kept, so that no other gets its number
    pairs: list[tuple[str, str]] = []

    def convolved(child: nn.Module, _: object, output: Tensor) -> None:
        outputs[id(output)] = (names[child], output)

    def normalised(child: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if arguments and id(arguments[0]) in outputs:
            pairs.append((outputs[id(arguments[0])][0], names[child]))

    hooks = []
    for child in names:
        if isinstance(child, nn.Conv2d) and "weight" in child._parameters:  # else it is computed, as pruning does
            hooks.append(child.register_forward_hook(convolved))
        elif isinstance(child, nn.BatchNorm2d) and child.track_running_stats:
            hooks.append(child.register_forward_pre_hook(normalised))
    try:
        logits: Tensor = module(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in pairs if pairs.count(pair) == 1 and pair[0] not in watched], logits


def _fold(module: nn.Module, convolution: str, norm: str) -> None:
    """Fold one batch normalisation; what a subclass of timm's does after it, activation and drop block, remains."""
    layer = cast(nn.BatchNorm2d, module.get_submodule(norm))
    after = [part for name in ("drop", "act") if isinstance(part := getattr(layer, name, None), nn.Module)]
    module.set_submodule(convolution, fuse_conv_bn_eval(cast(nn.Conv2d, module.get_submodule(convolution)), layer))
    module.set_submodule(norm, nn.Sequential(*after))
