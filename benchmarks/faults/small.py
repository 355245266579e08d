"""A small run whose faults are provoked: 96 photographs of the demo and a network without pretraining."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

os.environ["NUMBA_THREADING_LAYER"] = "workqueue"  # the only one that a forked process may use

import pandas as pd
import torch
from click.testing import CliRunner, Result

from slim.cli.main import main
from slim.data.demo import compose_demo

_SIZES = {"train": 48, "val": 24, "test": 24}
_SETTINGS = {
    "train.arch": "test_resnet",
    "train.weights": "none",
    "train.image-size": "32",
    "train.epochs": "2",
    "train.lr": "0.01",
    "train.device": "cpu",
    "annotate.budget": "4",
    "curate.size": "12",
    "retrain.images": "recomposed",
}


def small_data(folder: Path) -> Path:
    """The demo's data set, cut to a few photographs of each split."""
    compose_demo(folder)
    table = pd.read_csv(folder / "metadata.csv")
    mixed = table.sample(frac=1, random_state=0)
    mixed[mixed.groupby("split").cumcount() < mixed["split"].map(_SIZES)].to_csv(folder / "metadata.csv", index=False)
    return folder


def slim_run(run: Path, data: Path | None = None) -> Result:
    """``slim run`` in this process, on one thread."""
    torch.set_num_threads(1)
    options = [word for name, value in _SETTINGS.items() for word in (f"--{name}", value)]
    words = [] if data is None else ["--data", str(data), *options]
    return CliRunner().invoke(main, ["run", str(run), *words], prog_name="slim")


def results(run: Path) -> dict[str, bytes]:
    """The content of every file whose content is meant to be equal after every fault: those without times."""
    files = [path for pattern in ("*.npy", "*.csv", "record.json", "model.*") for path in run.glob(f"0*/**/{pattern}")]
    return {str(path.relative_to(run)): path.read_bytes() for path in files if path.name != "history.csv"}


def leftovers(run: Path) -> list[str]:
    """What a finished run must not hold: half-written files, SQLite's helpers, tracebacks in the log."""
    patterns = ("*.partial", "*-wal", "*-shm")
    found = [str(path.relative_to(run)) for pattern in patterns for path in run.rglob(pattern)]
    return sorted(found + [log.name for log in run.glob("slim*.log*") if "Traceback" in log.read_text()])


def forked(work: Callable[[], str], answer: Path) -> int:
    """Do some work in a process of its own, without imports anew; its number. The text goes into the file `answer`."""
    number = os.fork()
    if number == 0:
        try:
            answer.write_text(work())
        finally:
            os._exit(0)
    return number
