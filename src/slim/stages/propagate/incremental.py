"""Attention scores while answers arrive: only what a new answer changes is recomputed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from slim.arrays import Ints
from slim.stages.judgements import CORE, UNASKED, Answer, answer_codes
from slim.stages.propagate.propagate import FittedRegression, propagate_class
from slim.stages.propagate.scores import ClassTrust, Scores
from slim.stages.settings import PropagateSettings


class IncrementalScores:
    """Computes the attention scores of every image from the answers so far.

    Parameters
    ----------
    points
        Points of the attention space, as `propagate_answers` takes them.
    y
        (n,) labels.
    settings
        See `PropagateSettings`.
    class_names
        The name of each class.

    Examples
    --------
    >>> points = np.array([[0.0, 0.0], [0.1, 0.0], [2.0, 0.0], [2.1, 0.0]])
    >>> scores = IncrementalScores(points, np.zeros(4, int), PropagateSettings(), ["bird"])
    >>> scores({0: "core", 3: "spurious"}).values.round(1)
    array([1., 1., 0., 0.], dtype=float32)
    """

    def __init__(self, points: ArrayLike, y: Ints, settings: PropagateSettings, class_names: Sequence[str]) -> None:
        self._points = np.asarray(points, np.float64)
        self._members = [np.flatnonzero(y == label) for label in range(len(class_names))]
        self._settings = settings
        self._names = class_names
        self._codes = np.full(len(y), UNASKED, np.int8)
        nothing = no_scores(y, class_names)
        self._values, self._trust = nothing.values, list(nothing.trust)

    def __call__(self, answers: Mapping[int, Answer]) -> Scores:
        """The scores given these answers by image; NaN in classes without an answer core or spurious."""
        codes = np.full(len(self._values), UNASKED, np.int8)
        codes[list(answers)] = answer_codes(list(answers.values()))
        before, self._codes = self._codes, codes
        if not np.array_equal(codes, before):
            for label in self._changed(before):
                self._score(label)
        return Scores(self._values.copy(), tuple(self._trust))

    def _changed(self, before: np.ndarray) -> list[int]:
        """The classes to score again: with regression all of them, since each answer affects all."""
        if self._settings.method == "regression":
            self._fitted = FittedRegression.fit(self._points, self._codes)
            return list(range(len(self._names)))
        return [
            label
            for label, members in enumerate(self._members)
            if not np.array_equal(self._codes[members], before[members])
        ]

    def _score(self, label: int) -> None:
        """Score one class again."""
        members, name = self._members[label], self._names[label]
        codes = self._codes[members]
        if not (codes <= CORE).any():
            self._values[members] = np.nan
            self._trust[label] = _no_answer(name, codes)
        elif self._settings.method == "regression":
            self._values[members], self._trust[label] = self._fitted.of_class(members, name)
        else:
            self._values[members], self._trust[label] = propagate_class(
                self._points[members], codes, self._settings, name
            )


def no_scores(y: Ints, class_names: Sequence[str]) -> Scores:
    """The scores before any answer: NaN everywhere.

    Parameters
    ----------
    y
        (n,) labels.
    class_names
        The name of each class.
    """
    codes = np.full(len(y), UNASKED, np.int8)
    trust = tuple(_no_answer(name, codes[y == label]) for label, name in enumerate(class_names))
    return Scores(np.full(len(y), np.nan, np.float32), trust)


def _no_answer(name: str, codes: np.ndarray) -> ClassTrust:
    """The trust in a class without an answer core or spurious."""
    unsure = int((codes != UNASKED).sum())
    return ClassTrust(name, 0, 0, unsure, len(codes) - unsure, None, None, None, None, "no answer")
