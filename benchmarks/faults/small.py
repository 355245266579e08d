"""A small run whose faults are provoked: 96 photographs of the demo and a network without pretraining."""

from __future__ import annotations

import os
import re
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

os.environ["NUMBA_THREADING_LAYER"] = "workqueue"  # the only one that a forked process may use

import pandas as pd
import torch
from click.testing import CliRunner, Result

from slim.cli.main import main
from slim.data.demo import compose_demo
from slim.runs.folder import RunFolder
from slim.stages import STAGES

OPENING = "the opening"
"""Of a run: what precedes its first stage."""

_SIZES = {"train": 48, "val": 24, "test": 24}
_SETTINGS = {
    "train.arch": "test_resnet",
    "train.weights": "none",
    "train.image-size": "32",
    "train.epochs": "2",
    "train.lr": "0.001",
    "train.device": "cpu",
    "annotate.budget": "6",
    "curate.size": "12",
    "retrain.images": "recomposed",
}
_EVENT = re.compile(r"INFO +(\w+) (started|done after)")


def small_data(folder: Path) -> Path:
    """The demo's data set, cut to a few photographs of each split."""
    compose_demo(folder)
    table = pd.read_csv(folder / "metadata.csv")
    mixed = table.sample(frac=1, random_state=0)
    kept = mixed[mixed.groupby("split").cumcount() < mixed["split"].map(_SIZES)]
    kept.to_csv(folder / "metadata.csv", index=False)
    for column in ("img_filename", "mask_filename"):
        for name in set(table[column]) - set(kept[column]):
            (folder / name).unlink()
    return folder


def slim_run(
    run: Path, data: Path | None = None, *, threads: int = 1, settings: Mapping[str, str] | None = None
) -> Result:
    """``slim run`` in this process."""
    torch.set_num_threads(threads)
    options = [word for name, value in {**_SETTINGS, **(settings or {})}.items() for word in (f"--{name}", value)]
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
            said = work()
        except BaseException:
            said = traceback.format_exc()
        try:
            answer.write_text(said)
        finally:
            os._exit(0)
    return number


def whole_run(folder: Path) -> Path:
    """An undisturbed run in `folder`, beside its data, which a later call uses again."""
    data, whole = folder / "data", folder / "whole"
    if not (data / "metadata.csv").exists():
        small_data(data)
    for name in ("warm", "whole"):  # the first compiles and imports what all runs share
        shutil.rmtree(folder / name, ignore_errors=True)
        result = slim_run(folder / name, data)
        assert result.exit_code == 0, result.output
    return whole


def seconds(whole: Path) -> dict[str, float]:
    """How long the opening and each stage of a run took."""
    manifests = {verb: RunFolder(whole).manifest(stage.folder) for verb, stage in STAGES.items()}
    return {OPENING: 0.5} | {verb: manifest.seconds for verb, manifest in manifests.items() if manifest is not None}


def prepare(run: Path, whole: Path, verb: str) -> None:
    """A run whose stages before this one are done, as copies of those of a whole one."""
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    for stage in STAGES.values():
        if verb in (OPENING, stage.verb):
            return
        shutil.copytree(whole / stage.folder, run / stage.folder)


def events(run: Path) -> list[tuple[str, str]]:
    """Which stages the log says have started and ended."""
    log = run / "slim.log"
    return _EVENT.findall(log.read_text()) if log.exists() else []


def place(run: Path, before: int = 0) -> str:
    """Where a run is, or was when it ended, after a number of earlier events."""
    last = events(run)[before:][-1:]
    return OPENING if not last else last[0][0] if last[0][1] == "started" else "the gap between stages"


def disturbed(
    run: Path, data: Path, verb: str, delay: float, disturb: Callable[[int], None], first: Callable[[], None]
) -> tuple[str, str]:
    """Run in a process of its own, and disturb that some time after a stage has started.

    Parameters
    ----------
    run, data
        Folders.
    verb, delay
        The stage, or the opening, and the seconds.
    disturb
        Takes the number of the process.
    first
        Called in the process before it runs.

    Returns
    -------
    place, said
        Where it was disturbed, empty where it had ended before; and its exit code and last line, or its signal.
    """
    answer = data.with_name("said.txt")
    before = len(events(run))
    number = forked(lambda: (first(), _last_words(slim_run(run, data)))[1], answer)
    deadline, where = (time.monotonic() + delay if verb == OPENING else None), ""
    while True:
        done, status = os.waitpid(number, os.WNOHANG)
        if done:
            return where, f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else answer.read_text()
        if deadline is None and not where and (verb, "started") in events(run)[before:]:
            deadline = time.monotonic() + delay
        if deadline is not None and time.monotonic() >= deadline:
            where, deadline = place(run, before), None
            disturb(number)
        time.sleep(0.002)


def undisturbed(run: Path, data: Path) -> str:
    """Run in a process of its own; its exit code and last line, or its signal."""
    return disturbed(run, data, "no stage", 0, lambda _: None, lambda: None)[1]


def _last_words(result: Result) -> str:
    return f"{result.exit_code} {(result.stderr.splitlines() or [''])[-1]}" if result.exit_code else "0"


def faults(run: Path, whole: Path) -> list[str]:
    """What a run that has ended has that an undisturbed one has not: other results, other files, tracebacks."""
    found = ["WRONG: other results"] if results(run) != results(whole) else []
    left = sorted(names(run) ^ names(whole) | set(leftovers(run)))
    return [*found, f"WRONG: other files: {left}"] if left else found


def names(run: Path) -> set[str]:
    """Every file of a run, but for what is made again where it is needed: the marker that the images were checked."""
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and path.name != "images.json"}
