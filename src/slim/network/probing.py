"""A look at a network that was trained elsewhere, before hours are spent on its attention."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from slim.data import ImageTable, image_batches
from slim.errors import ModelError, SlimWarning
from slim.network.classifier import Classifier
from slim.network.gradcam import GradCam

_IMAGES, _BATCH = 64, 8
# Of the largest logit: how far other kernels, or sums in another order, may take the logits of an image. Where every
# layer rounds to TF32, those of EfficientNet-Lite0, ResNet-50 and ViT-S/16 move by 0.002; with dropout 0.01, by 0.02.
_ROUNDING = 0.01


def probe(classifier: Classifier, table: ImageTable) -> None:
    """Try a classifier on some images.

    Parameters
    ----------
    classifier
        The network, whose outputs are the classes of the images.
    table
        The images, of which 64 are taken at equal distances.

    Raises
    ------
    ModelError
        Logits are not finite, differ from pass to pass, depend on the other images of a batch, or none of them depends
        on the attended layer.

    Warns
    -----
    SlimWarning
        All images are taken for one class, although their labels differ.

    Examples
    --------
    ``probe(slim.wrap(module), data.train)``
    """
    some = table[np.unique(np.linspace(0, len(table) - 1, _IMAGES).astype(np.int64))]
    predicted: list[int] = []
    steers = False
    with GradCam(classifier, "autograd", "32-true") as cam:
        for images, y, _ in image_batches(some, classifier.image_size, _BATCH):
            forward = cam(images)
            if not bool(forward.logits.isfinite().all()):
                raise ModelError(
                    "The network must give finite logits. Got NaN or infinite ones for images of the data set. "
                    "Check its weights, mean= and std=."
                )
            if not predicted:
                alone = cam(images[:1]).logits
                rounding = _ROUNDING * forward.logits.abs().max()
                _check_repeated(alone, cam(images[:1]).logits, rounding)
                _check_alone(forward.logits, alone, rounding)
            # Most heads show a gradient in the first batch, and the others need no further one.
            steers = steers or bool(forward.channel_weights(y.to(forward.logits.device)).any())
            predicted += forward.logits.argmax(1).tolist()
        # What the network keeps of a forward pass, such as a normed weight, has no gradient then and can be copied.
        with torch.no_grad():
            cam.classifier.module(classifier.normalize(images))
    if not steers:
        raise ModelError(
            "The logits must depend on the attended layer, or nothing can be said about where the network looks. "
            f"Got zero gradients at {classifier.layer} for {len(some)} images. Name another layer (--layer)."
        )
    if len(set(predicted)) == 1 and len(np.unique(some.y)) > 1:
        right = float(np.mean(some.y == predicted[0]))
        warnings.warn(
            f"The model takes all of {len(some)} images for class {classifier.class_names[predicted[0]]!r}, "
            f"which is right for {right:.0%}. Check its weights, mean and std, and the order of its classes.",
            SlimWarning,
            stacklevel=4,
        )


def _check_repeated(once: Tensor, again: Tensor, rounding: Tensor) -> None:
    """Refuse logits that are drawn at random, but not those of a GPU that adds up in another order each time."""
    if not bool(((once - again).abs() <= rounding).all()):
        raise ModelError(
            "The logits of an image must be the same each time. Got others in a second pass. Leave out what is random "
            "in evaluation mode, such as dropout(..., training=True)."
        )


def _check_alone(together: Tensor, alone: Tensor, rounding: Tensor) -> None:
    """Refuse logits (b, n_classes) of which the first image has others (1, n_classes) alone."""
    if not bool(((together[:1] - alone).abs() <= rounding).all()):
        raise ModelError(
            "The logits of an image must not depend on the other images in its batch. Got others for an image alone "
            f"than in a batch of {len(together)}. Let the network compute no statistics over a batch: batch norm, for "
            "instance, needs track_running_stats=True and a training that filled them."
        )
