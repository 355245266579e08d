"""What an image processor of transformers does to images, from the file that it saves beside a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slim.errors import ModelError
from slim.files import read_json

_FILE = "preprocessor_config.json"


def processor_input(folder: Path) -> dict[str, Any]:
    """``image_size``, ``mean`` and ``std`` of the input of a model that transformers saved in a folder.

    Raises
    ------
    ModelError
        The folder does not say how images are normalised, or images are not scaled to [0, 1] first.
    """
    if not (folder / _FILE).is_file():
        raise ModelError(
            f"{folder} must hold {_FILE}, which says how images are normalised. Got none. "
            "Save the image processor too: processor.save_pretrained(folder)."
        )
    known = _input_of(read_json(folder / _FILE), folder)
    size = known["image_size"] or read_json(folder / "config.json").get("image_size")
    return known | {"image_size": size if isinstance(size, int) else 224}


def _input_of(processor: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Size, mean and standard deviation from the settings of an image processor."""
    factor = processor.get("rescale_factor") or 1 / 255
    rescaled = (
        processor.get("do_rescale", True) and abs(factor * 255 - 1) < 1e-3 and not processor.get("rescale_offset")
    )
    if not rescaled:
        raise ModelError(
            f"The image processor of {folder} must scale bytes to [0, 1]. Got rescale_factor {factor:g}"
            f"{' with an offset' if processor.get('rescale_offset') else ''}. "
            "Pass mean and std for images in [0, 1] instead: slim.wrap(model, mean=..., std=...)."
        )
    normalized = processor.get("do_normalize", True) and processor.get("image_mean") is not None
    mean, std = (processor["image_mean"], processor["image_std"]) if normalized else ([0.0] * 3, [1.0] * 3)
    cropped = processor.get("crop_size") if processor.get("do_center_crop") else None
    return {"image_size": _side(cropped or processor.get("size")), "mean": mean, "std": std}


def _side(size: Any) -> int | None:
    """The side of a square from the ways in which image processors say it."""
    if isinstance(size, Mapping):
        size = size.get("height") or size.get("shortest_edge")
    return int(size) if size else None
