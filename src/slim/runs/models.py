"""Models by name: a run or saved classifier by its folder, a checkpoint by its file, ImageNet's by timm's names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import timm
from timm.data.config import resolve_model_data_config
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

from slim.errors import ModelError, first_line
from slim.network.architectures import create, head_name, packaged_weights
from slim.network.build import build, restore, wrap
from slim.network.checkpoints import read_state_dict
from slim.network.class_names import distinct_names
from slim.network.classifier import Classifier, default_names
from slim.stages.table import STAGES

_DESCRIPTION = "model.json"


def open_model(
    model: str | Path,
    *,
    arch: str | None = None,
    class_names: Sequence[str] | None = None,
    image_size: int | None = None,
    layer: str | None = None,
) -> Classifier:
    """Open a model that is named by a folder, a file, or a timm name.

    Parameters
    ----------
    model
        A run folder (its reference model), the folder of a saved classifier, a checkpoint, or a timm name.
    arch, class_names, image_size, layer
        For a checkpoint, as for `slim.restore`; classes are numbered by default. For a timm name, only `image_size` and
        `layer`.

    Raises
    ------
    ModelError
        There is no such model, or the checkpoint does not fit.
    """
    path = Path(model)
    if path.is_dir():
        return Classifier.load(_folder(path))
    if path.is_file():
        return _from_checkpoint(path, arch, class_names, image_size, layer)
    if timm.is_model(str(model)):
        return _from_timm(str(model), image_size, layer)
    raise ModelError(
        "A model must be a run folder, the folder of a saved classifier, a checkpoint, or a timm name. "
        f"Got {str(model)!r}, which is none of them. Check its name."
    )


def _folder(path: Path) -> Path:
    """The folder of the classifier in a run folder, or the folder itself."""
    inside = (path, path / STAGES["train"].folder, path / "model")
    found = next((folder for folder in inside if (folder / _DESCRIPTION).exists()), None)
    if found is None:
        raise ModelError(f"The folder of a model must hold {_DESCRIPTION}. Got none in {path}. Run: slim train {path}")
    return found


def _from_checkpoint(
    path: Path, arch: str | None, class_names: Sequence[str] | None, image_size: int | None, layer: str | None
) -> Classifier:
    if arch is None:
        raise ModelError(
            f"A checkpoint must come with its architecture. Got none for {path}. Add --arch NAME, or in Python "
            "pass slim.restore(path, arch, class_names)."
        )
    if class_names is None:
        class_names = default_names(_outputs(path, arch))
    return restore(path, arch, class_names, image_size=image_size, layer=layer)


def _outputs(path: Path, arch: str) -> int:
    """How many classes the head in a checkpoint has."""
    head = head_name(create(arch, 2, None))
    rows = {
        len(tensor) for name, tensor in read_state_dict(path).items() if f".{name}".endswith(f".{head}.weight") and head
    }
    if len(rows) != 1:
        raise ModelError(
            f"The classes of a checkpoint must be known. Got no head of {arch} in {path}. Name them (--classes)."
        )
    return rows.pop()


def _from_timm(name: str, image_size: int | None, layer: str | None) -> Classifier:
    """A timm network with its own weights and classes."""
    n = getattr(timm.get_pretrained_cfg(name), "num_classes", 0)
    if not n:
        raise ModelError(f"A model must have classes. Got {name}, whose weights have none. Choose another tag of it.")
    if packaged_weights(name) is not None:
        return build(name, _imagenet_names(n), image_size=image_size, layer=layer)
    try:
        module = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's client raises many kinds, each meaning that no weights came
        reason = first_line(error)
        raise ModelError(
            f"Weights of {name} must be downloaded from timm's hub. Got: {reason[:200]}. Connect to the internet, or "
            f"name a checkpoint and its --arch {name}."
        ) from error
    config = resolve_model_data_config(module)
    return wrap(
        module,
        layer=layer,
        image_size=image_size or config["input_size"][-1],
        mean=config["mean"],
        std=config["std"],
        class_names=_imagenet_names(n),
        arch=name,
    )


def _imagenet_names(n: int) -> tuple[str, ...]:
    """The names of ImageNet's classes, or numbers for another set of n."""
    subset = infer_imagenet_subset({"num_classes": n})
    if subset is None:
        return default_names(n)
    info = ImageNetInfo(subset)
    return distinct_names([info.index_to_description(i).partition(",")[0] for i in range(n)])
