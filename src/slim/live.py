"""Judgements spread as they come: only the classes that they are about, each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slim.annotation import Answer, Spread, Trust
from slim.propagation import ANSWERS, UNASKED, PropagateSettings, propagate_class


class LiveSpreading:
    """Gives the attention scores of every image from the answers so far; what has not changed is not done again.

    Parameters
    ----------
    coordinates
        (n, 2) attention space.
    y
        (n,) labels.
    settings
        As for `slim.propagation.propagate`.
    class_names
        The name of each class.

    Examples
    --------
    >>> coordinates = np.array([[0.0, 0.0], [0.1, 0.0], [2.0, 0.0], [2.1, 0.0]])
    >>> spreading = LiveSpreading(coordinates, np.zeros(4, int), PropagateSettings(gamma=5), ["bird"])
    >>> spreading({0: "core", 3: "spurious"}).scores.round(1)
    array([1., 1., 0., 0.], dtype=float32)
    """

    def __init__(
        self, coordinates: ArrayLike, y: NDArray[np.int64], settings: PropagateSettings, class_names: Sequence[str]
    ) -> None:
        points = np.asarray(coordinates, np.float64)
        self._members = [np.flatnonzero(y == label) for label in range(len(class_names))]
        self._points = [points[members] for members in self._members]
        self._settings = settings
        self._names = class_names
        self._scores = np.full(len(y), np.nan, np.float32)
        self._trust = [Trust(0, 0)] * len(class_names)
        self._codes = [np.full(len(members), UNASKED, np.int8) for members in self._members]

    def __call__(self, answers: Mapping[int, Answer]) -> Spread:
        """The scores that these answers, by image, give."""
        codes = np.full(len(self._scores), UNASKED, np.int8)
        for index, answer in answers.items():
            codes[index] = ANSWERS[answer]
        for label, members in enumerate(self._members):
            if not np.array_equal(codes[members], self._codes[label]):
                self._codes[label] = codes[members]
                self._spread(label)
        return Spread(self._scores.copy(), tuple(self._trust))

    def _spread(self, label: int) -> None:
        """Score one class anew."""
        codes = self._codes[label]
        if not np.isin(codes, (ANSWERS["core"], ANSWERS["spurious"])).any():
            self._scores[self._members[label]], self._trust[label] = np.nan, Trust(0, 0)
            return
        scores, trust = propagate_class(self._points[label], codes, self._settings, self._names[label])
        self._scores[self._members[label]] = scores
        self._trust[label] = Trust(trust.n_core, trust.n_spurious, trust.auc, trust.low, trust.high)
