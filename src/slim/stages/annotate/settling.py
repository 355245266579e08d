"""When asking may end: more answers hardly change what is taken for the object."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from slim.arrays import Flags, Floats
from slim.localization import (
    Localizer,
    PlaceAnswers,
    Places,
    answered_localizer,
    supposed_localizer,
    unanswered_localizer,
)
from slim.stages.judgements import PLACE_COLUMNS, Judgements

LAST = 5
"""Answers without which the maps are made once more."""

STAYING = 0.9
"""Overlap with the maps without the last answers from which more of them hardly change anything."""

_COMPARED, _SAMPLE = 500, 300


@dataclass(frozen=True)
class Progress:
    """Whether more answers would change what is taken for the object.

    Parameters
    ----------
    staying
        Mean intersection over union, from 0 to 1, of the maps of up to 500 images with the maps made without the last
        five answers; None for fewer than ten.
    """

    staying: float | None = None

    @property
    def settled(self) -> bool:
        """Whether asking may end."""
        return self.staying is not None and self.staying >= STAYING

    @property
    def note(self) -> str:
        """The same in a sentence; empty while there are few answers.

        Examples
        --------
        >>> Progress(0.942).note
        'More clicks would hardly change the object maps (overlap of 0.94 with those made without the last 5 answers).'
        >>> Progress(0.5).note
        'The object maps are still changing (overlap of 0.50 with those made without the last 5 answers).'
        >>> Progress().note
        ''
        """
        much = f"overlap of {self.staying or 0:.2f} with those made without the last {LAST} answers"
        if self.settled:
            return f"More clicks would hardly change the object maps ({much})."
        return "" if self.staying is None else f"The object maps are still changing ({much})."


class Objects:
    """What is taken for the object in the images of a pool, by any number of answers.

    Parameters
    ----------
    places
        (n, g, g, c) features of the places.
    maps
        (n, h, w) attention maps in [0, 1].
    """

    def __init__(self, places: Places, maps: Floats) -> None:
        self.places = places
        self._maps = maps

    @cached_property
    def _unanswered(self) -> Localizer:
        """What is taken for the object as long as no answer says what it is."""
        return unanswered_localizer(self.places[spread(len(self.places), _SAMPLE)])

    def answers(self, counted: pd.DataFrame) -> PlaceAnswers:
        """What core and spurious answers say about places.

        Parameters
        ----------
        counted
            ``answer`` and the columns of a place, by position in the pool, latest last: see `answers_that_count`.
        """
        rows = counted[counted["answer"].isin(("core", "spurious"))]
        index = rows.index.to_numpy(dtype=np.int64)
        core, where = (rows["answer"] == "core").to_numpy(), rows[list(PLACE_COLUMNS)].to_numpy(dtype=np.float64)
        return PlaceAnswers.from_judgements(self.places[index], self._maps[index], core, where)

    def localizer(self, answers: PlaceAnswers) -> Localizer:
        """The same as `fit_localizer`, which does not keep what is the same after every answer."""
        return answered_localizer(answers) or supposed_localizer(answers, self._unanswered)

    def progress(self, answers: PlaceAnswers, localizer: Localizer) -> Progress:
        """How much the last of the answers changed that a localizer is made from."""
        if len(answers.places) < 2 * LAST:
            return Progress()
        some = self.places[spread(len(self.places), _COMPARED)]
        return Progress(_overlap(localizer.inside(some), self.localizer(answers[:-LAST]).inside(some)))

    def progress_of(self, judgements: Judgements) -> Progress:
        """The same for judgements, latest last."""
        answers = self.answers(judgements.frame.set_index("index"))
        return self.progress(answers, self.localizer(answers))


def spread(n: int, most: int) -> slice:
    """At most so many of n images, at even distances: a slice, which copies nothing.

    Examples
    --------
    >>> list(range(10))[spread(10, 4)]
    [0, 3, 6, 9]
    """
    return slice(0, n, max(1, -(-n // most)))


def _overlap(one: Flags, other: Flags) -> float | None:
    """Mean intersection over union of maps (n, g, g); None where all are empty."""
    either = (one | other).sum((1, 2))
    return float(((one & other).sum((1, 2)) / np.maximum(either, 1))[either > 0].mean()) if either.any() else None
