"""Classifiers: any timm name or any torch module, with the layer to attend to and the linear head found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from slim.artifacts import read_json, write_text
from slim.checkpoints import load_tensors, packaged_weights, read_state_dict
from slim.errors import ModelError, SettingsError
from slim.tracing import find_finer, find_layer, run_once


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network and what SLIM needs to know of it.

    Attributes
    ----------
    module
        The network: float images (b, 3, size, size) in, logits (b, n_classes) out.
    arch
        Its timm name, or None for a module that SLIM cannot build by name.
    layer
        Name of the submodule whose output is attended to.
    finer
        Name of the last submodule before it with a finer grid, where what lies under the attention is told apart
        better; the layer itself where there is none, as in a transformer.
    head
        Name of the linear layer whose output is the logits, or None where there is none. Its input
        is the image's penultimate features.
    image_size
        Side of the square input, in pixels.
    mean, std
        Per channel, of images in [0, 1].
    class_names
        One a logit.
    """

    module: nn.Module
    arch: str | None
    layer: str
    finer: str
    head: str | None
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    class_names: tuple[str, ...]

    @property
    def n_classes(self) -> int:
        """Number of logits."""
        return len(self.class_names)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.module.parameters()).device

    @property
    def linear(self) -> nn.Linear:
        """The linear head.

        Raises
        ------
        ModelError
            The network does not end in one.
        """
        if self.head is None:
            raise ModelError(
                "The head can only be retrained where the network ends in one linear layer. Got a network that does "
                "not. Retrain all of it: --mode full."
            )
        return cast(nn.Linear, self.module.get_submodule(self.head))

    @property
    def head_weight(self) -> NDArray[np.float64] | None:
        """(n_classes, d) weights of the linear head; None where the network does not end in one."""
        return None if self.head is None else self.linear.weight.detach().cpu().double().numpy()

    def normalize(self, images: Tensor) -> Tensor:
        """Turn bytes (b, 3, size, size) into the network's input, on its device, in channels-last order.

        Examples
        --------
        >>> model = wrap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
        ...              image_size=8)
        >>> model.normalize(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)).shape
        torch.Size([1, 3, 8, 8])
        """
        images = images.to(self.device, non_blocking=True).to(memory_format=torch.channels_last)
        mean = torch.tensor(self.mean, device=self.device).view(1, 3, 1, 1) * 255
        std = torch.tensor(self.std, device=self.device).view(1, 3, 1, 1) * 255
        return (images.float() - mean) / std

    def grid(self, activations: Tensor) -> Tensor:
        """Bring the layer's output to (b, d, h, w), whether the network keeps channels first, last, or tokens.

        Tokens lose their class and register tokens and become a grid.
        """
        if activations.ndim == 4:
            _, first, second, last = activations.shape
            width = self.linear.in_features if self.head else None
            channels_last = (first == second != last) or (last == width != first and second != last)
            return activations.permute(0, 3, 1, 2) if channels_last else activations
        if activations.ndim == 3:
            height, width = self._token_grid(activations.shape[1])
            tokens = activations[:, activations.shape[1] - height * width :]
            return tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)
        raise ModelError(
            f"The attended layer must give (images, channels, height, width) or (images, tokens, channels). "
            f"Got {activations.ndim} dimensions from {self.layer}. Name another one (--layer)."
        )

    def _token_grid(self, n_tokens: int) -> tuple[int, int]:
        """Height and width of the grid that a transformer's patch tokens form."""
        patches = getattr(self.module, "patch_embed", None)
        size = getattr(patches, "grid_size", None)
        if size is not None and size[0] * size[1] <= n_tokens:
            return int(size[0]), int(size[1])
        return isqrt(n_tokens), isqrt(n_tokens)

    def to(self, device: torch.device) -> Classifier:
        """The classifier with its parameters on a device; they are moved, not copied.

        Examples
        --------
        >>> build("resnet10t", ["cat", "dog"], weights=None, image_size=32).to(torch.device("cpu")).device.type
        'cpu'
        """
        self.module.to(device)
        return self

    def with_head(self, weight: Tensor, bias: Tensor) -> Classifier:
        """A copy of the classifier, sharing all but the linear head, which gets these values.

        Parameters
        ----------
        weight
            (n_classes, n_features).
        bias
            (n_classes,).
        """
        head = nn.Linear(weight.shape[1], weight.shape[0]).to(self.device)
        head.load_state_dict({"weight": weight, "bias": bias})
        self.linear.out_features  # noqa: B018 (a network without a linear head is refused)
        return replace(self, module=_shared_copy(self.module, str(self.head), head))

    def save(self, folder: str | Path) -> None:
        """Write ``model.safetensors`` and ``model.json`` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.module.state_dict().items()}
        partial = folder / "model.safetensors.partial"
        save_file(tensors, partial)
        partial.replace(folder / "model.safetensors")
        fields = {name: value for name, value in vars(self).items() if name != "module"}
        write_text(folder / "model.json", json.dumps(fields, indent=2) + "\n")


def _shared_copy(module: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """A module that shares every submodule with the given one, but for one that is replaced."""
    copy = module.__new__(type(module))
    copy.__dict__ = {**module.__dict__, "_modules": dict(module._modules)}
    first, _, rest = name.partition(".")
    copy._modules[first] = _shared_copy(module.get_submodule(first), rest, new) if rest else new
    return copy


def load_classifier(folder: str | Path, module: nn.Module | None = None) -> Classifier:
    """Load what `Classifier.save` wrote.

    Parameters
    ----------
    folder
        Holds ``model.safetensors`` and ``model.json``.
    module
        The network, where it was not built from a timm name; it receives the saved tensors.

    Raises
    ------
    ModelError
        The folder was written from a module of your own, and none came.
    """
    folder = Path(folder)
    if not (folder / "model.json").is_file():
        raise ModelError(f"A saved classifier must be a folder with a model.json. Got {folder}. Check the path.")
    fields = read_json(folder / "model.json")
    for name in ("mean", "std", "class_names"):
        fields[name] = tuple(fields[name])
    if module is None:
        if fields["arch"] is None:
            raise ModelError(
                f"{folder} holds a network of your own, which only your code can build. Got no module. "
                "Pass the same one again: slim.run(..., reference=slim.wrap(module))."
            )
        module = _create(fields["arch"], len(fields["class_names"]), fields["image_size"])
    load_tensors(module, read_state_dict(folder / "model.safetensors"))
    return Classifier(module=_channels_last(module), **fields)


def _channels_last(module: nn.Module) -> nn.Module:
    return module.to(memory_format=torch.channels_last)


def _create(arch: str, n_classes: int, image_size: int | None, pretrained: bool = False) -> nn.Module:
    """A timm network; only those of a fixed input size are told the size."""
    if not timm.is_model(arch):
        close = ", ".join(timm.list_models(f"*{arch.split('_')[0]}*")[:5])
        hint = f"Close ones: {close}." if close else "See timm.list_models()."
        raise ModelError(f"An architecture must be a name that timm knows. Got {arch!r}. {hint}")
    config = timm.get_pretrained_cfg(arch)
    sized = image_size and getattr(config, "fixed_input_size", False)
    fixed: dict[str, Any] = {"img_size": image_size} if sized else {}
    return timm.create_model(arch, pretrained=pretrained, num_classes=n_classes, **fixed)


def build(
    arch: str,
    class_names: Sequence[str],
    *,
    weights: str | None = "imagenet",
    image_size: int | None = None,
    layer: str | None = None,
    seed: int = 0,
) -> Classifier:
    """Build a network by its timm name.

    Parameters
    ----------
    arch
        Any name that ``timm.list_models()`` gives.
    class_names
        One a class; their number is the number of logits.
    weights
        ``"imagenet"`` for timm's pretrained weights, a checkpoint's path, or None for random ones. The head of a
        checkpoint with another number of classes is left out.
    image_size
        Side of the input in pixels; the network's own by default.
    layer
        The submodule to attend to; found by default.
    seed
        Of the random values: the head's, or all.

    Raises
    ------
    ModelError
        Unknown name, weights that cannot be fetched, a checkpoint that does not fit.

    Examples
    --------
    >>> model = build("resnet10t", ["cat", "dog"], weights=None, image_size=64)
    >>> model.layer, model.head, model.n_classes
    ('layer4', 'fc', 2)
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _initialized(arch, len(class_names), weights, image_size)
    config: dict[str, Any] = resolve_model_data_config(module)
    return wrap(
        module,
        layer=layer,
        image_size=image_size or config["input_size"][-1],
        mean=config["mean"],
        std=config["std"],
        class_names=class_names,
        arch=arch,
    )


def restore(
    checkpoint: str | Path,
    arch: str,
    class_names: Sequence[str],
    *,
    image_size: int | None = None,
    layer: str | None = None,
) -> Classifier:
    """Load a classifier that was trained elsewhere, head included.

    Parameters
    ----------
    checkpoint
        See `slim.checkpoints.read_state_dict` for what is understood.
    arch, class_names, image_size, layer
        As for `build`; the classes in the order of the checkpoint's outputs.

    Raises
    ------
    ModelError
        The checkpoint does not fit the architecture or the number of classes.

    Examples
    --------
    ``reference = slim.restore("erm.pt", "resnet50", ["landbird", "waterbird"])``
    """
    classifier = build(arch, class_names, weights=None, image_size=image_size, layer=layer)
    load_tensors(classifier.module, read_state_dict(checkpoint), source=f"checkpoint {checkpoint}")
    return classifier


def _initialized(arch: str, n_classes: int, weights: str | None, image_size: int | None) -> nn.Module:
    """The network with its first weights."""
    if weights is None:
        return _create(arch, n_classes, image_size)
    source = packaged_weights(arch) if weights == "imagenet" else Path(weights)
    if source is None:
        return _downloaded(arch, n_classes, image_size)
    module = _create(arch, n_classes, image_size)
    head = _head_name(module)
    _zero(module, head)
    load_tensors(module, read_state_dict(source), head=head, source=f"checkpoint {source}")
    return module


def _downloaded(arch: str, n_classes: int, image_size: int | None) -> nn.Module:
    """The network with the weights from timm's hub."""
    try:
        module = _create(arch, n_classes, image_size, pretrained=True)
        _zero(module, _head_name(module))
        return module
    except ModelError:
        raise
    except Exception as error:  # the hub's client raises many kinds, each meaning that no weights came
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"ImageNet weights of {arch} must come from timm's hub. Got: {reason[:200]}. "
            "Connect to the internet, or name a file (--weights PATH), or start from random ones (--weights none)."
        ) from error


def wrap(
    module: nn.Module,
    *,
    layer: str | None = None,
    image_size: int = 224,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
    class_names: Sequence[str] | None = None,
    arch: str | None = None,
) -> Classifier:
    """Make a classifier of any torch module.

    Parameters
    ----------
    module
        Float images (b, 3, image_size, image_size) in, logits (b, n_classes) out.
    layer
        The submodule to attend to. By default the last one that still has a spatial grid, for instance ``layer4``
        of a ResNet; for transformers the last block's first norm.
    image_size
        Side of the square input in pixels.
    mean, std
        Per channel, of images in [0, 1]; ImageNet's by default.
    class_names
        One a logit; numbers by default.
    arch
        The timm name, where the module was built from one.

    Raises
    ------
    ModelError
        The module does not take such images, or has no layer of that name, or no layer with a grid.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> model = wrap(net, image_size=32)
    >>> model.layer, model.head, model.class_names
    ('1', '4', ('0', '1'))
    """
    trace = run_once(module, image_size)
    n_classes = trace.logits.shape[1]
    names = tuple(class_names) if class_names is not None else tuple(map(str, range(n_classes)))
    if len(names) != n_classes:
        raise ModelError(
            f"The network must have one output a class. Got {n_classes} outputs for {len(names)} classes "
            f"({', '.join(names[:5])}). Build it with num_classes={len(names)}."
        )
    if layer is not None and layer not in trace.outputs:
        known = ", ".join([name for name, shape in trace.outputs.items() if len(shape) in (3, 4)][-5:])
        raise ModelError(f"The layer to attend to must be one that the network runs. Got {layer!r}. Its last: {known}.")
    layer = layer or find_layer(trace)
    return Classifier(
        module=_channels_last(module),
        arch=arch,
        layer=layer,
        finer=find_finer(trace, layer),
        head=trace.head,
        image_size=image_size,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        class_names=names,
    )


def _zero(module: nn.Module, name: str | None) -> None:
    """Begin a new head at zero: timm's random ones can be so large that the first steps undo the pretraining."""
    if name is not None:
        for parameter in module.get_submodule(name).parameters():
            nn.init.zeros_(parameter)


def _head_name(module: nn.Module) -> str | None:
    """Name of timm's classifier within its module."""
    classifier = cast("nn.Module", module.get_classifier())  # type: ignore[operator]
    return next((name for name, child in module.named_modules() if child is classifier), None)


Device = Literal["auto", "cpu", "cuda"]


def resolve_device(device: Device) -> torch.device:
    """What ``"auto"`` means on this machine: a GPU where there is one, else the CPU.

    Raises
    ------
    SettingsError
        "cuda" was asked for, and PyTorch sees no GPU.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise SettingsError("device cuda must be a GPU that PyTorch sees. Got none. Use --device cpu or auto.")
    return torch.device("cuda" if there and device != "cpu" else "cpu")


Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]


def resolve_precision(precision: Precision, device: torch.device) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    """What ``"auto"`` means on a device: bfloat16 where the hardware computes in it, else float32.

    A CPU without bfloat16 instructions emulates them, at a twentieth of the speed of float32.

    Examples
    --------
    >>> resolve_precision("32-true", torch.device("cpu"))
    '32-true'
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "bf16-mixed"
    return "32-true"
