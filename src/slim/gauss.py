"""Sums of Gaussians over many points of a plane: exact for few, gridded for many, never an (n, n) matrix.

The plane is cut into square tiles, and only tiles that hold points cost anything, so that islands far apart or a
single outlier need no large grid. Within a tile the pairs are summed directly when they are few; otherwise the
weights are binned to a regular grid by Lagrange interpolation, convolved with the (separable) Gaussian, and
interpolated back, the particle-mesh way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

REACH = 10.0  # standard deviations, along each axis, beyond which a Gaussian (2e-22) counts as nothing
TILE = 32.0  # standard deviations, a tile's side
CELLS_PER_DEVIATION = 8
NODES = 8  # grid nodes a side that each point is spread over: Lagrange polynomials of degree 7
FIRST_NODE = 1 - NODES // 2  # relative to the cell that the point lies in
DIRECT_PAIRS = 1 << 21  # up to so many pairs in a tile, direct sums are as fast as the grid
CHUNK = 1 << 12  # points that are spread at once: their nodes fit the processor's cache


def gauss_sums(points: FloatArray, weights: FloatArray, gamma: float, *, own: bool = True) -> FloatArray:
    """Sum a Gaussian of every point, times its weight, at every point.

    Parameters
    ----------
    points
        (n, 2) positions, finite.
    weights
        (n, c) weights; c sums are made at once.
    gamma
        The Gaussian is ``exp(-gamma * squared distance)``: 1 at distance zero.
    own
        Whether a point's own weight is part of its sum.

    Returns
    -------
    numpy.ndarray
        (n, c): ``sum over k of exp(-gamma |points[i] - points[k]|^2) * weights[k]``.

    Notes
    -----
    With s = 1 / sqrt(2 gamma) the grid's step is s / 8 and interpolation has degree 7. Its error is at most
    max|f^(8)| step^8 times the largest node polynomial over 8!, that is 105 / 8^8 * 1.1e-3 = 7e-9 of a Gaussian's
    height along each axis and each way: below 3e-8 of the sum of the weights in reach. In the tails, where the Gaussian
    falls like exp(-t x / s) at distance t s, the error is about 1.1e-3 (t / 8)^8 *of the tail's own value*, so sums
    between points far apart keep their relative accuracy too (1e-4 at 6 s, 1e-3 at 8 s). The convolution is a
    matrix product and not a Fourier transform, whose round-off would be relative to the largest value anywhere.
    Beyond 10 s along an axis nothing is counted.

    Memory is O(n) plus one tile. Time is O(n), plus a few milliseconds for each tile (32 s by 32 s) with many points.

    Examples
    --------
    >>> gauss_sums(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[1.0], [2.0]]), gamma=1.0).round(3)
    array([[1.736],
           [2.368]])
    """
    order, tiles = _tiles(points, TILE * _deviation(gamma))
    points, weights = points[order], weights[order]
    sums = np.empty_like(weights)
    for (start, stop), sources, first in _tiles_with_sources(points, tiles, REACH * _deviation(gamma)):
        few = (stop - start) * len(sources) <= DIRECT_PAIRS
        tile_sums = _direct_sums if few else _gridded_sums
        sums[start:stop] = tile_sums(points[sources], weights[sources], slice(first, first + stop - start), gamma, own)
    unsorted = np.empty_like(sums)
    unsorted[order] = sums
    return unsorted


def squared_distances(a: FloatArray, b: FloatArray) -> FloatArray:
    """Squared distances between the rows of two sets of positions.

    Differences are squared, not ``|a|^2 - 2ab + |b|^2``, which cancels for near points.

    Parameters
    ----------
    a
        (n, 2) positions.
    b
        (m, 2) positions.

    Returns
    -------
    numpy.ndarray
        (n, m) squared distances.

    Examples
    --------
    >>> squared_distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 1.0]]))
    array([[25.,  1.]])
    """
    squares = np.subtract.outer(a[:, 0], b[:, 0]) ** 2
    squares += np.subtract.outer(a[:, 1], b[:, 1]) ** 2
    return squares


@dataclass(frozen=True, eq=False)
class _Tiles:
    """The tiles that hold points, by column and then row; tile t holds the sorted points first[t]:first[t + 1]."""

    keys: IntArray
    first: IntArray
    rows: int


def _deviation(gamma: float) -> float:
    """The standard deviation of the Gaussian."""
    return float(1.0 / np.sqrt(2.0 * gamma))


def _tiles(points: FloatArray, side: float) -> tuple[IntArray, _Tiles]:
    """Sort the points by tile; rows are spaced so that a tile's neighbours never wrap into another column."""
    cells = np.floor((points - points.min(axis=0)) / side).astype(np.int64)
    rows = int(cells[:, 1].max()) + 3
    key = cells[:, 0] * rows + cells[:, 1] + 1
    order = np.argsort(key, kind="stable")
    keys, first = np.unique(key[order], return_index=True)
    return order, _Tiles(keys, np.append(first, len(points)), rows)


def _tiles_with_sources(
    points: FloatArray, tiles: _Tiles, reach: float
) -> Iterator[tuple[tuple[int, int], IntArray, int]]:
    """For each tile its range of points, the points in its reach, and where among these its own begin."""
    for tile, key in enumerate(tiles.keys):
        start, stop = int(tiles.first[tile]), int(tiles.first[tile + 1])
        around = [
            np.arange(*tiles.first[np.searchsorted(tiles.keys, [key + column - 1, key + column + 2])])
            for column in (-tiles.rows, 0, tiles.rows)
        ]
        sources = np.concatenate(around)
        low, high = points[start:stop].min(axis=0) - reach, points[start:stop].max(axis=0) + reach
        sources = sources[((points[sources] >= low) & (points[sources] <= high)).all(axis=1)]
        yield (start, stop), sources, int(np.searchsorted(sources, start))


def _direct_sums(points: FloatArray, weights: FloatArray, queries: slice, gamma: float, own: bool) -> FloatArray:
    """The sums at `points[queries]`, pair by pair."""
    kernel = np.exp(-gamma * squared_distances(points[queries], points))
    if not own:
        rows = np.arange(len(kernel))
        kernel[rows, queries.start + rows] = 0.0
    return kernel @ weights


def _gridded_sums(points: FloatArray, weights: FloatArray, queries: slice, gamma: float, own: bool) -> FloatArray:
    """The sums at `points[queries]` by way of a grid around the points."""
    step = _deviation(gamma) / CELLS_PER_DEVIATION
    spread = _Interpolation((points - points.min(axis=0)) / step)
    grids = spread.bin(weights)
    asked = _Interpolation((points[queries] - points.min(axis=0)) / step)
    across, down = (_convolution(asked.extent(axis), grids.shape[1 + axis], gamma * step**2) for axis in (0, 1))
    low = (asked.extent(0)[0], asked.extent(1)[0])
    sums = asked.read(across @ grids @ down.T, low)
    if not own:
        sums -= asked.own(gamma * step**2)[:, None] * weights[queries]
    return sums


def _gaussian(offsets: IntArray, gamma: float) -> FloatArray:
    """The Gaussian at whole grid steps, zero out of reach, where interpolation would no longer be accurate."""
    reach = REACH * CELLS_PER_DEVIATION
    return np.where(np.abs(offsets) <= reach, np.exp(-gamma * np.square(offsets, dtype=np.float64)), 0.0)


def _convolution(extent: tuple[int, int], n_nodes: int, gamma: float) -> FloatArray:
    """The (asked nodes, n_nodes) matrix that convolves one axis of a grid."""
    return _gaussian(np.subtract.outer(np.arange(*extent), np.arange(n_nodes)), gamma)


def _lagrange_coefficients() -> FloatArray:
    """Row k, column p: the factor of t^p in the polynomial that is 1 at node k and 0 at the others."""
    nodes = np.arange(FIRST_NODE, FIRST_NODE + NODES, dtype=np.float64)
    others = [np.delete(nodes, k) for k in range(NODES)]
    return np.stack([np.poly(rest)[::-1] / np.prod(node - rest) for node, rest in zip(nodes, others, strict=True)])


LAGRANGE = _lagrange_coefficients()


def _lagrange(fractions: FloatArray) -> FloatArray:
    """(n, NODES) weights of the nodes around points that lie a fraction of a step beyond the middle one."""
    powers = np.ones((NODES, len(fractions)))
    for power in range(1, NODES):
        np.multiply(powers[power - 1], fractions, out=powers[power])
    return np.asarray(np.ascontiguousarray((LAGRANGE @ powers).T))


@dataclass(frozen=True, eq=False)
class _Interpolation:
    """Between points, in grid steps from the lowest one, and the NODES x NODES nodes around each.

    Node k of the grid lies at k + FIRST_NODE, so that a point at position x uses the nodes floor(x) and on.
    """

    positions: FloatArray

    def extent(self, axis: int) -> tuple[int, int]:
        """The range of nodes that the points use along an axis."""
        corners = self.positions[:, axis].astype(np.int64)
        return int(corners.min()), int(corners.max()) + NODES

    def _axis_weights(self, rows: slice) -> tuple[FloatArray, FloatArray]:
        """(n, NODES) Lagrange weights along each axis."""
        fractions = np.modf(self.positions[rows])[0]
        return _lagrange(fractions[:, 0]), _lagrange(fractions[:, 1])

    def _stencils(self, n_columns: int, low: tuple[int, int]) -> Iterator[tuple[slice, IntArray, FloatArray]]:
        """Chunk by chunk, (n, NODES^2) flat node indices and weights in a grid that begins at node `low`."""
        offsets = np.add.outer(np.arange(NODES) * n_columns, np.arange(NODES)).ravel()
        for start in range(0, len(self.positions), CHUNK):
            rows = slice(start, start + CHUNK)
            corners = self.positions[rows].astype(np.int64) - low
            x, y = self._axis_weights(rows)
            flat = (corners[:, 0] * n_columns + corners[:, 1])[:, None] + offsets
            yield rows, flat, (x[:, :, None] * y[:, None, :]).reshape(len(x), -1)

    def bin(self, weights: FloatArray) -> FloatArray:
        """(c, nx, ny) grids that the (n, c) weights are spread to."""
        shape = (self.extent(0)[1], self.extent(1)[1])
        grids = np.zeros((weights.shape[1], shape[0] * shape[1]))
        for rows, flat, share in self._stencils(shape[1], (0, 0)):
            for grid, weight in zip(grids, weights[rows].T, strict=True):
                grid += np.bincount(flat.ravel(), (share * weight[:, None]).ravel(), grid.size)
        return grids.reshape(-1, *shape)

    def read(self, grids: FloatArray, low: tuple[int, int]) -> FloatArray:
        """(n, c) values interpolated from (c, nx, ny) grids that begin at node `low`."""
        values = np.empty((len(self.positions), len(grids)))
        for rows, flat, share in self._stencils(grids.shape[2], low):
            for column, grid in enumerate(grids):
                values[rows, column] = np.einsum("nk,nk->n", share, grid.ravel()[flat])
        return values

    def own(self, gamma: float) -> FloatArray:
        """(n,) what a weight of 1 at each point adds to its own sum on the grid: almost 1, and what to take off."""
        between = _gaussian(np.subtract.outer(np.arange(NODES), np.arange(NODES)), gamma)
        x, y = self._axis_weights(slice(None))
        return np.asarray(np.einsum("nk,nk->n", x @ between, x) * np.einsum("nk,nk->n", y @ between, y))
