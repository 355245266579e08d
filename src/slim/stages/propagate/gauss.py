"""Sums of Gaussians over all pairs of points in a plane, in linear time and memory."""

from __future__ import annotations

import numpy as np

from slim.arrays import Floats, Ints

NODES_PER_DEVIATION = 2.5
TILE = 14  # nodes along a tile's side: 5.6 standard deviations
CHUNK = 4096  # points handled at once


def gauss_sums(points: Floats, weights: Floats, gamma: float) -> Floats:
    """At every point, the weighted sum of the Gaussians centred on all points.

    Parameters
    ----------
    points
        (n, 2) positions, finite.
    weights
        (n, c) weights, for c sums.
    gamma
        The Gaussian is ``exp(-gamma * squared distance)``.

    Returns
    -------
    numpy.ndarray
        (n, c): ``sum over k of exp(-gamma |points[i] - points[k]|^2) * weights[k]``.

    Notes
    -----
    A Gaussian is the convolution of two narrower ones. On a grid of nodes t with spacing h::

        exp(-gamma |x - y|^2)  =  4 gamma h^2 / pi  *  sum over t of exp(-2 gamma |x - t|^2) exp(-2 gamma |t - y|^2)

    up to a relative error of about 4 exp(-pi^2 / (4 gamma h^2)), which is 2e-13 here. So the weights are added up at
    the nodes, and the sums are read off there. Each point uses the nodes of its own square tile and of the eight
    tiles around it. The nodes left out contribute less than exp(-5.6^2), or 2e-14, per pair.

    Only tiles near points take memory. In the worst case, where no point has a neighbour, that is 28 kB per point; it
    takes a gamma far above 50 to get there.

    Examples
    --------
    >>> gauss_sums(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[1.0], [2.0]]), gamma=1.0).round(3)
    array([[1.736],
           [2.368]])
    """
    positions = points * (NODES_PER_DEVIATION * np.sqrt(2.0 * gamma))  # in units of the spacing
    tiles = np.floor(positions / TILE)
    columns, rows = (tiles - tiles.min(axis=0) + 1.0).astype(np.int64).T
    stride = int(rows.max()) + 2  # one empty row at either end: no tile borders on one of the next column
    keys = columns * stride + rows
    around = np.add.outer([-stride, 0, stride], [-1, 0, 1])
    order = np.argsort(keys, kind="stable")
    tile_keys, starts = np.unique(keys[order], return_index=True)
    pieces = np.split(order, np.union1d(starts, np.arange(0, len(order), CHUNK))[1:])  # each within one tile
    blocks = np.unique(np.add.outer(tile_keys, around))
    grid = np.zeros((len(blocks), weights.shape[1], TILE, TILE))
    nodes = np.arange(-TILE, 2 * TILE).reshape(3, TILE)  # of a tile and its neighbours, along one axis

    def at_nodes(piece: Ints) -> tuple[Ints, Floats, Floats]:
        """The (3, 3) blocks around a piece, and along each axis its points' (len(piece), 3, TILE) Gaussians there."""
        offsets = (positions[piece] - tiles[piece] * TILE).T[:, :, None, None] - nodes
        x, y = np.exp(-((offsets / NODES_PER_DEVIATION) ** 2))
        return np.searchsorted(blocks, keys[piece[0]] + around), x, y

    path = ["einsum_path", (0, 1), (0, 1)]  # one matrix product each
    for piece in pieces:
        near, x, y = at_nodes(piece)
        grid[near] += np.einsum("nc,nai,nbj->abcij", weights[piece], x, y, optimize=path)
    sums = np.empty_like(weights)
    for piece in pieces:
        near, x, y = at_nodes(piece)
        sums[piece] = np.einsum("abcij,nai,nbj->nc", grid[near], x, y, optimize=path)
    return np.asarray(sums * (2.0 / (np.pi * NODES_PER_DEVIATION**2)))


def squared_distances(a: Floats, b: Floats) -> Floats:
    """(n, m) squared distances between points (n, 2) and (m, 2).

    Differences are squared, not ``|a|^2 - 2ab + |b|^2``, which cancels for near points.

    Examples
    --------
    >>> squared_distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 1.0]]))
    array([[25.,  1.]])
    """
    squares = np.subtract.outer(a[:, 0], b[:, 0]) ** 2
    squares += np.subtract.outer(a[:, 1], b[:, 1]) ** 2
    return squares
