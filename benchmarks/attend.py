"""Speed of `slim.attend_split` beside the bare forward pass: `python benchmarks/attend.py DATA [ARCH...]`.

`attend_split` decodes the images, runs the network and writes its arrays to a folder. The bare pass is the same
network, eager, in bfloat16 and channels last, on tensors in memory. Captum and pytorch-grad-cam, where they are
installed, compute their maps from these tensors as their users do: in float32, for the label. All take turns in one
process, and the fastest of three rounds counts.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from slim import AttendSettings, attend_split, load_dataset
from slim.data import ImageTable, image_batches
from slim.network.build import build
from slim.network.classifier import Classifier
from slim.network.devices import resolve_device
from slim.progress import quiet

IMAGES, ROUNDS = 192, 3
ARCHITECTURES = ("resnet50", "convnext_tiny", "vit_small_patch16_224")
Job = Callable[[], object]


def jobs(table: ImageTable, model: Classifier) -> dict[str, Job]:
    """What is measured, by name; each does all images once."""
    settings = AttendSettings(precision="bf16-mixed")
    read = list(image_batches(table, model.image_size, settings.batch_size))
    batches = [(model.normalize(images), y) for images, y, _ in read]

    def bare() -> None:
        with torch.inference_mode(), torch.autocast(model.device.type, dtype=torch.bfloat16):
            for inputs, _ in batches:
                model.module(inputs)
        _finish()

    def attend() -> None:
        with tempfile.TemporaryDirectory() as folder, quiet():
            attend_split(model, table, settings, folder=folder)

    others = {"captum": _captum, "pytorch_grad_cam": _grad_cam} if model.layer == "layer4" else {}
    made = {package: make(model, batches) for package, make in others.items() if find_spec(package)}
    return {"bare forward": bare, "slim attend": attend} | made


def _captum(model: Classifier, batches: Sequence[tuple[Tensor, Tensor]]) -> Job:
    from captum.attr import LayerGradCam

    cam = LayerGradCam(model.module, model.module.get_submodule(model.layer))
    return lambda: [cam.attribute(inputs, target=y) for inputs, y in batches]


def _grad_cam(model: Classifier, batches: Sequence[tuple[Tensor, Tensor]]) -> Job:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = GradCAM(model.module, [model.module.get_submodule(model.layer)])
    return lambda: [cam(inputs, [ClassifierOutputTarget(int(label)) for label in y]) for inputs, y in batches]


def _finish() -> None:
    """Wait until a GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rates(todo: dict[str, Job], images: int, rounds: int) -> dict[str, float]:
    """Images per second of each job in its fastest round."""
    seconds = dict.fromkeys(todo, float("inf"))
    for _ in range(rounds):
        for name, job in todo.items():
            start = time.perf_counter()
            job()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return {name: images / spent for name, spent in seconds.items()}


def main(data: str, *architectures: str) -> None:
    """Print the rates, and their ratios to the bare forward pass."""
    table = load_dataset(data).train[:IMAGES]
    for arch in architectures or ARCHITECTURES:
        model = build(arch, table.class_names, weights=None, image_size=224)
        model.to(resolve_device("auto")).module.to(memory_format=torch.channels_last)
        found = rates(jobs(table, model), len(table), ROUNDS)
        for name, rate in found.items():
            print(f"{arch:22} {name:16} {rate:7.1f} images/s {rate / found['bare forward']:6.2f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
