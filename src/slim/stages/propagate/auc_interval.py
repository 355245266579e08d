"""Area under the ROC curve from pairwise comparisons, and its 95 % interval."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from slim.arrays import Floats

SHARED_ANSWERS = 4 / 3
"""How much larger the standard errors of left-out scores are, see `auc_with_interval`."""


def comparisons(differences: Floats) -> Floats:
    """1 where the core image scores higher than the spurious one, 0.5 where they tie to round-off, else 0.

    Examples
    --------
    >>> comparisons(np.array([[0.2, 1e-12], [-0.1, 0.4]]))
    array([[1. , 0.5],
           [0. , 1. ]])
    """
    return (1.0 + np.sign(differences.round(9))) / 2.0


def auc_with_interval(comparisons: Floats, widening: float = SHARED_ANSWERS) -> tuple[float, float, float]:
    """Area under the ROC curve and the bounds of its 95 % interval.

    Parameters
    ----------
    comparisons
        (n_core, n_spurious) of 0, 0.5 and 1. Their mean is the AUC.
    widening
        Factor on the standard errors; 1 for scores that were computed without the answers.

    Notes
    -----
    The interval is method 5 of Newcombe [1]_: each bound lies 1.96 of its own Hanley-McNeil standard errors away from
    the AUC. These errors assume independent scores. Left-out scores are computed from one another's answers and vary
    more: where answers and space were unrelated, the plain interval contained 0.5 in 85 to 86 % of 900 draws of 20 or
    40 answers, and the interval with errors 4/3 times as large in 94 to 96 %.

    References
    ----------
    .. [1] Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2",
       Statistics in Medicine 25, 2006.

    Examples
    --------
    >>> auc_with_interval(np.array([[1.0, 1.0], [0.5, 1.0]]))[0]
    0.875
    """
    auc = float(comparisons.mean())
    n_core, n_spurious = comparisons.shape
    errors = 1.959964 * widening
    low, high = (_lower_bound(value, n_core, n_spurious, errors) for value in (auc, 1.0 - auc))
    return auc, low, 1.0 - high


def _lower_bound(auc: float, n_core: int, n_spurious: int, errors: float) -> float:
    """The true AUC that lies `errors` of its own standard errors below the observed one."""
    middle = (n_core + n_spurious) / 2 - 1

    def gap(true: float) -> float:
        excess = middle * ((1 - true) / (2 - true) + true / (1 + true))
        return auc - true - errors * float(np.sqrt(true * (1 - true) * (1 + excess) / (n_core * n_spurious)))

    if auc == 0.0:
        return 0.0
    return float(brentq(gap, 0.0, min(auc, 1.0 - 1e-9)))
