"""The baseline subset: images drawn at random."""

from __future__ import annotations

import numpy as np

from slim.arrays import Ints
from slim.errors import SettingsError


def random_subset(y: Ints, size: int, seed: int) -> Ints:
    """(size,) positions drawn without replacement, and drawn again until every class has an image.

    Raises
    ------
    SettingsError
        A hundred draws missed a class.

    Examples
    --------
    >>> len(random_subset(np.array([0, 1] * 50), 10, seed=0))
    10
    """
    rng = np.random.default_rng((seed, 1))
    for _ in range(100):
        drawn = np.sort(rng.choice(len(y), size, replace=False))
        if len(np.unique(y[drawn])) == len(np.unique(y)):
            return drawn
    raise SettingsError(
        f"A random subset must hold an image of each class. Got 100 draws of {size} images without. "
        "Choose a larger --size."
    )
