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
import signal
from collections import Counter
from pathlib import Path

from small import OPENING, disturbed, faults, prepare, results, seconds, undisturbed, whole_run

from slim.runs.folder import RunFolder
from slim.stages import STAGES


def false_stages(run: Path, expected: dict[str, bytes]) -> list[str]:
    """Stages that look done and are not as in the undisturbed run."""
    folder, found = RunFolder(run), results(run)
    done = [stage.folder for stage in STAGES.values() if folder.manifest(stage.folder) is not None]
    return [name for name in done if folder.faults(name, read=True) or part(found, name) != part(expected, name)]


def part(files: dict[str, bytes], folder: str) -> dict[str, bytes]:
    """Those in one folder."""
    return {name: content for name, content in files.items() if name.startswith(f"{folder}/")}


class Case:
    """Runs that are killed, and compared with an undisturbed one."""

    def __init__(self, whole: Path, rng: random.Random) -> None:
        self.whole, self.run, self.data, self.rng = whole, whole.with_name("killed"), whole.with_name("data"), rng
        self.expected, self.seconds = results(whole), seconds(whole)

    def kill(self, verb: str) -> str:
        """Kill it at a random moment of a stage."""
        delay = self.rng.uniform(0, self.seconds[verb])
        where, said = disturbed(
            self.run, self.data, verb, delay, lambda number: os.kill(number, signal.SIGKILL), lambda: None
        )
        wrong = false_stages(self.run, self.expected)
        said = f"killed in {where}" if said == "signal 9" else ending(said)
        return f"{said}, WRONG: {wrong} look done" if wrong else said

    def play(self, verb: str) -> list[str]:
        """What happened to one run, until it has ended."""
        prepare(self.run, self.whole, verb)
        said = [self.kill(verb)]
        if self.rng.random() < 0.5:
            rest = list(STAGES)[list(STAGES).index(verb) if verb in STAGES else 0 :]
            said.append(self.kill(self.rng.choice(rest)))
        if said[-1] != "ended":
            said.append(ending(undisturbed(self.run, self.data)))
        return said + faults(self.run, self.whole)


def ending(said: str) -> str:
    return "ended" if said == "0" else f"WRONG: {said}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    case = Case(whole_run(options.folder), random.Random(options.seed))
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
