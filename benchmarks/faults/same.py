"""Same seed, same result? One small run again and again, with one thing changed each time.

python benchmarks/faults/same.py FOLDER

FOLDER receives a small data set and the runs: on one thread in float32 twice, with the rows of the table shuffled,
with the files written in another order, on two and on four threads, and in bfloat16. Prints how many files of the
results are equal byte for byte, and how far scores, subset, predictions and accuracies are from those of the first.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from small import forked, results, slim_run, small_data

import slim

FLOAT32 = {f"{stage}.precision": "32-true" for stage in ("train", "attend", "evaluate")}
BFLOAT16 = dict.fromkeys(FLOAT32, "bf16-mixed")


def shuffled_rows(data: Path, rng: random.Random) -> None:
    """The same table in another order."""
    rows = pd.read_csv(data / "metadata.csv", dtype=str)
    rows.sample(frac=1, random_state=rng.randrange(1000)).to_csv(data / "metadata.csv", index=False)


def shuffled_files(data: Path, rng: random.Random) -> None:
    """The same files, written in another order."""
    files = [(file, file.read_bytes()) for file in sorted(data.rglob("*.*"))]
    for file, _ in files:
        file.unlink()
    rng.shuffle(files)
    for file, content in files:
        file.write_bytes(content)


def differences(run: Path, first: Path) -> str:
    """How far a run is from another one."""
    ours, theirs = results(run), results(first)
    equal = sum(ours.get(name) == content for name, content in theirs.items())
    a, b = slim.open_run(run), slim.open_run(first)
    scores = np.nanmax(np.abs(a.load("propagate").values - b.load("propagate").values))
    chosen = [set(one.load("curate").frame["index"]) for one in (a, b)]
    shared = len(chosen[0] & chosen[1]) / len(chosen[0] | chosen[1])
    said = f"{equal} of {len(theirs)} files equal; scores differ by {scores:.2g}; subsets share {shared:.0%}"
    for key in ("reference", "retrained"):
        one, other = (opened.load("evaluate")[key] for opened in (a, b))
        moved = float((one.predictions != other.predictions).mean())
        gap = one.worst_group_accuracy - other.worst_group_accuracy
        average = one.average_accuracy - other.average_accuracy
        said += (
            f"; {key}: {moved:.1%} of predictions, worst group {100 * gap:+.1f}, average {100 * average:+.1f} points"
        )
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    data, original = folder / "data", folder / "original"
    if not original.exists():
        shutil.move(small_data(data), original)
    rng = random.Random(0)

    def keep(_data: Path, _rng: random.Random) -> None:
        """Leave the data as they are."""

    variants: dict[str, tuple[Callable[[Path, random.Random], None], int, dict[str, str]]] = {
        "first": (keep, 1, FLOAT32),
        "the same again": (keep, 1, FLOAT32),
        "rows shuffled": (shuffled_rows, 1, FLOAT32),
        "files shuffled": (shuffled_files, 1, FLOAT32),
        "2 threads": (keep, 2, FLOAT32),
        "4 threads": (keep, 4, FLOAT32),
        "bfloat16": (keep, 1, BFLOAT16),
    }
    print(f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} processors")
    for name, (change, threads, settings) in variants.items():
        run, answer = folder / name.replace(" ", "-"), folder / "said.txt"
        for old in (run, data):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(original, data)
        change(data, rng)

        def work(run: Path = run, threads: int = threads, settings: dict[str, str] = settings) -> str:
            result = slim_run(run, data, threads=threads, settings=settings)
            assert result.exit_code == 0, result.output
            return differences(run, folder / "first")

        os.waitpid(forked(work, answer), 0)
        print(f"{name}: {answer.read_text()}", flush=True)
        answer.unlink()


if __name__ == "__main__":
    main()
