"""Speed of the l1 last layer's tuning beside a loop over scikit-learn's liblinear: `python benchmarks/last_layer.py`.

The grid of the published recipe: 11 strengths, 28 weights of the classes and 10 draws with replacement of 600 images
with 2,048 features, 3,080 fits in all; features are made up like those of a network, at least zero and correlated.
Ours are all made, liblinear's at a random hundred of the places of the grid, each of which takes as long as any other.
Prints seconds for the grid, their ratio, and the objective values of both at these hundred places.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from slim.stages.retrain.l1_path import l1_path

IMAGES, FEATURES, DRAWS, COMPARED = 600, 2048, 10, 100
STRENGTHS = tuple(np.logspace(-2, 1, 11))
RATIOS = tuple(np.concatenate([np.geomspace(1e-3, 1, 14), np.geomspace(1, 1e3, 15)[1:]]))
"""Weight of the second class over that of the first."""

Floats = NDArray[np.floating]


def features(rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    """Standardised features and labels."""
    y = rng.random(IMAGES) < 0.5
    shift = 0.8 * rng.normal(size=64) * (rng.random(64) < 0.2)
    latent = rng.normal(size=(IMAGES, 64)) + np.where(y[:, None], shift, 0)
    made = np.maximum(latent @ rng.normal(size=(64, FEATURES)) + 4 * rng.normal(size=(IMAGES, FEATURES)), 0)
    return (made - made.mean(0)) / made.std(0), y


def class_weights(y: NDArray[np.bool_], ratio: float) -> Floats:
    """(n,) weights whose mean over two equal classes is 1."""
    return np.where(y, ratio, 1.0) * 2 / (1 + ratio)


def objective(x: Floats, y: NDArray[np.bool_], costs: Floats, w: Floats, b: float) -> float:
    """What both minimise."""
    return float(np.abs(w).sum() + abs(b) + costs @ np.logaddexp(0, -np.where(y, 1, -1) * (x @ w + b)))


def main() -> None:
    """Print both sides."""
    rng = np.random.default_rng(0)
    x, y = features(rng)
    draws = [rng.integers(IMAGES, size=IMAGES) for _ in range(DRAWS)]
    grid = [(draw, ratio, i) for draw in range(DRAWS) for ratio in RATIOS for i in range(len(STRENGTHS))]
    compared = {grid[i] for i in rng.choice(len(grid), COMPARED, replace=False)}
    ours = theirs = 0.0
    excess = []
    for draw, ratio in ((draw, ratio) for draw in range(DRAWS) for ratio in RATIOS):
        some, labels = x[draws[draw]], y[draws[draw]]
        weights = class_weights(labels, ratio)
        start = time.perf_counter()
        path = list(l1_path(some, labels, weights, STRENGTHS))
        ours += time.perf_counter() - start
        for i, strength in enumerate(STRENGTHS):
            if (draw, ratio, i) not in compared:
                continue
            solver = LogisticRegression(l1_ratio=1.0, C=strength, solver="liblinear", tol=1e-3, random_state=0)
            start = time.perf_counter()
            solver.fit(some, labels, sample_weight=weights)
            theirs += (time.perf_counter() - start) * len(grid) / COMPARED
            costs = strength * weights
            peer = objective(some, labels, costs, solver.coef_[0], float(solver.intercept_[0]))
            excess.append(objective(some, labels, costs, *path[i]) / peer - 1)
    print(f"{len(grid)} fits: liblinear {theirs:.0f} s, from {COMPARED} of them; l1_path {ours:.1f} s")
    print(f"{theirs / ours:.1f} times as fast")
    print(f"objective, ours / liblinear's - 1: mean {np.mean(excess):.5f}, largest {np.max(excess):.6f}")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
