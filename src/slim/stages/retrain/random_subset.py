"""The baseline subset: images drawn at random."""

from __future__ import annotations

import numpy as np

from slim.arrays import Ints
from slim.errors import SettingsError


def random_subset(y: Ints, size: int, seed: int) -> Ints:
    """(size,) positions drawn without replacement, and drawn again until every class has an image.

    Where a hundred draws miss a class, since there are many or rare ones, an image of each class is drawn first.

    Raises
    ------
    SettingsError
        There are more classes than images in the subset.

    Examples
    --------
    >>> len(random_subset(np.array([0, 1] * 50), 10, seed=0))
    10
    """
    rng, classes = np.random.default_rng((seed, 1)), np.unique(y)
    if size < len(classes):
        raise SettingsError(
            f"The subset must hold an image of each class. Got size {size} for {len(classes)} classes. "
            "Choose a larger --size."
        )
    for _ in range(100):
        drawn = np.sort(rng.choice(len(y), size, replace=False))
        if len(np.unique(y[drawn])) == len(classes):
            return drawn
    first = np.array([rng.choice(np.flatnonzero(y == label)) for label in classes])
    rest = rng.choice(np.setdiff1d(np.arange(len(y)), first), size - len(first), replace=False)
    return np.sort(np.concatenate([first, rest]))
