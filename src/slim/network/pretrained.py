"""`load_pretrained`: a classifier from the folder that transformers or timm saves a model in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch

from slim.arguments import checked
from slim.errors import ModelError, first_line
from slim.files import read_json
from slim.network.adapters import own_names
from slim.network.architectures import create, input_config
from slim.network.build import wrap
from slim.network.class_names import distinct_names
from slim.network.classifier import Classifier
from slim.network.processor import processor_input
from slim.network.tracing import evaluating

_CONFIG = "config.json"


@checked
def load_pretrained(folder: str | Path, *, layer: str | None = None) -> Classifier:
    """Load a classifier from a folder of transformers (``save_pretrained``) or timm (``save_for_hf``).

    Parameters
    ----------
    folder
        Holds ``config.json`` and the weights; for a model of transformers also ``preprocessor_config.json``, which its
        image processor saves. Nothing is downloaded.
    layer
        The submodule to attend to; see `slim.wrap`.

    Returns
    -------
    Classifier
        With the folder's class names, in the order of its outputs, and its input's size, mean and standard deviation.

    Raises
    ------
    ModelError
        The folder holds no such model, one that is no image classifier, or one whose input SLIM cannot make.
    SlimError
        transformers is not installed.

    Notes
    -----
    SLIM always resizes the whole frame to a square, whatever the image processor crops.

    Examples
    --------
    ``reference = slim.load_pretrained("my-vit")``
    """
    folder = Path(folder).absolute()
    if not (folder / _CONFIG).is_file():
        raise ModelError(
            f"A pretrained model must be a folder with {_CONFIG}, as save_pretrained writes it. Got {folder}. "
            "Name that folder, or a file with a checkpoint."
        )
    config = read_json(folder / _CONFIG)
    return _from_timm(folder, config, layer) if "architecture" in config else _from_transformers(folder, config, layer)


def _from_timm(folder: Path, config: Mapping[str, Any], layer: str | None) -> Classifier:
    """A model that timm saved."""
    try:
        module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except (RuntimeError, FileNotFoundError, KeyError) as error:
        reason = first_line(error)
        raise ModelError(f"{folder} must be a model that timm can load. Got: {reason}. Save it again.") from error
    names = config.get("label_names")
    names = list(names.values()) if isinstance(names, dict) else names
    names = None if names is None else distinct_names(names)
    classifier = wrap(module, layer=layer, class_names=names, **input_config(module))
    named = config["architecture"]
    return replace(classifier, arch=named if _is_plain(classifier, named) else f"local-dir:{folder}")


def _is_plain(classifier: Classifier, arch: str) -> bool:
    """Whether timm builds the network by the name of its architecture alone, so that its folder is not needed again."""
    size = classifier.image_size
    try:
        plain = create(arch, classifier.n_classes, size)
        plain.load_state_dict(classifier.module.state_dict())
    except RuntimeError:  # other parts or shapes
        return False
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0), device="cpu")
    with evaluating(plain), evaluating(classifier.module), torch.no_grad():
        return torch.allclose(plain(images), classifier.module(images), atol=1e-5)


def _from_transformers(folder: Path, config: Mapping[str, Any], layer: str | None) -> Classifier:
    """A model that transformers saved, with what its image processor does to images."""
    kinds = config.get("architectures") or []
    if not any("ImageClassification" in kind for kind in kinds):  # else transformers would make up its last layer
        raise ModelError(
            f"{folder} must hold an image classifier. Got {', '.join(kinds) or 'no architecture'} in {_CONFIG}. "
            "To train one from it: --train.arch transformers:FOLDER."
        )
    n_classes = len(config.get("id2label") or ()) or 2  # transformers leaves out its default, two
    arch = f"transformers:{folder}"
    try:
        module = create(arch, n_classes, None, pretrained=True)
    except (OSError, ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise ModelError(
            f"{folder} must hold an image classifier that transformers can load. Got: {reason}. "
            "Save it with save_pretrained, from a class such as ViTForImageClassification."
        ) from error
    return wrap(module, layer=layer, class_names=own_names(module), arch=arch, **processor_input(folder))
