"""Speed of training: `python benchmarks/train.py DATA [ARCH...]`.

An epoch of `slim.train_classifier` on images from disk, beside the loop of a tutorial (float32, a DataLoader with two
workers, a random crop and flip by torchvision), and beside the same training on recomposed images. All take turns in
one process, and the fastest of three rounds counts.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import numpy as np
import torch
from attend import rates
from PIL import Image
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from slim import TrainSettings, load_dataset, train_classifier
from slim.arrays import Bytes
from slim.data import ImageTable, Recomposition
from slim.network.architectures import create
from slim.network.devices import resolve_device
from slim.progress import quiet

IMAGES, SIZE, BATCH, ROUNDS = 384, 224, 32, 3
Colour = tuple[float, float, float]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ARCHITECTURES = ("resnet50", "tf_efficientnet_lite0")


class Photos(Dataset[Any]):
    """The images as a tutorial reads them."""

    def __init__(self, table: ImageTable, size: int = SIZE, mean: Colour = MEAN, std: Colour = STD) -> None:
        self.table = table
        self.view = v2.Compose(
            [
                v2.RandomResizedCrop(size, (0.7, 1)),
                v2.RandomHorizontalFlip(),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.view(Image.open(self.table.paths[index]).convert("RGB")), int(self.table.y[index])


def plain(table: ImageTable, arch: str) -> None:
    """An epoch of a plain loop."""
    device = resolve_device("auto")
    module = create(arch, table.n_classes, SIZE).to(device)
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9)
    for images, y in DataLoader(Photos(table), BATCH, shuffle=True, num_workers=2):
        optimizer.zero_grad()
        loss = cross_entropy(module(images.to(device)), y.to(device))
        loss.backward()
        optimizer.step()


def ours(table: ImageTable, val: ImageTable, arch: str, recomposition: Recomposition | None = None) -> None:
    """An epoch of SLIM's loop, with two images to validate on."""
    settings = TrainSettings(arch=arch, weights=None, image_size=SIZE, batch_size=BATCH, epochs=1, lr=1e-3)
    with quiet():
        train_classifier(table, val, settings, recomposition=recomposition)


def centres(n: int) -> Bytes:
    """Object maps of n images: the middle of each."""
    maps = np.zeros((n, 64, 64), np.uint8)
    maps[:, 16:48, 16:48] = 255
    return maps


def main(data: str, *architectures: str) -> None:
    """Print the rates, and their ratios to the plain loop and to SLIM's own training."""
    images = load_dataset(data)
    table = images.train[np.random.default_rng(0).permutation(len(images.train))[:IMAGES]]
    val = images.val[[0, len(images.val) - 1]]
    recomposition = Recomposition(centres(len(table)))
    for arch in architectures or ARCHITECTURES:
        found = rates(
            {
                "plain float32": partial(plain, table, arch),
                "slim train": partial(ours, table, val, arch),
                "slim recomposed": partial(ours, table, val, arch, recomposition),
            },
            len(table),
            ROUNDS,
        )
        for name, rate in found.items():
            of_plain, of_own = (rate / found[other] for other in ("plain float32", "slim train"))
            print(
                f"{arch:22} {name:16} {rate:7.1f} images/s {of_plain:6.2f} of plain {of_own:6.2f} of slim train",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
