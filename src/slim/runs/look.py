"""`look`: where a model looks in any images, with or without a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from slim.arguments import checked
from slim.arrays import Bytes, Ints
from slim.data import ImageTable
from slim.data.pixels import read_image, squared
from slim.errors import DataError, ModelError
from slim.metrics import adjusted_iou, intersection_over_union
from slim.network.build import wrap
from slim.network.classifier import Classifier
from slim.network.gradcam import ForwardPass, GradCam, upsample
from slim.network.look import Look, Looks, region_of
from slim.runs.models import open_model

Photo = str | Path | Image.Image
_BATCH_SIZE = 16


@checked
def look(
    model: Classifier | nn.Module | str | Path,
    images: Photo | Sequence[Photo] | ImageTable,
    *,
    explain: str = "label",
    objects: Bytes | None = None,
) -> Looks:
    """Compute where a model looks in some images, and what it predicts; no run is needed.

    Parameters
    ----------
    model
        A classifier, any torch module that takes 224 x 224 pixels normalised as for ImageNet (for others, pass
        `slim.wrap(module, ...)`), a timm name with its ImageNet weights, a run folder (its reference model), or the
        folder of a saved classifier.
    images
        One or several files or PIL images, or a table, whose labels, masks and boxes are shown as well.
    explain
        The class that the maps explain: the "label" if there is one and otherwise the predicted class, the "predicted"
        class, or a class by its name.
    objects
        (n, h, w) object maps of the table, above 127 = the object, as in `slim.ObjectMaps`; they are shown in place of
        masks.

    Returns
    -------
    Looks
        Index it for one image: ``.image()`` is a picture, ``.show()`` shows it.

    Raises
    ------
    ModelError
        There is no such model or class, or its outputs are not the classes of the table.
    DataError
        An image cannot be read, or is no file and no PIL image.

    Notes
    -----
    Each image is resized to the network's square input as a whole, as in every stage, and not cropped.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> (seen,) = look(wrap(net, image_size=32, class_names=["cat", "dog"]), Image.new("RGB", (80, 60)))
    >>> seen.prediction in ("cat", "dog"), seen.map.shape, seen.image(100).size
    (True, (30, 30), (431, 164))
    """
    if isinstance(model, (str, Path)):
        model = open_model(model)
    classifier = model if isinstance(model, Classifier) else wrap(model)
    several = images if isinstance(images, ImageTable) else _listed(images)
    return Looks(list(looks(classifier, several, explain=explain, objects=objects)))


def _listed(images: Photo | Sequence[Photo]) -> list[Photo]:
    """One or several images as a list."""
    if isinstance(images, Iterable) and not isinstance(images, (str, Image.Image)):
        return list(images)
    return [images]


def _square(source: Photo, size: int) -> Bytes:
    """A file or an image as a network sees it, (size, size, 3)."""
    if isinstance(source, Image.Image):
        return squared(source.convert("RGB"), size)
    if not isinstance(source, (str, Path)):
        raise DataError(
            f"An image must be a file or a PIL image. Got {type(source).__name__}. "
            "Make one of an array (height, width, 3) of bytes: PIL.Image.fromarray(array)."
        )
    return squared(read_image(str(source), size), size)


def looks(
    classifier: Classifier,
    images: Sequence[Photo] | ImageTable,
    *,
    explain: str = "label",
    objects: Bytes | None = None,
) -> Iterator[Look]:
    """One look after the other, computed in small batches as they are taken; see `look`."""
    table, sources = (images, images.paths) if isinstance(images, ImageTable) else (None, images)
    if table is not None:
        classifier = classifier.for_classes(table.class_names)
    if explain not in ("label", "predicted", *classifier.class_names):
        known = ", ".join(classifier.class_names[:5])
        raise ModelError(
            f"The class to explain must be one of the model's, such as {known}. Got {explain!r}. Name one of them."
        )
    if objects is not None and len(objects) != len(sources):
        raise DataError(f"Each of the {len(sources)} images must have an object map. Got {len(objects)}. Check both.")
    with GradCam(classifier) as cam:
        for start in range(0, len(sources), _BATCH_SIZE):
            some = sources[start : start + _BATCH_SIZE]
            yield from _batch(cam, some, start + np.arange(len(some)), table, explain, objects)


def _batch(
    cam: GradCam,
    sources: Sequence[Photo],
    index: Ints,
    table: ImageTable | None,
    explain: str,
    objects: Bytes | None,
) -> Iterator[Look]:
    """The looks at one batch."""
    names, size = cam.classifier.class_names, cam.classifier.image_size
    pixels = np.stack([_square(one, size) for one in sources])
    seen = cam(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    probabilities = seen.logits.detach().float().nan_to_num(0.0, 0.0, 0.0).softmax(1).cpu().numpy()
    predicted = probabilities.argmax(1)
    classes = predicted if table is None or explain == "predicted" else table.y[index]
    if explain not in ("label", "predicted"):
        classes = np.full(len(index), names.index(explain))
    maps = seen.maps(torch.from_numpy(classes).to(seen.logits.device)).detach().cpu().numpy()
    regions = [(None, "") if table is None else region_of(table, int(i), size) for i in index]
    aiou = {} if table is None else _aiou(seen, [region for region, _ in regions], table.y[index], size)
    for row, i in enumerate(index):
        source = sources[row]
        region, kind = regions[row] if objects is None else (np.asarray(objects[i]), "object map")
        yield Look(
            source=source if isinstance(source, Image.Image) else str(source),
            map=maps[row],
            explained=names[classes[row]],
            prediction=names[predicted[row]],
            confidence=float(probabilities[row, predicted[row]]),
            label=None if table is None else names[table.y[i]],
            region=region,
            region_kind=kind,
            aiou=aiou.get(row),
        )


def _aiou(seen: ForwardPass, masks: Sequence[Bytes | None], y: Ints, size: int) -> dict[int, float]:
    """AIoU of the images that have a mask, by their place in the batch, as `evaluate` measures it."""
    rows = [row for row, mask in enumerate(masks) if mask is not None]
    if not rows:
        return {}
    device = seen.logits.device
    objects = torch.from_numpy(np.stack([mask > 127 for mask in masks if mask is not None])).to(device)
    ious = []
    for k in range(seen.logits.shape[1]):
        classes = torch.full((len(masks),), k, device=device)
        ious.append(intersection_over_union(upsample(seen.maps(classes)[rows], size).detach(), objects))
    values = adjusted_iou(torch.stack(ious, 1).nan_to_num().cpu().double().numpy(), y[rows])
    return {row: float(value) for row, value in zip(rows, values, strict=True) if np.isfinite(value)}
