"""Time and memory of the stages that work on arrays, at a million images: `python benchmarks/scale.py [N] [D]`.

Features are random, with classes and environments that can be told apart, and lie in files, in as few bits as those of
a run; places are random bits. Each stage runs in a process of its own. Memory is what the process adds to the
libraries, the pages of the files that it has read included, which the system takes back when it needs them; "of its
own" are those that are not in files.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from slim.localization import PlaceAnswers, fit_localizer
from slim.network.places import COMPONENTS, GRID
from slim.quantized import Quantized, Vectors, level_type, step_type, to_steps
from slim.stages.curate.curate import choose_subset
from slim.stages.curate.factors import Mistakes, Source
from slim.stages.settings import CurateSettings

CLASSES, SUBSET, VAL, CHUNK = 10, 1000, 10_000, 20_000
ANSWERS, SAMPLE = 40, 300


def make(folder: Path, n: int, d: int) -> None:
    """Features of n images whose environment goes with the class in nine of ten."""
    rng = np.random.default_rng(0)
    looks, scenes = rng.normal(size=(CLASSES, d)), rng.normal(size=(4, d))
    y = rng.integers(CLASSES, size=n)
    place = np.where(rng.random(n) < 0.9, y % 4, rng.integers(4, size=n))
    np.save(folder / "y.npy", y)
    np.save(folder / "wrong.npy", (place != y % 4) & (rng.random(n) < 0.8))
    for name, bits, centres, which in (
        ("core", 4, looks, y),
        ("environment", 4, scenes, place),
        ("features", 8, looks, y),
    ):
        array = open_memmap(folder / f"{name}.npy", "w+", step_type(d, bits), (n,))
        for start in range(0, n, CHUNK):
            part = which[start : start + CHUNK]
            array[start : start + CHUNK] = to_steps(centres[part] + rng.normal(size=(len(part), d)), bits)


def make_places(folder: Path, n: int) -> None:
    """Places of n images, of which every answer takes some for the object."""
    rng = np.random.default_rng(0)
    array = open_memmap(folder / "places.npy", "w+", level_type(COMPONENTS), (n, GRID, GRID))
    for start in range(0, n, CHUNK):
        some = array["nibbles"][start : start + CHUNK]
        some[:] = rng.integers(256, size=some.shape, dtype=np.uint8)


def curate(folder: Path) -> list[Vectors]:
    """The subset of a thousand images; returns what it has read."""
    arrays = {
        name: Quantized(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ("core", "environment", "features")
    }
    y, wrong = np.load(folder / "y.npy"), np.load(folder / "wrong.npy")
    rng = np.random.default_rng(1)
    val: dict[Source, Vectors] = {"environment": arrays["environment"][:VAL], "features": arrays["features"][:VAL]}
    mistakes = Mistakes(val, y[:VAL], wrong[:VAL], rng.normal(size=(CLASSES, arrays["features"].shape[1])))
    plane = np.zeros((len(y), 2), np.float32)
    choose_subset(
        arrays["core"],
        arrays["environment"],
        (plane, plane),
        rng.random(len(y)),
        y,
        CurateSettings(size=SUBSET),
        features=arrays["features"],
        mistakes=mistakes,
    )
    return list(arrays.values())


def score(folder: Path) -> list[Vectors]:
    """How likely each place of all images is the object, from forty answers: what object maps are drawn from."""
    places = Quantized(np.load(folder / "places.npy", mmap_mode="r"))
    rng = np.random.default_rng(1)
    judged, where = places[:ANSWERS], np.full((ANSWERS, 4), np.nan)
    where[:, :2], where[:, 2:] = rng.random((ANSWERS, 2)), 0
    answers = PlaceAnswers.from_judgements(judged, rng.random((ANSWERS, 7, 7)), np.zeros(ANSWERS, bool), where)
    fit_localizer(answers, places[:SAMPLE]).scores(places)
    return [places]


STAGES: dict[str, Callable[[Path], list[Vectors]]] = {"curate": curate, "object maps": score}


def measure(stage: str, folder: Path) -> None:
    """Run one stage in this process and print its line."""
    before, start = status(), time.perf_counter()
    read = STAGES[stage](folder)
    seconds, after = time.perf_counter() - start, status()
    del read  # until here, so that its pages count as those of files
    peak, files = after["VmHWM"] - before["VmRSS"], after["RssFile"] - before["RssFile"]
    print(f"{stage:11} {seconds:6.1f} s, {peak / 1e6:.1f} GB at the peak, {(peak - files) / 1e6:.1f} GB of its own")


def status() -> dict[str, int]:
    """Memory of this process in KB, by Linux' names."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    return {line[0].rstrip(":"): int(line[1]) for line in lines if line[-1] == "kB"}


def main(n: int = 1_000_000, d: int = 512) -> None:
    """Make the features once, then measure each stage."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), n, d)
        make_places(Path(folder), n)
        print(f"{n:,} images x {d} features, {CLASSES} classes, a subset of {SUBSET}", flush=True)
        for stage in STAGES:
            subprocess.run([sys.executable, __file__, "--stage", stage, folder], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--stage"]:
        measure(sys.argv[2], Path(sys.argv[3]))
    else:
        main(*map(int, sys.argv[1:]))
