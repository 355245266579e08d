"""Masks from a COCO annotation file, as CVAT, Roboflow, Label Studio or a segmentation network write it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from slim.arrays import Flags
from slim.data.columns import listed
from slim.data.metadata import Rows
from slim.errors import ArtifactError, DataError, first_line
from slim.files import MALFORMED, cache_folder, file_digest, made_once, read_json, sync
from slim.optional import optional
from slim.progress import track


def is_coco(mask: str | None) -> bool:
    """Whether masks are named by a file, and not by a column."""
    return mask is not None and mask.lower().endswith(".json")


def with_coco_masks(rows: Rows, path: Path) -> tuple[Rows, Path]:
    """The rows with a mask for each image that the file has annotations of, and the folder of all files' masks.

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
        It is no such file, or one whose annotations have no shape, it matches none of the images, or one of its names
        matches several.
    SlimError
        pycocotools is not installed.
    """
    optional("pycocotools.mask", "coco", "read COCO's annotations")
    content = _content(path)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise DataError(
            f"{path} must be a COCO file with images and annotations. Got something else. "
            "Name a column of the table, or export the annotations as COCO."
        )
    images, by_image = _images_and_annotations(content, path)
    positions = _positions([str(image["file_name"]) for image in images], rows.frame["file"].tolist(), path)
    folder = cache_folder() / "coco" / file_digest(path)
    masks = [""] * len(rows.frame)
    wanted = [(image, at) for image, at in zip(images, positions, strict=True) if at is not None]
    for image, position in track(wanted, f"reading masks of {len(wanted)} images", total=len(wanted)):
        if by_image[str(image["id"])]:
            try:
                masks[position] = str(_mask_file(image, by_image[str(image["id"])], folder))
            except MALFORMED as error:
                raise _malformed(
                    path, f"{type(error).__name__}: {first_line(error)} for {image['file_name']}"
                ) from error
    # Relative to that folder, a mask is named after the content of the file: other annotations are other masks.
    return replace(rows, frame=rows.frame.assign(mask=masks)), folder.parent


def _content(path: Path) -> Any:
    """What a JSON file holds; None without one."""
    try:
        return read_json(path) if path.is_file() else None
    except ArtifactError as error:
        raise _malformed(path, "a file that is no JSON") from error


def _images_and_annotations(
    content: Mapping[str, Any], path: Path
) -> tuple[list[Mapping[str, Any]], dict[str, list[Mapping[str, Any]]]]:
    """The images that have a name, and the annotations of each by its number, which some programs write as text."""
    by_image: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    try:
        images: list[Mapping[str, Any]] = list(content["images"])
        for image in images:
            _ = image["file_name"], image["id"]
        for annotation in content["annotations"]:
            by_image[str(annotation["image_id"])].append(annotation)
    except MALFORMED as error:
        raise _malformed(path, f"{type(error).__name__}: {first_line(error)}") from error
    return images, by_image


def _malformed(path: Path, got: str) -> DataError:
    """The error of a file that no program should have written."""
    return DataError(
        f"{path} must be a COCO file, whose images have file_name, id, height and width, and whose annotations have "
        f"image_id and polygons, RLE or bbox. Got {got}. Export it again."
    )


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
                f"An image of {path} must match one image of the data set. Got {name!r}, which may be "
                f"{files[matches[0]]} or {files[matches[1]]}. Write more of its folders into file_name."
            )
        found.append(matches[0] if matches else None)
    if not any(at is not None for at in found):
        raise DataError(
            f"{path} must have images of the data set. Got {listed(list(names))}, none of which is there. Write the "
            "names of the files into file_name."
        )
    return found


def _mask_file(image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """The file of one image's mask, written where there is none yet."""
    path = folder / f"{hashlib.sha256(str(image['id']).encode()).hexdigest()[:16]}.png"  # whatever the text
    if not path.exists():
        region = np.zeros((int(image["height"]), int(image["width"])), dtype=bool)
        for annotation in annotations:
            region |= _region(annotation, *region.shape)
        with made_once(path) as partial:
            Image.fromarray(region.astype(np.uint8) * 255).save(partial, "PNG")
            sync(partial)
    return path


def _region(annotation: Mapping[str, Any], height: int, width: int) -> Flags:
    """Where one annotation is: polygons, or counts along the columns (RLE), or a box."""
    from pycocotools import mask as coco

    shape = annotation.get("segmentation")
    if isinstance(shape, list):  # fewer than three corners have no area
        shape = [corners for corners in shape if len(corners) >= 6]
    if not shape:
        x, y, w, h = annotation["bbox"]
        shape = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    if isinstance(shape, list):
        shape = coco.merge(coco.frPyObjects(shape, height, width))
    elif isinstance(shape["counts"], list):
        shape = coco.frPyObjects(shape, height, width)
    return np.asarray(coco.decode(shape), dtype=bool)
