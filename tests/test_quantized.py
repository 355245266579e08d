"""Vectors in few bits: how far they are from what they stand for, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from slim.quantized import Quantized, Vectors, to_levels, to_steps
from slim.record import ArrayToFill, Record


@dataclass(frozen=True, eq=False)
class Features(Record):
    core: Vectors


def vectors(n: int = 20, d: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, d)).astype(np.float32) * np.logspace(-6, 6, n)[:, None]


@pytest.mark.parametrize(("bits", "steps"), [(8, 255), (4, 15)])
def test_numbers_are_half_a_step_off_at_most_and_the_ends_are_kept(bits: int, steps: int) -> None:
    exact = vectors()
    stored = to_steps(exact, bits)
    read, width = Quantized(stored)[:], np.ptp(exact, 1)
    assert (np.abs(read - exact).max(1) <= width / steps * 0.501).all()
    np.testing.assert_allclose(read.min(1), exact.min(1), atol=1e-6 * width.max())
    assert stored.itemsize == 8 + 6 * bits // 8


@pytest.mark.parametrize("bits", [8, 4])
def test_equal_numbers_are_kept(bits: int) -> None:
    exact = np.array([[0.0, 0.0], [2.5, 2.5], [1e-30, 0.0], [0.0, 1e38]], np.float32)
    np.testing.assert_allclose(Quantized(to_steps(exact, bits))[:], exact, rtol=1e-6)


def test_an_odd_number_of_numbers_takes_a_byte_each() -> None:
    assert np.asarray(Quantized(to_steps(vectors(d=5), bits=4))).shape == (20, 5)
    assert to_steps(vectors(d=5), bits=4).itemsize == 8 + 5


def test_vectors_may_be_empty() -> None:
    assert np.asarray(Quantized(to_steps(np.zeros((3, 0))))).shape == (3, 0)


def test_levels_are_a_third_apart_and_end_at_the_outermost() -> None:
    deviations = np.linspace(-4, 4, 400).reshape(1, 2, 200)
    levels = Quantized(to_levels(deviations))[:]
    assert levels.dtype == np.int8
    inside = np.abs(deviations) < 2.6
    assert np.abs(levels / 32 - deviations)[inside].max() <= 1 / 6 + 0.5 / 32
    assert (levels[0, 0, 0], levels[0, 1, -1]) == (-80, 80)


def test_rows_are_read_like_those_of_an_array() -> None:
    quantized = Quantized(to_steps(vectors()))
    everything = np.asarray(quantized)
    for rows in (3, slice(2, 9, 3), [4, 1], np.arange(20) > 15):
        np.testing.assert_array_equal(quantized[rows], everything[rows])
        if not isinstance(rows, int):
            np.testing.assert_array_equal(np.asarray(quantized.part(rows)), everything[rows])
    np.testing.assert_array_equal(quantized[1:, 2], everything[1:, 2])
    assert [len(row) for row in quantized] == [6] * 20


def test_records_keep_them_as_they_are_in_one_file(tmp_path: Path) -> None:
    stored = to_steps(vectors(), 4)
    to_fill = ArrayToFill(tmp_path / "filled", "core", (20,), stored.dtype)
    to_fill[np.arange(20)] = stored
    for name, core in (("filled", to_fill.filled()), ("memory", Quantized(stored))):
        Features(core).save(tmp_path / name)
        assert {file.name for file in (tmp_path / name).iterdir()} == {"core.npy", "record.json"}
        loaded = Features.load(tmp_path / name).core
        assert isinstance(loaded, Quantized)
        assert isinstance(loaded.stored, np.memmap)
        np.testing.assert_array_equal(loaded.stored, stored)


def test_what_was_written_to_a_file_is_no_longer_in_memory(tmp_path: Path) -> None:
    array = ArrayToFill(tmp_path, "maps", (4, 2))
    array[1:3] = 7
    assert not any(isinstance(value, np.ndarray) for value in vars(array).values())
    assert array.filled()[:, 0].tolist() == [0, 7, 7, 0]


def test_vectors_calculate_like_the_array_of_their_numbers() -> None:
    exact = vectors()
    stored, whole = Quantized(to_steps(exact)), np.asarray(Quantized(to_steps(exact)))
    for found, expected in (
        (stored.std(0), whole.std(0)),
        (stored.T, whole.T),
        (2 * stored - stored, whole),
        (stored == whole, np.ones(whole.shape, bool)),
        (np.abs(stored), np.abs(whole)),
        (np.mean(stored, axis=1), whole.mean(1)),
        (stored.astype(np.float64), whole.astype(np.float64)),
        (stored @ np.eye(6, dtype=np.float32), whole),
    ):
        np.testing.assert_array_equal(found, expected)
    assert (stored.dtype, stored.ndim, stored.size) == (whole.dtype, 2, whole.size)
    assert Quantized(to_levels(exact)).dtype == np.int8


def test_vectors_have_nothing_that_arrays_lack() -> None:
    with pytest.raises(AttributeError, match="'Quantized' object has no attribute 'head'"):
        _ = Quantized(to_steps(vectors())).head
