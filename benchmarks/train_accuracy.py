"""Accuracy of training in bfloat16: `python benchmarks/train_accuracy.py DATA [SEEDS]`.

The network that `slim.train_classifier` trains in bfloat16, channels last, beside the one that a tutorial's loop trains
in float32 (benchmarks/train.py): the same ImageNet weights, images, optimizer, schedule and number of epochs, with each
side's own order and augmentation. Prints the test accuracy of both for each seed, and the mean difference with its
95 % interval. A processor without bfloat16 instructions emulates them, slowly.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from scipy import stats
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from train import Photos

from slim import TrainSettings, load_dataset, train_classifier
from slim.data import ImageTable, image_batches
from slim.network.build import build
from slim.network.classifier import Classifier
from slim.network.devices import resolve_device
from slim.progress import quiet

IMAGES, SIZE = 1000, 64
SETTINGS = TrainSettings(
    image_size=SIZE, epochs=2, warmup=0, select_by="last", augmentation="light", precision="bf16-mixed"
)


def plain(table: ImageTable, seed: int) -> Classifier:
    """A network trained by a plain loop in float32."""
    torch.manual_seed(seed)
    device = resolve_device("auto")
    network = build(SETTINGS.arch, table.class_names, weights=SETTINGS.weights, image_size=SIZE).to(device)
    photos = DataLoader(
        Photos(table, SIZE, network.mean, network.std), SETTINGS.batch_size, shuffle=True, num_workers=2
    )
    optimizer = torch.optim.SGD(
        network.module.parameters(), SETTINGS.lr, momentum=SETTINGS.momentum, weight_decay=SETTINGS.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, SETTINGS.epochs * len(photos))
    network.module.train()
    for _ in range(SETTINGS.epochs):
        for images, y in photos:
            optimizer.zero_grad()
            cross_entropy(network.module(images.to(device)), y.to(device)).backward()
            optimizer.step()
            schedule.step()
    return network


def accuracy(network: Classifier, table: ImageTable) -> float:
    """Share of the images that a network is right about, in float32."""
    network.module.eval()
    with torch.inference_mode():
        right = [
            (network.module(network.normalize(images)).argmax(1).cpu() == y).sum().item()
            for images, y, _ in image_batches(table, SIZE)
        ]
    return sum(right) / len(table)


def main(data: str, seeds: int = 5) -> None:
    """Print the accuracies and their difference."""
    images = load_dataset(data)
    table = images.train[np.sort(np.random.default_rng(0).permutation(len(images.train))[:IMAGES])]
    differences = []
    for seed in range(seeds):
        with quiet():
            ours = train_classifier(table, images.val, SETTINGS, seed=seed)
        found = accuracy(ours, images.test), accuracy(plain(table, seed), images.test)
        differences.append(100 * (found[0] - found[1]))
        print(f"seed {seed}: slim, bfloat16 {found[0]:.3f}; plain, float32 {found[1]:.3f}", flush=True)
    half = stats.t.ppf(0.975, seeds - 1) * stats.sem(differences) if seeds > 1 else float("nan")
    print(f"difference {np.mean(differences):+.1f} points, 95 % interval ± {half:.1f}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
