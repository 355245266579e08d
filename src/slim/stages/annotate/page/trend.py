"""How each class's trust has developed: answer by answer as they come, and replayed from the store after a restart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slim.stages.annotate.page.advice import Step
from slim.stages.judgements import Answer, answer_that_counts
from slim.stages.propagate.incremental import IncrementalScores
from slim.stages.propagate.scores import ClassTrust, Scores

DRAWN = 40  # steps of a class that the page draws


class Trends:
    """How each answer changed the scores of its class.

    Parameters
    ----------
    y
        (n,) labels of the pool.
    n_classes
        Number of classes.
    """

    def __init__(self, y: NDArray[np.int64], n_classes: int) -> None:
        self._y = y
        self.steps: list[list[Step]] = [[] for _ in range(n_classes)]

    def add(self, before: Scores, now: Scores) -> None:
        """Add a step to each class with new answers; the latest trust of other classes may change as well."""
        for label, steps in enumerate(self.steps):
            if _counts(now.trust[label]) != _counts(before.trust[label]):
                steps.append(self._step(label, before, now))
            elif steps:
                steps[-1] = replace(steps[-1], trust=now.trust[label])

    def _step(self, label: int, before: Scores, now: Scores) -> Step:
        members = self._y == label
        change = np.abs(now.values[members] - before.values[members]).mean()
        return Step(now.trust[label], 1.0 if np.isnan(change) else float(change))

    def replay(
        self,
        history: pd.DataFrame,
        answers: Callable[[], Mapping[int, Answer]],
        scoring: IncrementalScores,
        no_scores: Scores,
    ) -> Iterator[bool]:
        """Prepend the steps of earlier sessions, computing the scores once per iteration.

        Parameters
        ----------
        history
            People's answers, as `Store.history` returns them.
        answers
            Returns the present answers. While one class is replayed, the others keep theirs, so that only one class
            is scored again.
        scoring, no_scores
            Computes the scores; the scores without any answer.

        Yields
        ------
        bool
            Whether a class is complete.
        """
        for label, snapshots in snapshots_by_class(history, self._y).items():
            replayed, before = [], no_scores
            for snapshot in snapshots:
                others = {index: answer for index, answer in answers().items() if self._y[index] != label}
                scores = scoring({**others, **snapshot})
                if _counts(scores.trust[label]) != _counts(before.trust[label]):
                    replayed.append(self._step(label, before, scores))
                before = scores
                yield False
            live = self.steps[label]
            if live and replayed and _counts(live[0].trust) == _counts(replayed[-1].trust):
                live = live[1:]  # this session's first step, which scored all earlier answers at once
            self.steps[label] = [*replayed[-DRAWN:], *live]
            yield True


def _counts(trust: ClassTrust) -> tuple[int, int]:
    """Answers of each kind."""
    return trust.n_core, trust.n_spurious


def snapshots_by_class(history: pd.DataFrame, y: NDArray[np.int64]) -> dict[int, list[dict[int, Answer]]]:
    """The answers that counted after each of a class's last rows, oldest first.

    Examples
    --------
    >>> rows = [(0, "core", "ann", False), (1, "core", "ann", False), (0, "undone", "ann", False)]
    >>> snapshots_by_class(pd.DataFrame(rows, columns=["index", "answer", "annotator", "settles"]), np.zeros(2, int))
    {0: [{0: 'core'}, {0: 'core', 1: 'core'}, {1: 'core'}]}
    """
    rows = history[["index", "answer", "annotator", "settles"]].to_numpy().tolist()
    left = Counter(int(y[index]) for index, *_ in rows)
    votes: dict[int, dict[str | None, Answer]] = defaultdict(dict)  # by name; None = what settles a disagreement
    counted: dict[int, dict[int, Answer]] = defaultdict(dict)
    snapshots: dict[int, list[dict[int, Answer]]] = defaultdict(list)
    for index, answer, name, settles in rows:
        label = int(y[index])
        voter, vote = None if settles else name, votes[index]
        vote.pop(voter, None)
        counted[label].pop(index, None)
        if answer != "undone":
            vote[voter] = answer
        if vote:
            by_people = [answer for voter, answer in vote.items() if voter is not None]
            counted[label][index] = answer_that_counts(by_people, vote.get(None))
        if left[label] <= DRAWN + 1:
            snapshots[label].append(dict(counted[label]))
        left[label] -= 1
    return dict(snapshots)
