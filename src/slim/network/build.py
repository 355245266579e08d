"""`build`, `restore` and `wrap`: a classifier from a timm name, from a checkpoint, or from any torch module."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from slim.arguments import checked
from slim.errors import ModelError, SlimWarning, first_line
from slim.network.adapters import adapted, own_names
from slim.network.architectures import create, head_name, input_config, packaged_weights
from slim.network.checkpoints import load_tensors, read_checkpoint, read_state_dict
from slim.network.class_names import given_names
from slim.network.classifier import Classifier, default_names
from slim.network.devices import undisturbed
from slim.network.processor import processor_input
from slim.network.requirements import check_input, check_network
from slim.network.sharing import independent_copy, uncompiled
from slim.network.tracing import check_outputs, find_finer, find_layer, own_normalization, run_once


@checked
def build(
    arch: str,
    class_names: Sequence[str] | Mapping[str, int],
    *,
    weights: str | None = "imagenet",
    image_size: int | None = None,
    layer: str | None = None,
    seed: int = 0,
) -> Classifier:
    """Build a network by the name of its architecture.

    Parameters
    ----------
    arch
        Any name in ``timm.list_models()``; or ``torchvision:NAME``; or ``transformers:FOLDER``, a folder that
        ``save_pretrained`` of transformers wrote.
    class_names
        One per logit, in their order, or a mapping to their numbers, such as ``class_to_idx``.
    weights
        ``"imagenet"`` for the pretrained weights of timm, torchvision or the folder, the path of a checkpoint, or None
        for random ones. If a checkpoint has another number of classes, its head is left out.
    image_size
        Side of the input in pixels; the architecture's own by default.
    layer
        The submodule to attend to; see `wrap` for the default.
    seed
        Random seed of the initial weights: of all of them without `weights`.

    Raises
    ------
    ModelError
        The name is unknown, the weights cannot be downloaded, or the checkpoint does not fit.

    Examples
    --------
    >>> model = build("resnet10t", ["cat", "dog"], weights=None, image_size=64)
    >>> model.layer, model.head, model.n_classes
    ('layer4', 'fc', 2)
    """
    class_names = given_names(class_names)
    with undisturbed(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _initialized(arch, len(class_names), weights, image_size)
    source, _, name = arch.partition(":")
    config = processor_input(Path(name)) if source == "transformers" else input_config(module)
    if image_size is not None:
        config["image_size"] = image_size
    return wrap(module, layer=layer, class_names=class_names, arch=arch, **config)


@checked
def restore(
    checkpoint: str | Path,
    arch: str,
    class_names: Sequence[str] | Mapping[str, int],
    *,
    image_size: int | None = None,
    layer: str | None = None,
) -> Classifier:
    """Load a classifier that was trained elsewhere, head included.

    Parameters
    ----------
    checkpoint
        See `slim.network.checkpoints.read_state_dict` for the formats.
    arch, class_names, image_size, layer
        As for `build`; the classes in the order of the checkpoint's outputs.

    Raises
    ------
    ModelError
        The checkpoint does not fit the architecture or the number of classes, or says that its classes have other names
        or another order (``class_names``, ``classes``, ``class_to_idx`` or ``idx_to_class`` beside the tensors).

    Examples
    --------
    ``reference = slim.restore("erm.pt", "resnet50", ["landbird", "waterbird"])``
    """
    class_names = given_names(class_names)
    classifier = build(arch, class_names, weights=None, image_size=image_size, layer=layer)
    tensors, named = read_checkpoint(checkpoint)
    load_tensors(classifier.module, tensors, source=f"checkpoint {checkpoint}")
    if named is not None:
        replace(classifier, class_names=named).for_classes(class_names)
    return classifier


def wrap(
    module: nn.Module,
    *,
    layer: str | None = None,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    class_names: Sequence[str] | Mapping[str, int] | None = None,
    arch: str | None = None,
) -> Classifier:
    """Make a classifier of any torch module.

    Parameters
    ----------
    module
        Float32 images (b, 3, image_size, image_size) in, logits (b, n_classes) of at least two classes out. An object
        or mapping with ``logits`` will do, as networks of transformers return it, and so will a single logit, of the
        second of two classes, which becomes one logit for each. If it is compiled, SLIM runs the module that was
        compiled.
    layer
        The submodule to attend to. By default the last one that still has a spatial grid, for instance ``layer4``
        of a ResNet; for transformers the first norm of the last block.
    image_size
        Side of the square input in pixels; by default what the module's config says, else 224.
    mean, std
        Per channel, of images in [0, 1]; by default what timm says of its own networks, else ImageNet's. The mean is in
        [0, 1], std in (0, 1].
    class_names
        One per logit, in their order, or a mapping to their numbers; by default as the config of a network of
        transformers names them, else numbers.
    arch
        What `build` would build the module from, if it was built from a name.

    Raises
    ------
    ModelError
        The module does not take such images, does not return logits, or returns others for a single image, predicts
        several labels per image, is scripted, quantised or not in float32, holds NaN, has no layer of that name, or
        none with a grid; or the size, the mean or `std` is out of range, or two outputs have one name.

    Warns
    -----
    SlimWarning
        The outputs seem to be probabilities; the module normalises images itself; or it is one of transformers, whose
        image processor knows mean and std, and these are not passed.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> model = wrap(net, image_size=32)
    >>> model.layer, model.head, model.class_names
    ('1', '4', ('0', '1'))
    """
    image_size, mean, std = _input(module, image_size, mean, std)
    check_input(image_size, mean, std)
    image_size = int(image_size)
    module = adapted(_plain(module), image_size)
    trace = run_once(module, image_size)
    check_outputs(module, image_size, trace)
    _warn_of_normalization(own_normalization(trace) or _own_constants(module), mean, std)
    n_classes = trace.logits.shape[1]
    names = _named(own_names(module) if class_names is None else class_names, n_classes)
    if layer is not None and layer not in trace.outputs:
        known = ", ".join([name for name, shape in trace.outputs.items() if len(shape) in (3, 4)][-5:])
        raise ModelError(f"The layer to attend to must be one that the network runs. Got {layer!r}. Its last: {known}.")
    layer = layer or find_layer(trace)
    with undisturbed():
        module = module.to(memory_format=torch.channels_last)
    return Classifier(
        module=module,
        arch=arch,
        layer=layer,
        finer=find_finer(trace, layer),
        head=trace.head,
        image_size=image_size,
        mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        std=(float(std[0]), float(std[1]), float(std[2])),
        class_names=names,
    )


def _input(
    module: nn.Module, image_size: int | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[int, Sequence[float], Sequence[float]]:
    """Size, mean and std of the input: those that are given, else what the module's config says of them."""
    known = input_config(module)
    config = getattr(module, "config", None)
    if hasattr(config, "id2label"):  # of transformers
        size = getattr(config, "image_size", None)
        known["image_size"] = size if isinstance(size, int) else known["image_size"]
        if mean is None or std is None:
            warnings.warn(
                "mean= and std= of the network's input are not given, so those of ImageNet are used. Its image "
                "processor knows them: slim.wrap(model, mean=processor.image_mean, std=processor.image_std).",
                SlimWarning,
                stacklevel=3,
            )
    return (
        known["image_size"] if image_size is None else image_size,
        known["mean"] if mean is None else mean,
        known["std"] if std is None else std,
    )


def _named(class_names: Sequence[str] | Mapping[str, int] | None, n: int) -> tuple[str, ...]:
    """The names of `n` outputs as text; numbers by default."""
    names = default_names(n) if class_names is None else given_names(class_names)
    if len(names) != n:
        raise ModelError(
            f"The network must have one output per class. Got {n} outputs for {len(names)} classes "
            f"({', '.join(names[:5])}). Build it with num_classes={len(names)}."
        )
    first = {name: k for k, name in reversed(list(enumerate(names)))}
    again = next((k for k, name in enumerate(names) if first[name] < k), None)
    if again is not None:
        name = names[again]
        raise ModelError(
            f"Each output must have a unique name. Got {name!r} for outputs {first[name]} and {again}. Correct "
            "class_names=."
        )
    return names


def _own_constants(module: nn.Module) -> str | None:
    """A buffer with the mean of each channel, where there is one with the deviation as well."""
    three = [name for name, values in module.named_buffers() if not is_lazy(values) and values.numel() == 3]
    ends = [next((name for name in three if name.endswith(end)), None) for end in ("std", "mean")]
    return ends[1] if all(ends) else None


def _warn_of_normalization(own: str | None, mean: Sequence[float], std: Sequence[float]) -> None:
    """Say that images would be normalised twice."""
    if own is not None and any((*(value != 0 for value in mean), *(value != 1 for value in std))):
        warnings.warn(
            f"The network seems to normalise images itself, in {own!r}, and SLIM has already normalised them. Pass "
            "mean=(0, 0, 0), std=(1, 1, 1) to give it images in [0, 1].",
            SlimWarning,
            stacklevel=3,
        )


def _plain(module: nn.Module) -> nn.Module:
    """The module without compilation, or a copy of one whose parameters were made in inference mode."""
    check_network(module)
    module = uncompiled(module)
    if not any(values.is_inference() for values in module.parameters() if not is_lazy(values)):
        return module
    return independent_copy(module)


def _initialized(arch: str, n_classes: int, weights: str | None, image_size: int | None) -> nn.Module:
    """The network with its initial weights."""
    if weights is None:
        return create(arch, n_classes, image_size)
    source = packaged_weights(arch) if weights == "imagenet" else Path(weights)
    if source is None:
        return _downloaded(arch, n_classes, image_size)
    module = create(arch, n_classes, image_size)
    head = head_name(module)
    _zero(module, head)
    load_tensors(module, read_state_dict(source), head=head, source=f"checkpoint {source}", known=weights == "imagenet")
    return module


def _downloaded(arch: str, n_classes: int, image_size: int | None) -> nn.Module:
    """The network with the weights from timm's hub."""
    try:
        module = create(arch, n_classes, image_size, pretrained=True)
        _zero(module, head_name(module))
        return module
    except ModelError:
        raise
    except Exception as error:  # the hub's client raises many kinds, each meaning that no weights came
        reason = first_line(error)
        raise ModelError(
            f"ImageNet weights of {arch} must be downloaded from timm's hub. Got: {reason[:200]}. "
            "Connect to the internet, name a file (--weights PATH), or start from random weights (--weights none)."
        ) from error


def _zero(module: nn.Module, name: str | None) -> None:
    """Start a new head at zero: timm's random values can be so large that the first steps undo the pretraining."""
    if name is not None:
        for parameter in module.get_submodule(name).parameters():
            nn.init.zeros_(parameter)
