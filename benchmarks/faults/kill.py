"""Does a killed run end as an undisturbed one does? `kill -9` at random moments, then the same command again.

python benchmarks/faults/kill.py FOLDER [--times 40] [--seed 0]

FOLDER receives a small data set and an undisturbed run. Each time, a run in a new folder is killed at a moment drawn
uniformly from the time that the undisturbed one took, and again while it continues, until it ends. Prints in which
stage it was killed how often, and how often the results were not those of the undisturbed run, or something was left
over.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

from small import forked, leftovers, results, slim_run, small_data

from slim.runs.folder import RunFolder
from slim.stages import STAGES


def killed_or_ended(run: Path, data: Path, moment: float) -> str:
    """Where the run was killed, ``"ended"`` if it ended before, or what it said instead."""
    answer = run.with_suffix(".txt")
    number = forked(lambda: f"{(r := slim_run(run, data)).exit_code} {r.stderr[-300:]}", answer)
    deadline = time.monotonic() + moment
    while time.monotonic() < deadline:
        if os.waitpid(number, os.WNOHANG)[0]:
            said = answer.read_text()
            return "ended" if said.startswith("0 ") else f"failed: {said}"
        time.sleep(0.005)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    folder = RunFolder(run)
    return next((f"in {verb}" for verb, s in STAGES.items() if folder.manifest(s.folder) is None), "at the end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = options.folder / "data"
    if not (data / "metadata.csv").exists():
        small_data(data)
    slim_run(options.folder / "warm", data)  # compiles what the runs share
    start = time.monotonic()
    result = slim_run(options.folder / "whole", data)
    took = time.monotonic() - start
    assert result.exit_code == 0, result.output
    expected = results(options.folder / "whole")
    rng = random.Random(options.seed)
    print(f"seed {options.seed}, {options.times} times, an undisturbed run takes {took:.1f} s")
    counts: Counter[str] = Counter()
    for number in range(options.times):
        run = options.folder / "killed"
        shutil.rmtree(run, ignore_errors=True)
        where, moment = [""], rng.uniform(0, took)
        while where[-1] not in ("ended",) and not where[-1].startswith("failed"):
            where.append(killed_or_ended(run, data, moment))
            moment = rng.uniform(0.3, 1.5) * took
        same = results(run) == expected
        counts.update([*where[1:-1], where[-1].partition(":")[0], "equal" if same else "other results"])
        counts["something left over"] += bool(leftovers(run))
        print(f"{number}: {', '.join(where[1:])}; {'equal' if same else 'OTHER'} {leftovers(run)}", flush=True)
    for name, count in sorted(counts.items()):
        print(f"{name}: {count}")


if __name__ == "__main__":
    main()
