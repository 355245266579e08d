"""What every test of a network looks at: its outputs."""

from __future__ import annotations

import torch
from torch import Tensor

from slim.network.classifier import Classifier
from slim.network.tracing import evaluating

NAMES = ["cat", "dog"]


def outputs(classifier: Classifier, size: int | None = None) -> Tensor:
    size = size or classifier.image_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=generator)
    with torch.no_grad(), evaluating(classifier.module):
        return classifier.module(classifier.normalize(images))
