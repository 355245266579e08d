"""What the page advises after each answer: continue, stop, or try something else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from slim.stages.propagate.scores import ClassTrust

STEADY = 0.02  # an answer that changes the scores of its class by less, on average, has changed nothing
STEPS = 4  # consecutive answers that change nothing, after which a class is settled
FEW = 3  # answers of each kind that an AUC needs to mean anything
HOPEFUL = 0.65  # an AUC that more answers may well lift clear of chance
ENOUGH = 16  # answers that should separate core from spurious, if any number does
MORE = "“+5\u00a0more”"  # the label of the button

State = Literal["empty", "one kind", "unclear", "going on", "settled"]


def few_answers(trust: ClassTrust) -> bool:
    """Whether one kind of answer is so rare that the AUC means nothing."""
    return min(trust.n_core, trust.n_spurious) < FEW


@dataclass(frozen=True)
class Step:
    """A class's trust after an answer, and the mean change of its scores by that answer, in [0, 1]."""

    trust: ClassTrust
    change: float


def state(steps: list[Step]) -> State:
    """Whether more answers would improve the scores of a class.

    Examples
    --------
    >>> state([])
    'empty'
    >>> one_kind = ClassTrust("cat", 3, 0, 0, 9, None, None, None, None, "one kind of answer")
    >>> state([Step(one_kind, 0.0)])
    'one kind'
    >>> both = ClassTrust("cat", 6, 6, 0, 9, None, 0.9, 0.7, 1.0, "above chance")
    >>> state([Step(both, change) for change in (0.3, 0.01, 0.0, 0.01, 0.0)])
    'settled'
    """
    if not steps or steps[-1].trust.verdict == "no answer":
        return "empty"
    trust = steps[-1].trust
    if trust.low is None:
        return "one kind"
    if trust.low <= 0.5:
        enough = trust.n_core + trust.n_spurious >= ENOUGH and not few_answers(trust)
        return "unclear" if enough else "going on"
    last = steps[-STEPS:]
    return "settled" if len(last) == STEPS and all(step.change < STEADY for step in last) else "going on"


def advice(name: str, steps: list[Step]) -> str:
    """What to do next about a class, in plain sentences.

    Examples
    --------
    >>> advice("cat", [])
    'No answers for cat yet.'
    >>> advice("cat", [Step(ClassTrust("cat", 0, 1, 0, 9, None, None, None, None, "one kind of answer"), 0.0)])
    'The only answer for cat is spurious (off the object). Its scores cannot be checked without core answers. Continue.'
    """
    now = state(steps)
    if now == "empty":
        return f"No answers for {name} yet."
    trust = steps[-1].trust
    n = trust.n_core + trust.n_spurious
    if now == "one kind":
        kind, other = ("core (on the object)", "spurious") if trust.n_core else ("spurious (off the object)", "core")
        count = f"The only answer for {name} is" if n == 1 else f"All {n} answers for {name} are"
        following = "Continue." if n < 8 else f"Press {MORE}, or pick photos from another part of the map."
        return f"{count} {kind}. Its scores cannot be checked without {other} answers. {following}"
    if few_answers(trust):
        return (
            f"{n} answers for {name}: {trust.n_core} core, {trust.n_spurious} spurious. At least {FEW} of each are "
            f"needed to check whether its scores beat chance. Continue, or press {MORE}."
        )
    if now == "unclear" and trust.auc is not None and trust.auc >= HOPEFUL:
        return (
            f"The scores for {name} predict held-out answers better than chance, but {n} answers are too few to be "
            f"sure. Press {MORE}."
        )
    if now == "unclear":
        return (
            f"The {n} answers for {name} do not separate core from spurious. Press {MORE}; if that does not help, use "
            "the attention of another layer: slim run RUN --train.layer NAME."
        )
    if now == "settled":
        return (
            f"More answers for {name} would hardly change anything: each of the last {STEPS} changed its scores by "
            f"less than {STEADY} on average."
        )
    if trust.low is not None and trust.low <= 0.5:
        return f"{n} answers for {name} are too few to tell whether its scores beat chance. Continue."
    return f"The scores for {name} beat chance, and each answer still changes them. Continue."
