"""Arrays of vectors in 8 or 4 bits per number, in place of the 32 of float32.

Each is one structured array, hence one ``.npy`` file that can be mapped into memory. Rows become numbers when they are
asked for, so that no more than these are ever in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin

from slim.arrays import Floats

_CODES = np.stack([np.arange(256) & 15, np.arange(256) >> 4], 1).astype(np.uint8)  # the two in each byte
_LEVELS = np.rint((2 * _CODES - 15.0) * 16 / 3).astype(np.int8).view(np.uint16)[:, 0]
_NIBBLES = _CODES.view(np.uint16)[:, 0]


class Quantized(NDArrayOperatorsMixin):
    """Vectors in few bits. Indexing gives numbers: of rows, no others are made; ``numpy.asarray`` gives all.

    They calculate like the array of all numbers, which then is made.

    Parameters
    ----------
    stored
        What `to_steps` or `to_levels` returns, or the same mapped into memory.

    Attributes
    ----------
    shape, dtype, ndim
        Of the numbers.

    Examples
    --------
    >>> vectors = Quantized(to_steps(np.array([[0.0, 1.0, 255.0], [0.0, 0.0, 0.0]])))
    >>> vectors, vectors[:1].tolist()
    (Quantized(2 x 3, 11 bytes per vector), [[0.0, 1.0, 255.0]])
    >>> vectors.mean(0).tolist(), (vectors > 1).sum()
    ([0.0, 0.5, 127.5], np.int64(1))
    """

    def __init__(self, stored: npt.NDArray[Any]) -> None:
        self.stored = stored
        kind = stored.dtype
        length = kind["codes"].shape[0] if "codes" in (kind.names or ()) else 2 * kind["nibbles"].shape[0]
        self.shape: tuple[int, ...] = (*stored.shape, length)
        self.dtype, self.ndim = self[:0].dtype, len(self.shape)

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, rows: Any) -> npt.NDArray[Any]:
        if isinstance(rows, tuple):  # of several axes
            return np.asarray(self[:][rows])
        some, names = self.stored[rows], self.stored.dtype.names or ()
        if names == ("nibbles",):
            return np.asarray(np.take(_LEVELS, some["nibbles"]).view(np.int8))
        codes = some["codes"] if "codes" in names else np.take(_NIBBLES, some["nibbles"]).view(np.uint8)
        return np.asarray(some["low"][..., None] + some["step"][..., None] * codes)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = (np.asarray(one) if isinstance(one, Quantized) else one for one in inputs)
        return getattr(ufunc, method)(*arrays, **options)

    def __getattr__(self, name: str) -> Any:
        """What an array of all numbers has, such as ``mean`` and ``T``."""
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self[:], name)

    def __repr__(self) -> str:
        return f"Quantized({' x '.join(map(str, self.shape))}, {self.stored.itemsize} bytes per vector)"

    def part(self, rows: Any) -> Quantized:
        """Some of the rows, in as few bits."""
        return Quantized(self.stored[rows])


Vectors = Floats | Quantized


def step_type(length: int, bits: int = 8) -> np.dtype[Any]:
    """What `to_steps` makes of one vector."""
    codes = ("nibbles", "u1", (length // 2,)) if bits == 4 and length % 2 == 0 else ("codes", "u1", (length,))
    return np.dtype([("low", "<f4"), ("step", "<f4"), codes])


def level_type(length: int) -> np.dtype[Any]:
    """What `to_levels` makes of one vector of even length."""
    return np.dtype([("nibbles", "u1", (length // 2,))])


def to_steps(vectors: Floats, bits: int = 8) -> npt.NDArray[Any]:
    """Vectors (..., d) in even steps between the smallest and the largest number of each.

    Parameters
    ----------
    vectors
        Any finite numbers.
    bits
        8, for 256 steps, or 4, for 16; vectors of odd length take 8.

    Examples
    --------
    >>> Quantized(to_steps(np.array([[0.0, 0.2, 3.1, 7.5]]), bits=4))[0].tolist()
    [0.0, 0.0, 3.0, 7.5]
    """
    vectors = np.asarray(vectors, np.float32)
    stored = np.zeros(vectors.shape[:-1], step_type(vectors.shape[-1], bits))
    if not vectors.size:
        return stored
    packed = "nibbles" in (stored.dtype.names or ())
    most = 15 if packed else 255
    low, width = vectors.min(-1, keepdims=True), np.ptp(vectors, -1, keepdims=True)
    stored["low"], stored["step"] = low[..., 0], width[..., 0] / most
    codes = np.rint((vectors - low) / np.where(width > 0, width, 1) * most).astype(np.uint8)
    stored["nibbles" if packed else "codes"] = _packed(codes) if packed else codes
    return stored


def to_levels(deviations: Floats) -> npt.NDArray[Any]:
    """Vectors (..., d) in 16 levels around 0, a third of what is 1 apart; d is even.

    They become whole numbers from -80 to 80, of which 32 stands for what was 1.

    Examples
    --------
    >>> Quantized(to_levels(np.array([[-9.0, -0.1, 0.1, 1.0]])))[0].tolist()
    [-80, -5, 5, 37]
    """
    codes = np.clip(np.floor(3 * deviations) + 8, 0, 15).astype(np.uint8)
    stored = np.empty(codes.shape[:-1], level_type(codes.shape[-1]))
    stored["nibbles"] = _packed(codes)
    return stored


def _packed(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Two numbers below 16 in each byte."""
    return np.asarray(codes[..., ::2] | codes[..., 1::2] << 4)
