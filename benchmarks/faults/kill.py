"""Does a killed run end as an undisturbed one does? `kill -9` at random moments, then the same command again.

python benchmarks/faults/kill.py FOLDER [--kills 200] [--seed 0]

FOLDER receives a small data set and an undisturbed run. Each case draws the opening of the run or one of its stages,
all of them equally often, and kills a run at a random moment of it; what comes before that stage is copied from the
undisturbed run. Half of the cases are killed a second time while they continue. After each kill, no stage may look
done that is not as in the undisturbed run; in the end, all results must be equal, and no other file may be left.
Prints where it was killed how often, and what was wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

from small import forked, leftovers, results, slim_run, small_data

from slim.runs.folder import RunFolder
from slim.stages import STAGES

OPENING = "the opening"
_EVENT = re.compile(r"INFO +(\w+) (started|done after)")


def prepare(run: Path, whole: Path, verb: str) -> None:
    """A run whose stages before this one are done."""
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    for stage in STAGES.values():
        if verb in (OPENING, stage.verb):
            return
        shutil.copytree(whole / stage.folder, run / stage.folder)
    raise ValueError(verb)


def events(run: Path) -> list[tuple[str, str]]:
    """Which stages the log says have started and ended."""
    log = run / "slim.log"
    return _EVENT.findall(log.read_text()) if log.exists() else []


def killed_or_ended(run: Path, data: Path, verb: str, delay: float) -> str:
    """Run until some time after a stage has started; where it was killed, or "ended", or what it said instead."""
    answer = run.with_suffix(".txt")
    before = len(events(run))
    number = forked(lambda: f"{(r := slim_run(run, data)).exit_code} {r.stderr[-300:]}", answer)
    deadline = time.monotonic() + delay if verb == OPENING else None
    while deadline is None or time.monotonic() < deadline:
        if os.waitpid(number, os.WNOHANG)[0]:
            said = answer.read_text()
            return "ended" if said.startswith("0 ") else f"failed: {said}"
        if deadline is None and (verb, "started") in events(run)[before:]:
            deadline = time.monotonic() + delay
        time.sleep(0.002)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    last = events(run)[before:][-1:]
    return "killed in " + (OPENING if not last else last[0][0] if last[0][1] == "started" else "the gap between stages")


def false_stages(run: Path, expected: dict[str, bytes]) -> list[str]:
    """Stages that look done and are not as in the undisturbed run."""
    folder, found = RunFolder(run), results(run)
    done = [stage.folder for stage in STAGES.values() if folder.manifest(stage.folder) is not None]
    return [name for name in done if folder.faults(name, read=True) or part(found, name) != part(expected, name)]


def part(files: dict[str, bytes], folder: str) -> dict[str, bytes]:
    """Those in one folder."""
    return {name: content for name, content in files.items() if name.startswith(f"{folder}/")}


def names(run: Path) -> set[str]:
    """Every file of a run."""
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}


class Case:
    """Runs that are killed, and compared with an undisturbed one."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.whole, self.run, self.data, self.rng = folder / "whole", folder / "killed", folder / "data", rng
        self.expected, self.names = results(self.whole), names(self.whole)
        manifests = {verb: RunFolder(self.whole).manifest(stage.folder) for verb, stage in STAGES.items()}
        self.seconds = {verb: manifest.seconds for verb, manifest in manifests.items() if manifest is not None}
        self.seconds[OPENING] = 0.5  # what precedes the first stage

    def kill(self, verb: str) -> str:
        """Kill it at a random moment of a stage."""
        said = killed_or_ended(self.run, self.data, verb, self.rng.uniform(0, self.seconds[verb]))
        wrong = false_stages(self.run, self.expected)
        return f"{said}, WRONG: {wrong} look done" if wrong else said

    def play(self, verb: str) -> list[str]:
        """What happened to one run, until it has ended."""
        prepare(self.run, self.whole, verb)
        said = [self.kill(verb)]
        if self.rng.random() < 0.5:
            rest = list(STAGES)[list(STAGES).index(verb) if verb in STAGES else 0 :]
            said.append(self.kill(self.rng.choice(rest)))
        if said[-1] != "ended":
            said.append(killed_or_ended(self.run, self.data, "nothing", 0))
        if results(self.run) != self.expected:
            said.append("WRONG: other results")
        left = sorted(names(self.run) ^ self.names | set(leftovers(self.run)))
        return [*said, f"WRONG: other files: {left}"] if left else said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = options.folder / "data"
    if not (data / "metadata.csv").exists():
        small_data(data)
    for name in ("warm", "whole"):  # the first compiles and imports what all runs share
        shutil.rmtree(options.folder / name, ignore_errors=True)
        result = slim_run(options.folder / name, data)
        assert result.exit_code == 0, result.output
    case = Case(options.folder, random.Random(options.seed))
    print(f"seed {options.seed}, {options.kills} kills; seconds of the undisturbed run: {case.seconds}", flush=True)
    counts: Counter[str] = Counter()
    places = [OPENING, *STAGES]
    for number in range(options.kills):
        said = case.play(places[number % len(places)])
        counts.update(text.partition(":")[0] for text in said)
        print(f"{number}: {'; '.join(said)}", flush=True)
        if sum(count for text, count in counts.items() if text.startswith("killed")) >= options.kills:
            break
    for text, count in sorted(counts.items()):
        print(f"{text}: {count}")


if __name__ == "__main__":
    main()
