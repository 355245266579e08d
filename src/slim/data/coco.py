"""Masks from a COCO annotation file, as CVAT, Roboflow, Label Studio or a segmentation network write it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from slim.arrays import Flags
from slim.data.benchmarks.copies import cache_folder
from slim.data.columns import listed
from slim.data.metadata import Rows
from slim.errors import DataError
from slim.files import file_digest, read_json, sync
from slim.optional import optional
from slim.progress import track


def is_coco(mask: str | None) -> bool:
    """Whether masks are named by a file, and not by a column."""
    return mask is not None and mask.lower().endswith(".json")


def with_coco_masks(rows: Rows, path: Path) -> tuple[Rows, Path]:
    """The rows with a mask for each image that the file has annotations of, and the folder that the masks are in.

    A mask is the union of an image's segmentations, or of its boxes where it has no segmentation. It becomes a file in
    the cache.

    Parameters
    ----------
    rows
        The images; a file's images are matched by name, whose leading folders may be missing.
    path
        The annotation file.

    Raises
    ------
    DataError
        It is no such file, it matches none of the images, or one of its names matches several.
    SlimError
        pycocotools is not installed.
    """
    optional("pycocotools.mask", "coco", "read COCO's annotations")
    content = read_json(path) if path.is_file() else None
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise DataError(
            f"{path} must be a COCO file with images and annotations. Got something else. "
            "Name a column of the table, or export the annotations as COCO."
        )
    positions = _positions([str(image["file_name"]) for image in content["images"]], rows.frame["file"].tolist(), path)
    by_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    folder = cache_folder() / "coco" / file_digest(path)
    masks = [""] * len(rows.frame)
    wanted = [(image, at) for image, at in zip(content["images"], positions, strict=True) if at is not None]
    for image, position in track(wanted, f"reading masks of {len(wanted)} images", total=len(wanted)):
        if by_image[image["id"]]:
            masks[position] = str(_mask_file(image, by_image[image["id"]], folder))
    return replace(rows, frame=rows.frame.assign(mask=masks)), folder


def _positions(names: Sequence[str], files: Sequence[str], path: Path) -> list[int | None]:
    """The row of each image of the file, by the end of its name; None for one that is not in the data."""
    by_name: dict[str, list[int]] = defaultdict(list)
    plain = [f"/{PurePosixPath(file.replace(chr(92), '/'))}" for file in files]
    for position, file in enumerate(plain):
        by_name[PurePosixPath(file).name].append(position)
    found: list[int | None] = []
    for name in names:
        end = f"/{PurePosixPath(name.replace(chr(92), '/'))}"
        same = by_name.get(PurePosixPath(end).name, [])
        matches = [at for at in same if plain[at].endswith(end) or end.endswith(plain[at])]
        if len(matches) > 1:
            raise DataError(
                f"An image of {path} must be one of the data. Got {name!r}, which may be {files[matches[0]]} or "
                f"{files[matches[1]]}. Write more of its folders into file_name."
            )
        found.append(matches[0] if matches else None)
    if not any(at is not None for at in found):
        raise DataError(
            f"{path} must have images of the data. Got {listed(list(names))}, none of which is there. "
            "Write the names of the files into file_name."
        )
    return found


def _mask_file(image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """The file of one image's mask, written where there is none yet."""
    path = folder / f"{image['id']}.png"
    if not path.exists():
        region = np.zeros((int(image["height"]), int(image["width"])), dtype=bool)
        for annotation in annotations:
            region |= _region(annotation, *region.shape)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.png")
        Image.fromarray(region.astype(np.uint8) * 255).save(partial)
        sync(partial)
        partial.replace(path)
    return path


def _region(annotation: Mapping[str, Any], height: int, width: int) -> Flags:
    """Where one annotation is: polygons, or counts along the columns (RLE), or a box."""
    from pycocotools import mask as coco

    shape = annotation.get("segmentation")
    if not shape:
        x, y, w, h = annotation["bbox"]
        shape = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    if isinstance(shape, list):
        shape = coco.merge(coco.frPyObjects(shape, height, width))
    elif isinstance(shape["counts"], list):
        shape = coco.frPyObjects(shape, height, width)
    return np.asarray(coco.decode(shape), dtype=bool)
