"""What answers say of all images, as the page shows it after each answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slim.annotation.queries import Answer

STEADY = 0.02  # mean change of a class's scores below which an answer has changed nothing
STEPS = 4  # so many answers in a row that change nothing are enough
FEW = 3  # answers of a kind
HOPEFUL = 0.65  # an AUC that more answers may well lift clear of chance
ENOUGH = 16  # answers after which a class that they do not separate will hardly come right by more of them

State = Literal["empty", "one kind", "unclear", "going on", "settled"]


@dataclass(frozen=True)
class Trust:
    """How far the scores of one class can be trusted.

    Parameters
    ----------
    n_core, n_spurious
        Answers of each kind.
    auc, low, high
        Area under the ROC curve of left-out scores, and its 95 % interval; None where there is one kind only.
    """

    n_core: int
    n_spurious: int
    auc: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def counts(self) -> tuple[int, int]:
        """Answers of each kind."""
        return self.n_core, self.n_spurious

    @property
    def few(self) -> bool:
        """Whether there are so few answers of a kind that the AUC says nothing: leaving one out leaves hardly any."""
        return min(self.n_core, self.n_spurious) < FEW


@dataclass(frozen=True, eq=False)
class Spread:
    """The attention scores that answers give so far.

    Parameters
    ----------
    scores
        (n,) in [0, 1], 1 = looks at the core; NaN in classes without an answer.
    trust
        For each class.
    """

    scores: NDArray[np.float32]
    trust: tuple[Trust, ...]


Spreading = Callable[[Mapping[int, Answer]], Spread]
"""Gives the scores from the answers by image."""


@dataclass(frozen=True)
class Step:
    """A class's trust after one more answer, and how much the answer moved its scores (mean, in [0, 1])."""

    trust: Trust
    change: float


def state(steps: list[Step]) -> State:
    """Whether more answers about a class would change anything.

    Examples
    --------
    >>> state([])
    'empty'
    >>> state([Step(Trust(3, 0), 0.0)])
    'one kind'
    >>> state([Step(Trust(6, 6, 0.9, 0.7, 1.0), change) for change in (0.3, 0.01, 0.0, 0.01, 0.0)])
    'settled'
    """
    trust = steps[-1].trust if steps else Trust(0, 0)
    n = trust.n_core + trust.n_spurious
    if n == 0:
        return "empty"
    if trust.low is None:
        return "one kind"
    if trust.low <= 0.5:
        return "unclear" if n >= ENOUGH and not trust.few else "going on"
    last = steps[-STEPS:]
    return "settled" if len(last) == STEPS and all(step.change < STEADY for step in last) else "going on"


def advice(name: str, steps: list[Step]) -> str:
    """A plain sentence on what to do next about a class.

    Examples
    --------
    >>> advice("cat", [])
    'No answer about cat yet.'
    """
    now = state(steps)
    if now == "empty":
        return f"No answer about {name} yet."
    trust = steps[-1].trust
    if now == "one kind":
        kind, n = ("on the object", trust.n_core) if trust.n_core else ("beside it", trust.n_spurious)
        few = "Go on" if n < 8 else "Ask for more, or pick photos from another part of the map"
        return f"{n} of {n} answers about {name} say {kind}: nothing can be told before the other kind comes. {few}."
    if trust.few:
        return (
            f"{trust.n_core} core and {trust.n_spurious} spurious about {name}: {FEW} of each are the least that can "
            "tell whether its scores beat chance. Go on, or ask for more."
        )
    if now == "unclear" and trust.auc is not None and trust.auc >= HOPEFUL:
        return (
            f"The scores of {name} rank left-out answers better than chance, but {trust.n_core + trust.n_spurious} "
            "answers are too few to be sure. Ask for more."
        )
    if now == "unclear":
        return (
            f"{trust.n_core + trust.n_spurious} answers about {name} do not separate right from wrong. Ask for a few "
            "more; if that does not help, attend to another layer: slim run RUN --train.layer NAME."
        )
    if now == "settled":
        return f"More answers about {name} hardly change anything: the last {STEPS} moved its scores by under 2 %."
    if trust.low is not None and trust.low <= 0.5:
        return f"Too few answers about {name} to tell whether its scores beat chance. Go on."
    return f"The scores of {name} beat chance, and each answer still moves them. Go on."
