"""A randomly damaged table is loaded or refused in one line, never anything else."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from slim.data import load_dataset
from slim.errors import SlimError

N = 300
Damage = Callable[[random.Random, bytearray], bytes]


def flip(rng: random.Random, content: bytearray) -> bytes:
    for _ in range(rng.randrange(1, 8)):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def cut(rng: random.Random, content: bytearray) -> bytes:
    return bytes(content[: rng.randrange(len(content))])


def insert(rng: random.Random, content: bytearray) -> bytes:
    place = rng.randrange(len(content))
    piece = rng.choice([b",", b"\n", b'"', b"\x00", b"\xff\xfe", b";", b"nan", b"1e999", b"-1", "ä".encode(), b"\r"])
    return bytes(content[:place]) + piece * rng.randrange(1, 4) + bytes(content[place:])


def shuffle_cells(rng: random.Random, content: bytearray) -> bytes:
    lines = [line.split(b",") for line in bytes(content).splitlines()]
    row, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    column = rng.randrange(len(lines[0]))
    lines[row][column], lines[other][column] = lines[other][column], lines[row][column]
    return b"\n".join(b",".join(line) for line in lines)


def drop_column(rng: random.Random, content: bytearray) -> bytes:
    lines = [line.split(b",") for line in bytes(content).splitlines()]
    column = rng.randrange(len(lines[0]))
    return b"\n".join(b",".join(cell for i, cell in enumerate(line) if i != column) for line in lines)


def repeat_line(rng: random.Random, content: bytearray) -> bytes:
    lines = bytes(content).splitlines()
    return b"\n".join([*lines, rng.choice(lines)])


DAMAGES: tuple[Damage, ...] = (flip, cut, insert, shuffle_cells, drop_column, repeat_line)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_table_is_loaded_or_refused_in_one_line(files: Path, frame: pd.DataFrame, damage: Damage) -> None:
    rng = random.Random(0)
    frame.to_csv(files / "metadata.csv", index=False)
    whole = (files / "metadata.csv").read_bytes()
    refusals = []
    for _ in range(N // len(DAMAGES)):
        (files / "metadata.csv").write_bytes(damage(rng, bytearray(whole)))
        try:
            load_dataset(files)
        except SlimError as error:
            refusals.append(str(error))
    (files / "metadata.csv").unlink()
    assert refusals
    assert not [text for text in refusals if "\n" in text]
