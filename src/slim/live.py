"""Attention scores from the judgements as they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slim.annotation import Answer, Spread, Trust
from slim.propagation import ANSWERS, CORE, UNASKED, ClassTrust, FittedRegression, PropagateSettings, propagate_class


class LiveSpreading:
    """Gives the attention scores of every image from the answers so far; what has not changed is not done again.

    Parameters
    ----------
    points
        Of the attention space, as `slim.propagation.propagate` takes them.
    y
        (n,) labels.
    settings
        As for `slim.propagation.propagate`.
    class_names
        The name of each class.

    Examples
    --------
    >>> points = np.array([[0.0, 0.0], [0.1, 0.0], [2.0, 0.0], [2.1, 0.0]])
    >>> spreading = LiveSpreading(points, np.zeros(4, int), PropagateSettings(), ["bird"])
    >>> spreading({0: "core", 3: "spurious"}).scores.round(1)
    array([1., 1., 0., 0.], dtype=float32)
    """

    def __init__(
        self, points: ArrayLike, y: NDArray[np.int64], settings: PropagateSettings, class_names: Sequence[str]
    ) -> None:
        self._points = np.asarray(points, np.float64)
        self._members = [np.flatnonzero(y == label) for label in range(len(class_names))]
        self._settings = settings
        self._names = class_names
        self._scores = np.full(len(y), np.nan, np.float32)
        self._trust = [Trust(0, 0)] * len(class_names)
        self._codes = np.full(len(y), UNASKED, np.int8)

    def __call__(self, answers: Mapping[int, Answer]) -> Spread:
        """The scores that these answers, by image, give."""
        codes = np.full(len(self._scores), UNASKED, np.int8)
        for index, answer in answers.items():
            codes[index] = ANSWERS[answer]
        before, self._codes = self._codes, codes
        if self._settings.method == "regression":
            if not np.array_equal(codes, before):
                self._regress()
        else:
            for label, members in enumerate(self._members):
                if not np.array_equal(codes[members], before[members]):
                    self._spread(label)
        return Spread(self._scores.copy(), tuple(self._trust))

    def _regress(self) -> None:
        """Score all classes that have an answer anew, since each answer tells of all."""
        fitted = FittedRegression.of(self._points, self._codes)
        for label, members in enumerate(self._members):
            if (self._codes[members] <= CORE).any():
                self._note(label, *fitted.of_class(members, self._names[label]))
            else:
                self._note(label, np.nan, None)

    def _spread(self, label: int) -> None:
        """Score one class anew."""
        members, codes = self._members[label], self._codes[self._members[label]]
        if (codes <= CORE).any():
            self._note(label, *propagate_class(self._points[members], codes, self._settings, self._names[label]))
        else:
            self._note(label, np.nan, None)

    def _note(self, label: int, scores: NDArray[np.floating] | float, trust: ClassTrust | None) -> None:
        """Keep what was found about a class."""
        self._scores[self._members[label]] = scores
        self._trust[label] = (
            Trust(trust.n_core, trust.n_spurious, trust.auc, trust.low, trust.high) if trust else Trust(0, 0)
        )
