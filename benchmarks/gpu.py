"""What a GPU is to be checked for: `python benchmarks/gpu.py DATA`; see gpu.sh.

Maps on the GPU beside those on the CPU, in float32 and bfloat16, then the rates of attend, train and recomposed
training beside the bare forward pass and a plain loop.
"""

from __future__ import annotations

import sys

import attend
import torch
import train

from slim import AttendSettings, attend_split, load_dataset
from slim.network.build import build
from slim.network.devices import resolve_device
from slim.progress import quiet

IMAGES = 64


def compare_maps(data: str) -> None:
    """Print the largest and the mean difference between maps of both devices."""
    table = load_dataset(data).train[:IMAGES]
    model = build("resnet50", table.class_names, weights=None, image_size=224)
    with quiet():
        expected = attend_split(model, table, AttendSettings(precision="32-true")).maps
        model.to(resolve_device("auto"))
        for precision in ("32-true", "bf16-mixed"):
            found = attend_split(model, table, AttendSettings(precision=precision)).maps
            difference = abs(found - expected)
            print(f"maps in {precision:10} largest difference {difference.max():.1e}, mean {difference.mean():.1e}")


def main(data: str) -> None:
    """Print everything."""
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: everything runs on the CPU")
    compare_maps(data)
    attend.main(data, "resnet50", "convnext_tiny", "vit_small_patch16_224")
    train.main(data, "resnet50")


if __name__ == "__main__":
    main(*sys.argv[1:])
