"""Is every damage to a finished run noticed? One file at a time is damaged, and `slim run` is called.

python benchmarks/faults/damage.py FOLDER [--times 400] [--seed 0]

FOLDER receives a small data set and a finished run, which a later call uses again. Each time, one file of a fresh copy
is flipped (one bit), cut, emptied, deleted, filled with random bytes, or replaced by another file of the run. Prints
how often it was made again, with the results of before or with others, how often one line named the trouble, how often
the damage stayed unnoticed, and how often there was a traceback.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from small import forked, leftovers, results, slim_run, small_data

Damage = Callable[[Path, random.Random, list[Path]], None]


def flip(path: Path, rng: random.Random, files: list[Path]) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def cut(path: Path, rng: random.Random, files: list[Path]) -> None:
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def empty(path: Path, rng: random.Random, files: list[Path]) -> None:
    path.write_bytes(b"")


def delete(path: Path, rng: random.Random, files: list[Path]) -> None:
    path.unlink()


def fill(path: Path, rng: random.Random, files: list[Path]) -> None:
    path.write_bytes(rng.randbytes(path.stat().st_size))


def replace(path: Path, rng: random.Random, files: list[Path]) -> None:
    shutil.copyfile(rng.choice([other for other in files if other.read_bytes() != path.read_bytes()]), path)


DAMAGES: tuple[Damage, ...] = (flip, cut, empty, delete, fill, replace)


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def outcome(run: Path, damaged: Path, expected: dict[str, bytes]) -> str:
    """What `slim run` makes of a run with one damaged file."""
    before = content(damaged)
    result = slim_run(run)
    last = (result.stderr.splitlines() or [""])[-1]
    if result.exit_code == 1 and last.startswith("slim: "):
        return "named error" if str(run) in last else f"error without a name: {last}"
    if result.exit_code != 0:
        return f"traceback: {last or result.exception!r}"
    if content(damaged) == before:
        return "undetected"
    if leftovers(run):
        return f"left over: {leftovers(run)}"
    return "remade" if results(run) == expected else "remade with other results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    whole = options.folder / "run"
    result = slim_run(whole, small_data(options.folder / "data") if not whole.exists() else None)
    assert result.exit_code == 0, result.output
    expected = results(whole)
    rng = random.Random(options.seed)
    print(f"seed {options.seed}, {options.times} times")
    counts: Counter[tuple[str, str]] = Counter()
    for number in range(options.times):
        copy = options.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        files = sorted(path for path in copy.rglob("*") if path.is_file())
        damaged, damage = rng.choice([path for path in files if path.stat().st_size]), rng.choice(DAMAGES)
        damage(damaged, rng, files)
        answer = options.folder / "outcome.txt"
        os.waitpid(forked(lambda: outcome(copy, damaged, expected), answer), 0)  # noqa: B023 (called at once)
        said = answer.read_text()
        counts[damage.__name__, said.partition(":")[0]] += 1
        print(f"{number}: {damage.__name__} {damaged.relative_to(copy)}: {said}", flush=True)
    shutil.rmtree(options.folder / "copy")
    for said in sorted({said for _, said in counts}):
        parts = ", ".join(f"{d.__name__} {counts[d.__name__, said]}" for d in DAMAGES)
        print(f"{said}: {sum(counts[d.__name__, said] for d in DAMAGES)} ({parts})")


if __name__ == "__main__":
    main()
