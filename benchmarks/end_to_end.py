"""Time and memory of each stage at Waterbirds' size: `python benchmarks/end_to_end.py OBJECTS SCENES [SHARE] [FIGURE]`.

4,795 images of train, 1,199 of val and 5,794 of test, or a SHARE of them, are composed at 224 px. ResNet-50 is trained
from random values for an epoch; then a run adopts it, and retrains its last stage on recomposed images for an epoch.
Memory is the largest of the process during a stage, pages of files included; the libraries alone take 0.5 GB.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import matplotlib.pyplot as plt

from slim import ComposeSettings, TrainSettings, compose, load_dataset, train_classifier
from slim.progress import quiet
from slim.runs.run import open_run
from slim.stages import STAGES

SIZES = (4795, 1199, 5794)  # train, val and test of Waterbirds
SIDE, BATCH = 224, 32
RETRAINED = {"mode": "full", "images": "recomposed", "start": "reference"}


class Meter:
    """What the blocks of a run took: seconds and the largest resident memory in bytes, by name; printed as they end."""

    def __init__(self) -> None:
        self.taken: dict[str, tuple[float, int]] = {}

    def __call__(self, name: str) -> Meter:
        self._name = name
        return self

    def __enter__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        self._start = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
        assert peak is not None
        seconds, memory = time.perf_counter() - self._start, 1024 * int(peak[1])
        self.taken[self._name] = seconds, memory
        print(f"{self._name:10} {seconds:8.1f} s {memory / 1e9:6.2f} GB", flush=True)


def measured(objects: str, scenes: str, share: float, folder: Path) -> dict[str, tuple[float, int]]:
    """Seconds and bytes of each stage."""
    meter = Meter()
    train, val, test = (round(share * size) for size in SIZES)
    with quiet():
        with meter("compose"):
            compose(
                objects,
                scenes,
                folder / "data",
                ComposeSettings(side=SIDE, train=train, val=val, test=test, views=True),
            )
        data = load_dataset(folder / "data")
        training = TrainSettings(arch="resnet50", weights=None, image_size=SIDE, batch_size=BATCH, epochs=1)
        with meter("train"):
            reference = train_classifier(data.train, data.val, training)
        settings = {
            "train": {**asdict(training), "trainable": "last-stage"},
            "retrain": RETRAINED,
        }
        run = open_run(folder / "run", data=data, reference=reference, settings=settings)
        for verb in STAGES:
            with meter("adopt" if verb == "train" else verb):
                run.stage(verb)
    return meter.taken


def draw(taken: dict[str, tuple[float, int]], title: str, path: str) -> None:
    """A bar per stage for its time and one for its memory."""
    plt.rcParams["svg.fonttype"] = "none"
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    names = list(taken)[::-1]
    for axis, label, values in (
        (axes[0], "seconds", [taken[name][0] for name in names]),
        (axes[1], "GB at the peak", [taken[name][1] / 1e9 for name in names]),
    ):
        axis.bar_label(axis.barh(names, values, color="#3b6ea5"), fmt="%.1f", padding=2, fontsize=8)
        axis.set_xlabel(label)
        axis.margins(x=0.12)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def main(objects: str, scenes: str, share: str = "1", figure: str = "") -> None:
    """Measure what each stage takes, and draw it."""
    with tempfile.TemporaryDirectory() as folder:
        taken = measured(objects, scenes, float(share), Path(folder))
    if figure:
        draw(taken, f"ResNet-50, {float(share):.0%} as many images as in Waterbirds, 224 px", figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
