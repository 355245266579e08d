"""timm's architectures by name: the module, and where its classifier is."""

from __future__ import annotations

from typing import Any, cast

import timm
from torch import nn

from slim.errors import ModelError


def create(arch: str, n_classes: int, image_size: int | None, pretrained: bool = False) -> nn.Module:
    """A timm network. Only architectures with a fixed input size are told the size.

    Raises
    ------
    ModelError
        timm knows no architecture of this name.

    Examples
    --------
    >>> head_name(create("resnet10t", 2, image_size=32))
    'fc'
    """
    if not timm.is_model(arch):
        close = ", ".join(timm.list_models(f"*{arch.split('_')[0]}*")[:5])
        hint = f"Close ones: {close}." if close else "See timm.list_models()."
        raise ModelError(f"An architecture must be a name that timm knows. Got {arch!r}. {hint}")
    config = timm.get_pretrained_cfg(arch)
    sized = image_size and getattr(config, "fixed_input_size", False)
    fixed: dict[str, Any] = {"img_size": image_size} if sized else {}
    return timm.create_model(arch, pretrained=pretrained, num_classes=n_classes, **fixed)


def head_name(module: nn.Module) -> str | None:
    """Name of a timm network's classifier within the network."""
    classifier = cast("nn.Module", module.get_classifier())  # type: ignore[operator]  # every timm model has it
    return next((name for name, child in module.named_modules() if child is classifier), None)
