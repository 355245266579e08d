"""Does a run survive its disk? It fills up, turns read-only, refuses; files vanish or change while a run works.

python benchmarks/faults/disk.py FOLDER [--cases 200] [--seed 0] [--only KIND]

FOLDER receives a small data set and an undisturbed run. Each case draws the opening of a run or one of its stages, and
does one of these at a random moment of it:

full        the disk has room for a random part of what the stage writes (root on Linux only: a disk in memory)
read-only   nothing can be written into the folders of the run any more, as on a disk that is mounted read-only
limit       no file may become larger than a random limit, as under a quota
permission  a random file or folder of the run may not be read, written or searched any more
vanished    a random file of the run, or an image or the table, is removed
changed     a random file of the run gets another byte; or an image or the table is cut in half

The command must end in one line, or go through. Then the cause is taken away, but for the run's own files, and the same
command must end with the results of the undisturbed run, and no other file. Not among the changed files are settings
and answers: SLIM refuses to go on with them, which `damage.py` tries.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from small import OPENING, disturbed, faults, prepare, seconds, undisturbed, whole_run

from slim.stages import STAGES

Step = Callable[[], None]
_ROOM = 512_000_000  # bytes of the disk in memory
_BLOCK = 4096


def nothing(*_: object) -> None:
    """Leave all as it is."""


class Case:
    """Runs on a disk of their own."""

    def __init__(self, whole: Path, disk: Path, rng: random.Random) -> None:
        self.whole, self.run, self.rng, self.disk = whole, disk / "run", rng, disk
        self.data, self.backup = whole.with_name("data"), whole.with_name("backup")
        self.seconds = seconds(whole)
        shutil.rmtree(self.backup, ignore_errors=True)
        shutil.copytree(self.data, self.backup)

    def play(self, kind: str, verb: str) -> list[str]:
        """What happened to one run, until it has ended."""
        prepare(self.run, self.whole, verb)
        self.victim = Path()
        disturb, first, heal = getattr(self, kind.replace("-", "_"))(verb)
        where, said = disturbed(self.run, self.data, verb, self.rng.uniform(0, self.seconds[verb]), disturb, first)
        heal()
        self.rescue()
        found = faults(self.run, self.whole) if said == "0" and kind not in ("vanished", "changed") else []
        again = undisturbed(self.run, self.data)
        found += faults(self.run, self.whole) + ([] if again == "0" else [f"WRONG: it does not continue: {again}"])
        return [f"in {where or 'no stage'}", ending(said), str(self.victim), *found]

    def rescue(self) -> None:
        """Bring the data back."""
        for file in self.backup.rglob("*"):
            copy = self.data / file.relative_to(self.backup)
            if file.is_file() and (not copy.exists() or copy.stat().st_size != file.stat().st_size):
                shutil.copy2(file, copy)

    def full(self, verb: str) -> tuple[Callable[[int], None], Step, Step]:
        used = blocks(self.run) + _BLOCK
        wanted = blocks(self.whole / STAGES[verb].folder) if verb in STAGES else 8 * _BLOCK
        self.resize(used + int(self.rng.uniform(0, wanted)))
        return nothing, nothing, lambda: self.resize(_ROOM)

    def read_only(self, verb: str) -> tuple[Callable[[int], None], Step, Step]:
        def folders() -> list[Path]:
            return [self.run, *(path for path in self.run.rglob("*") if path.is_dir())]

        def disturb(_: int) -> None:
            for folder in folders():
                folder.chmod(0o555)

        def heal() -> None:
            for folder in folders():
                folder.chmod(0o755)

        return disturb, obey_permissions, heal

    def limit(self, verb: str) -> tuple[Callable[[int], None], Step, Step]:
        largest = max(file.stat().st_size for file in self.whole.rglob("*") if file.is_file())
        size = int(largest ** self.rng.uniform(0.4, 1))
        return nothing, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)), nothing

    def permission(self, verb: str) -> tuple[Callable[[int], None], Step, Step]:
        before: dict[Path, int] = {}

        def disturb(_: int) -> None:
            self.victim = self.rng.choice([self.run, *self.run.rglob("*")])
            before[self.victim] = self.victim.stat().st_mode
            self.victim.chmod(self.rng.choice([0o000, 0o500, 0o400]))

        def heal() -> None:
            for path, mode in before.items():
                if path.exists():  # a folder that was finished has another name now
                    path.chmod(mode)
            for path in self.run.rglob("*"):
                path.chmod(0o755 if path.is_dir() else 0o644)

        return disturb, obey_permissions, heal

    def vanished(self, verb: str) -> tuple[Callable[[int], None], Step, Step]:
        def disturb(_: int) -> None:
            self.victim = self.choose(without=(["metadata.csv"] if verb == OPENING else []))
            self.victim.unlink(missing_ok=True)

        return disturb, nothing, nothing

    def changed(self, verb: str) -> tuple[Callable[[int], None], Step, Step]:
        def disturb(_: int) -> None:
            self.victim = self.choose(without=["settings.json", "annotations.db", "slim.log"])
            try:
                content = bytearray(self.victim.read_bytes())
            except FileNotFoundError:  # it was renamed meanwhile
                return
            if self.victim.is_relative_to(self.data):
                content = content[: len(content) // 2]
            elif content:
                content[self.rng.randrange(len(content))] ^= 1
            with self.victim.open("r+b") as stream:
                stream.write(content)
                stream.truncate()

        return disturb, nothing, nothing

    def choose(self, without: Sequence[str]) -> Path:
        """A file of the run; one of the data, and in one of six cases the table, in a third of the cases."""
        tables, files = [self.data / "metadata.csv"], sorted((self.data / "images").iterdir())
        ours = sorted(file for file in self.run.rglob("*") if file.is_file())
        kinds = [kind for kind in (tables, files, ours, ours, ours, ours) if kind]
        chosen = self.rng.choice([[file for file in kind if file.name not in without] for kind in kinds])
        return self.rng.choice(chosen or files)

    def resize(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.disk)], check=True)


def obey_permissions() -> None:
    """Give up what lets root read and write whatever it likes."""
    if os.geteuid() == 0:
        version, capabilities = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        system = ctypes.CDLL(None)
        system.capget(version, capabilities)
        capabilities[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, of those in effect
        assert system.capset(version, capabilities) == 0


def blocks(folder: Path) -> int:
    """Bytes of a folder's files on the disk."""
    sizes = (file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return sum(-(-size // _BLOCK) * _BLOCK for size in sizes)


def ending(said: str) -> str:
    """How a disturbed command ended."""
    if said == "0":
        return "went through"
    return f"one line: {said[2:]}" if said.startswith("1 slim: ") and "\n" not in said else f"WRONG: {said}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one kind of fault")
    options = parser.parse_args()
    whole, disk = whole_run(options.folder), options.folder / "disk"
    disk.mkdir(exist_ok=True)
    mounts = sys.platform == "linux" and os.geteuid() == 0
    if mounts:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "none", str(disk)], check=True)
    kinds = [*(["full"] if mounts else []), "read-only", "limit", "permission", "vanished", "changed"]
    kinds = [options.only] if options.only else kinds
    print(f"seed {options.seed}, {options.cases} cases of {', '.join(kinds)}", flush=True)
    counts: Counter[str] = Counter()
    places = [OPENING, *STAGES]
    try:
        case = Case(whole, disk, random.Random(options.seed))
        for number in range(options.cases):
            kind, verb = kinds[number % len(kinds)], places[number // len(kinds) % len(places)]
            said = case.play(kind, verb)
            counts.update([f"{kind}: {text.partition(':')[0]}" for text in said[1:2] + said[3:]])
            print(f"{number}: {kind} {'; '.join(said)}", flush=True)
    finally:
        if mounts:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)
    for text, count in sorted(counts.items()):
        print(f"{text}: {count}")


if __name__ == "__main__":
    main()
