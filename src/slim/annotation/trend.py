"""The course of each class's trust, answer by answer: as answers come, and from the store those given before."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slim.annotation.judgements import majority
from slim.annotation.queries import Answer
from slim.annotation.spread import Spread, Spreading, Step

DRAWN = 40  # steps of a class that the page draws


class Trends:
    """What each answer did to its class.

    Parameters
    ----------
    y
        (n,) labels of the pool.
    n_classes
        How many there are.
    """

    def __init__(self, y: NDArray[np.int64], n_classes: int) -> None:
        self._y = y
        self.steps: list[list[Step]] = [[] for _ in range(n_classes)]

    def note(self, before: Spread, now: Spread) -> None:
        """Add a step to each class with other answers; answers about other classes may change its trust as well."""
        for label, steps in enumerate(self.steps):
            if now.trust[label].counts != before.trust[label].counts:
                steps.append(self._step(label, before, now))
            elif steps:
                steps[-1] = replace(steps[-1], trust=now.trust[label])

    def _step(self, label: int, before: Spread, now: Spread) -> Step:
        members = self._y == label
        change = np.abs(now.scores[members] - before.scores[members]).mean()
        return Step(now.trust[label], 1.0 if np.isnan(change) else float(change))

    def recall(
        self, history: pd.DataFrame, now: Callable[[], Mapping[int, Answer]], spreading: Spreading, nothing: Spread
    ) -> Iterator[bool]:
        """Put the steps that were made before this start in front, one spreading at a time.

        Parameters
        ----------
        history
            What people have said, as `Store.history`.
        now
            Gives the present answers; those of other classes stay while one is gone through, so that these are not
            spread anew.
        spreading, nothing
            Gives the scores; those without any answer.

        Yields
        ------
        bool
            Whether a class is finished.
        """
        for label, course in courses(history, self._y).items():
            recalled, before = [], nothing
            for answers in course:
                others = {index: answer for index, answer in now().items() if self._y[index] != label}
                spread = spreading({**others, **answers})
                if spread.trust[label].counts != before.trust[label].counts:
                    recalled.append(self._step(label, before, spread))
                before = spread
                yield False
            live = self.steps[label]
            if live and recalled and live[0].trust.counts == recalled[-1].trust.counts:
                live = live[1:]  # all that was there at the start, at once
            self.steps[label] = [*recalled[-DRAWN:], *live]
            yield True


def courses(history: pd.DataFrame, y: NDArray[np.int64]) -> dict[int, list[dict[int, Answer]]]:
    """The answers of record of each class after each of its last rows, oldest first.

    Examples
    --------
    >>> rows = [(0, "core", "ann", False), (1, "core", "ann", False), (0, "undone", "ann", False)]
    >>> courses(pd.DataFrame(rows, columns=["index", "answer", "annotator", "settles"]), np.zeros(2, int))
    {0: [{0: 'core'}, {0: 'core', 1: 'core'}, {1: 'core'}]}
    """
    columns = ["index", "answer", "annotator", "settles"]
    rows = [(int(index), answer, who, settles) for index, answer, who, settles in history[columns].to_numpy().tolist()]
    left = Counter(int(y[index]) for index, *_ in rows)
    votes: dict[int, dict[int | str, Answer]] = defaultdict(dict)
    settled: dict[int | str, Answer] = {}
    record: dict[int, dict[int, Answer]] = defaultdict(dict)
    found: dict[int, list[dict[int, Answer]]] = defaultdict(list)
    for index, answer, who, settles in rows:
        label = int(y[index])
        holder: dict[int | str, Answer] = settled if settles else votes[index]
        holder.pop(index if settles else who, None)
        if answer != "undone":
            holder[index if settles else who] = answer
        record[label].pop(index, None)
        if index in settled or votes[index]:
            record[label][index] = settled.get(index) or majority(votes[index].values())
        if left[label] <= DRAWN + 1:
            found[label].append(dict(record[label]))
        left[label] -= 1
    return dict(found)
