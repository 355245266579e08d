"""Export of a classifier to files that load without SLIM, each read back and compared before it counts as written."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args

import timm
import torch
from safetensors.torch import load_file
from timm.models import save_for_hf
from torch import Tensor, nn
from torchvision import models

from slim.errors import ModelError, first_line
from slim.files import share, sync
from slim.network.adapters import LogitsOf, TwoLogits
from slim.network.checkpoints import write_tensors
from slim.network.choices import ModelFormat
from slim.network.classifier import Classifier
from slim.network.clip import ImageTower
from slim.network.devices import undisturbed
from slim.network.sharing import independent_copy
from slim.network.tracing import evaluating
from slim.optional import optional

_TOLERANCE = 1e-3  # of the largest logit
_IMAGES = 3  # compared


@dataclass(frozen=True)
class Exported:
    """An exported classifier.

    Attributes
    ----------
    library
        The package that loads it, as Hugging Face's hub calls it.
    code
        Python that loads it from its folder and classifies ``photo.jpg``.
    """

    library: str
    code: str


def export_classifier(classifier: Classifier, folder: str | Path, to: ModelFormat) -> Exported:
    """Write a classifier into a folder, in a format that loads without SLIM.

    Parameters
    ----------
    classifier
        The classifier.
    folder
        Receives the files; see the table in ``docs/models.md``.
    to
        The format.

    Returns
    -------
    Exported
        How to load it.

    Raises
    ------
    ModelError
        The network is none of that library's, or what was read back gives other logits.
    SlimError
        A package is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from slim.network.build import build
    >>> model = build("resnet18", ["cat", "dog"], weights=None, image_size=64)
    >>> folder = tempfile.mkdtemp()
    >>> export_classifier(model, folder, "torchvision").library
    'torchvision'
    >>> plain = models.resnet18(num_classes=2)
    >>> plain.load_state_dict(load_file(f"{folder}/model.safetensors"))
    <All keys matched successfully>
    """
    if to not in get_args(ModelFormat):
        raise ModelError(f"A format of models must be one of {', '.join(get_args(ModelFormat))}. Got {to!r}. Try timm.")
    if classifier.device.type != "cpu":  # a GPU computes less exactly than what reads the files
        classifier = replace(classifier, module=independent_copy(classifier.module).cpu())
    folder = Path(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed process has left
    partial.mkdir(parents=True)
    try:
        with evaluating(classifier.module):
            exported = _WRITERS[to](classifier, partial, folder)
        for file in partial.iterdir():
            share(file, partial.stat().st_mode & 0o666)
        sync(partial)
        folder.mkdir(exist_ok=True)
        for file in partial.iterdir():
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return exported


def _timm(classifier: Classifier, folder: Path, final: Path) -> Exported:
    """``model.safetensors`` and ``config.json``, as timm writes them. `final` is where the files will be."""
    module, size = classifier.module, classifier.image_size
    config = getattr(module, "pretrained_cfg", None)
    if config is None:
        raise _other_library(classifier, "timm")
    side = (3, size, size)
    # The whole frame is resized to the square, as in SLIM; what is said of other sizes no longer holds.
    own: dict[str, Any] = {"input_size": side, "test_input_size": side, "mean": classifier.mean, "std": classifier.std}
    own |= {"interpolation": "bilinear", "crop_pct": 1.0, "test_crop_pct": 1.0, "crop_mode": "squash"}
    sized = {"img_size": size} if config.get("fixed_input_size") else {}
    content = {"label_names": list(classifier.class_names), "pretrained_cfg": own}
    module = deepcopy(module).to(memory_format=torch.contiguous_format)
    save_for_hf(module, str(folder), model_config=content, model_args=sized, safe_serialization=True)
    try:
        loaded = timm.create_model(f"local-dir:{folder.absolute()}", pretrained=True)
    except (RuntimeError, TypeError) as error:  # other tensors, or arguments that its name does not take
        raise _other_library(classifier, "timm") from error
    _check_same(classifier, loaded, "timm")
    code = f"""
    import timm
    from PIL import Image

    model = timm.create_model("local-dir:{final}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    logits = model(transform(Image.open("photo.jpg").convert("RGB"))[None])
    print(model.pretrained_cfg["label_names"][logits.argmax()])
    """
    return Exported("timm", dedent(code).strip())


def _torchvision(classifier: Classifier, folder: Path, final: Path) -> Exported:
    """``model.safetensors`` for the builder of torchvision whose tensors are the same."""
    name, options = _torchvision_name(classifier)
    state = classifier.module.state_dict()
    write_tensors(folder / "model.safetensors", state)
    loaded = models.get_model(name, num_classes=classifier.n_classes, **options)
    loaded.load_state_dict(load_file(folder / "model.safetensors"))
    _check_same(classifier, loaded, "torchvision")
    arguments = ", ".join([f'"{name}"', *(f"{key}={value}" for key, value in options.items())])
    return _plain_code(
        classifier,
        final,
        "torchvision",
        f"model = torchvision.models.get_model({arguments}, num_classes={classifier.n_classes})",
    )


def _state_dict(classifier: Classifier, folder: Path, final: Path) -> Exported:
    """``model.safetensors`` alone, for the class of one's own."""
    write_tensors(folder / "model.safetensors", classifier.module.state_dict())
    module, made, called = classifier.module, "{}(...)", "model.eval()(pixels[None])"
    if isinstance(module, LogitsOf | TwoLogits):
        made, called = 'torch.nn.ModuleDict({{"model": {}(...)}})', 'model["model"].eval()(pixels[None])'
        called = f"{called}.logits" if isinstance(module, LogitsOf) else f"pad({called}.reshape(1, 1), (1, 0))"
        called, module = called.replace("pad(", "torch.nn.functional.pad("), module.model
    elif isinstance(module, ImageTower):
        linear = f"torch.nn.Linear({classifier.linear.in_features}, {classifier.n_classes})"
        made = f'torch.nn.ModuleDict({{{{"visual": open_clip.create_model(...).visual, "head": {linear}}}}})'
        embedding = 'model.eval()["visual"](pixels[None])'
        embedding = f"torch.nn.functional.normalize({embedding})" if module.normalized else embedding
        called = f'model["head"]({embedding})'
    outputs = f", with {classifier.n_classes} outputs" if module is classifier.module else ""  # one may have become two
    line = f"model = {made.format(type(module).__name__)}  # as you made it{outputs}"
    return _plain_code(classifier, final, "pytorch", line, called)


def _plain_code(
    classifier: Classifier, final: Path, library: str, made: str, called: str = "model.eval()(pixels[None])"
) -> Exported:
    """How to load tensors into a module that one line makes, and to call it."""
    size = classifier.image_size
    code = f"""
    import torch, torchvision
    from PIL import Image
    from safetensors.torch import load_file
    from torchvision.transforms import v2

    {made}
    model.load_state_dict(load_file("{final}/model.safetensors"))
    photo = v2.functional.pil_to_tensor(Image.open("photo.jpg").convert("RGB").resize(({size}, {size}), Image.BILINEAR))
    pixels = v2.functional.normalize(photo / 255, {list(classifier.mean)}, {list(classifier.std)})
    print({list(classifier.class_names)}[{called}.argmax()])
    """
    return Exported(library, dedent(code).strip())


def _torchvision_name(classifier: Classifier) -> tuple[str, dict[str, int]]:
    """The name under which torchvision builds the network, and more arguments for it."""
    for name in _candidates(classifier):
        options = {"image_size": classifier.image_size} if name.startswith("vit_") else {}
        try:
            with torch.device("meta"):
                built = models.get_model(name, num_classes=classifier.n_classes, **options)
        except AssertionError:  # patches that do not fit the image
            continue
        if _shapes(built) == _shapes(classifier.module):
            return name, options
    raise _other_library(classifier, "torchvision")


def _candidates(classifier: Classifier) -> Iterator[str]:
    """torchvision's names for what the network may be: by its own name, else all of its class."""
    known = models.list_models(module=models)
    config = getattr(classifier.module, "pretrained_cfg", None) or {}
    named = (classifier.arch or config.get("architecture") or "").removeprefix("torchvision:")
    if named in known:
        yield named
    kind = type(classifier.module).__name__
    for name in known:
        returns = inspect.signature(models.get_model_builder(name)).return_annotation
        if kind == getattr(returns, "__name__", returns):
            yield name


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def _transformers(classifier: Classifier, folder: Path, final: Path) -> Exported:
    """What ``save_pretrained`` writes, with the classes' names and an image processor."""
    transformers = optional("transformers", "transformers", "export to it")
    if not isinstance(classifier.module, LogitsOf) or not hasattr(classifier.module.model, "save_pretrained"):
        raise _other_library(classifier, "transformers")
    model: Any = deepcopy(classifier.module.model)  # whose config is to change
    model.config.id2label = dict(enumerate(classifier.class_names))
    model.config.label2id = {name: k for k, name in enumerate(classifier.class_names)}
    model.save_pretrained(folder)
    size, bilinear = {"height": classifier.image_size, "width": classifier.image_size}, 2
    processor = transformers.ViTImageProcessor(
        size=size, resample=bilinear, image_mean=list(classifier.mean), image_std=list(classifier.std)
    )
    processor.save_pretrained(folder)
    kind = transformers.AutoModelForImageClassification
    _check_same(classifier, LogitsOf(kind.from_pretrained(folder, local_files_only=True)), "transformers")
    code = f"""
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained("{final}")
    processor = AutoImageProcessor.from_pretrained("{final}")
    logits = model(**processor(Image.open("photo.jpg").convert("RGB"), return_tensors="pt")).logits
    print(model.config.id2label[logits.argmax().item()])
    """
    return Exported("transformers", dedent(code).strip())


class _Normalized(nn.Module):
    """A network of images in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.module = classifier.module
        self.register_buffer("mean", torch.tensor(classifier.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(classifier.std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Any:
        return self.module((images - self.mean) / self.std)


def _onnx(classifier: Classifier, folder: Path, final: Path) -> Exported:
    """``model.onnx``, whose input is RGB in [0, 1]: it normalises by itself."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        optional(package, "onnx", "export to ONNX")
    try:
        logits, wanted = _through_onnx(classifier, folder / "model.onnx")
    except Exception as error:  # the exporter and the runtime raise many kinds, for what they cannot express
        reason = first_line(error)[:200]
        raise ModelError(
            f"The network must be one that torch.onnx can export. Got: {reason}. "
            "Export to another format: --to state-dict."
        ) from error
    _check_close(logits, wanted, "onnxruntime")
    size = classifier.image_size
    code = f"""
    import numpy as np, onnxruntime
    from PIL import Image

    session = onnxruntime.InferenceSession("{final}/model.onnx")
    photo = np.asarray(Image.open("photo.jpg").convert("RGB").resize(({size}, {size}), Image.BILINEAR), np.float32)
    (logits,) = session.run(None, {{"images": photo.transpose(2, 0, 1)[None] / 255}})
    print({list(classifier.class_names)}[logits.argmax()])
    """
    return Exported("onnx", dedent(code).strip())


def _through_onnx(classifier: Classifier, path: Path) -> tuple[Tensor, Tensor]:
    """Export a network; the logits of random images, in parts by ONNX's runtime, and all at once by torch."""
    import onnx
    import onnxruntime

    network = _Normalized(classifier).to(classifier.device).eval()
    images = torch.rand(
        _IMAGES, 3, *[classifier.image_size] * 2, generator=torch.Generator().manual_seed(0), device="cpu"
    )
    with torch.no_grad():
        program: Any = torch.onnx.export(
            network,
            (images.to(classifier.device),),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        )
        wanted = network(images.to(classifier.device)).cpu()
    program.save(path)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"classes": "\n".join(classifier.class_names)})
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    parts = [images[:1], images[1:]]  # another number of images than the exporter has seen
    logits = [session.run(None, {"images": part.numpy()})[0] for part in parts]
    return torch.cat([torch.from_numpy(part) for part in logits]), wanted


_WRITERS: dict[ModelFormat, Callable[[Classifier, Path, Path], Exported]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "transformers": _transformers,
    "onnx": _onnx,
    "state-dict": _state_dict,
}


def _check_same(classifier: Classifier, loaded: nn.Module, library: str) -> None:
    """Refuse a network that was read back and differs from the classifier."""
    size = classifier.image_size
    images = torch.rand(_IMAGES, 3, size, size, generator=torch.Generator().manual_seed(0), device="cpu").to(
        classifier.device
    )
    with undisturbed(), torch.no_grad():
        logits = loaded.to(classifier.device).eval()(images)
        _check_close(logits, classifier.module(images), library)


def _check_close(logits: Tensor, wanted: Tensor, library: str) -> None:
    """Refuse logits that are not those of the classifier."""
    difference = float((logits - wanted).abs().max())
    if not difference <= _TOLERANCE * max(1.0, float(wanted.abs().max())):
        raise ModelError(
            f"What {library} reads back must give the same logits. Got a difference of {difference:.2g}. "
            "Export to another format: --to state-dict."
        )


def _other_library(classifier: Classifier, library: str) -> ModelError:
    """The error of a network that another library made."""
    return ModelError(
        f"To be loaded by {library}, the network must be one that {library} builds. Got "
        f"{classifier.arch or 'your own'} ({type(classifier.module).__name__}), which it does not. "
        "Export to another format: --to state-dict, or --to onnx."
    )
