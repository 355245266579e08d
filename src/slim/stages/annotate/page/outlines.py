"""What SLIM takes for the object, from the answers so far: outlines of the photos where it is least sure."""

from __future__ import annotations

import secrets
from collections.abc import Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from slim.arrays import Flags, Floats
from slim.errors import DataError
from slim.localization import (
    CUT,
    Localizer,
    PlaceAnswers,
    Places,
    relative_scores,
    supposed_localizer,
    unanswered_localizer,
)
from slim.stages.judgements import PLACE_COLUMNS

STRIP = 6
"""Photos on the page."""

ENOUGH = 10
"""Answers from which the page says how much of the maps stays."""

_LAST = 5
_STAYING = 0.9
_MOST, _COMPARED, _SAMPLE = 5_000, 500, 300
_UNSURE = 0.1  # of the pool: a photo stays on the page while it is among the least sure


@dataclass(frozen=True, eq=False)
class Found:
    """What was found by one computation; whoever draws it keeps it while the next one runs.

    Attributes
    ----------
    version
        Of the pictures; empty before the first computation.
    index
        Positions of up to six images without an answer in which SLIM is least sure of the object.
    staying
        Mean overlap (IoU) of the maps with those made without the last five answers; None for fewer than ten answers.
    localizer
        Finds the object in every image; None before the first computation.
    """

    version: str = ""
    index: tuple[int, ...] = ()
    staying: float | None = None
    localizer: Localizer | None = None

    @property
    def note(self) -> str:
        """Whether more clicks still change the maps, as the page says it.

        Examples
        --------
        >>> Found(staying=0.942).note
        'More clicks hardly change what SLIM takes for the object (0.94 of it stays without the last 5 answers).'
        >>> Found(staying=0.5).note
        'Still changing: 0.50 of it stays without the last 5 answers.'
        """
        if self.staying is None:
            return ""
        much = f"{self.staying:.2f} of it stays without the last {_LAST} answers"
        if self.staying < _STAYING:
            return f"Still changing: {much}."
        return f"More clicks hardly change what SLIM takes for the object ({much})."


class Outlines:
    """The object in every image of a pool as far as answers tell, and the images in which to look at it.

    Parameters
    ----------
    places
        (n, g, g, c) features of the places.
    maps
        (n, h, w) attention maps in [0, 1].

    Notes
    -----
    SLIM is least sure of the images in which nothing stands out: the highest score of a place exceeds the median one
    by little. In a data set with masks, the objects found in such images overlapped least with the true ones. Of more
    than 5,000 images, up to so many at even distances are compared.
    """

    def __init__(self, places: Places, maps: Floats) -> None:
        self._places = np.asarray(places)
        self._maps = maps
        self._candidates = np.arange(len(places))[_spread(len(places), _MOST)]
        self._start, self._count = secrets.token_hex(4), 0  # versions count from zero again after a restart
        self.found = Found()

    @cached_property
    def _unanswered(self) -> Localizer:
        """What is taken for the object as long as no answer says what it is."""
        return unanswered_localizer(self._places[_spread(len(self._places), _SAMPLE)])

    def update(self, counted: pd.DataFrame, flagged: Set[int] = frozenset()) -> None:
        """Compute from answers, after which `found` and `scores` follow them.

        Parameters
        ----------
        counted
            As `answers_that_count` returns them, latest last.
        flagged
            Images that are not to be shown.
        """
        answers = self._answers(counted)
        localizer = self._localizer(answers)
        index = self._least_sure(localizer, flagged | set(counted.index))
        self._count += 1
        self.found = Found(f"{self._start}-{self._count}", index, self._staying(localizer, answers), localizer)

    def scores(self, image: int) -> Floats:
        """(g, g) scores of an image's places.

        Raises
        ------
        DataError
            Nothing is computed yet.
        """
        localizer = self.found.localizer
        if localizer is None:
            raise DataError("Objects must be found before they are outlined. Got no computation yet. Reload the page.")
        return np.asarray(localizer.scores(self._places[[image]])[0])

    def _localizer(self, answers: PlaceAnswers) -> Localizer:
        """The same as `fit_localizer`, which does not keep what is the same after every answer."""
        return Localizer.fit(answers) or supposed_localizer(answers, self._unanswered)

    def _answers(self, counted: pd.DataFrame) -> PlaceAnswers:
        """What the core and spurious answers say about places."""
        rows = counted[counted["answer"].isin(("core", "spurious"))]
        index = rows.index.to_numpy(dtype=np.int64)
        core, where = (rows["answer"] == "core").to_numpy(), rows[list(PLACE_COLUMNS)].to_numpy(dtype=np.float64)
        return PlaceAnswers.from_judgements(self._places[index], self._maps[index], core, where)

    def _least_sure(self, localizer: Localizer, known: Set[int]) -> tuple[int, ...]:
        """The images to show: those shown before, as long as they are among the least sure, and the next ones."""
        scores = localizer.scores(self._places[_spread(len(self._places), _MOST)])
        contrast = scores.max((1, 2)) - np.median(scores, (1, 2))
        unsure = [
            image for image in self._candidates[np.argsort(contrast, kind="stable")].tolist() if image not in known
        ]
        among = set(unsure[: max(STRIP, round(_UNSURE * len(unsure)))])
        kept = [image if image in among else None for image in self.found.index]
        others = (image for image in unsure if image not in kept)
        slots = [*kept, *[None] * (STRIP - len(kept))]
        chosen = (next(others, None) if image is None else image for image in slots)
        return tuple(image for image in chosen if image is not None)

    def _staying(self, localizer: Localizer, answers: PlaceAnswers) -> float | None:
        """Mean overlap (IoU) of the maps with those made without the last answers; None for few answers."""
        if len(answers.places) < ENOUGH:
            return None
        earlier = self._localizer(answers[:-_LAST])
        places = self._places[_spread(len(self._places), _COMPARED)]
        now, before = (_inside(one, places) for one in (localizer, earlier))
        either = (now | before).sum((1, 2))
        return float(((now & before).sum((1, 2)) / np.maximum(either, 1))[either > 0].mean()) if either.any() else None


def _spread(n: int, most: int) -> slice:
    """At most so many of n images, at even distances: a slice, which copies nothing."""
    return slice(0, n, max(1, -(-n // most)))


def _inside(localizer: Localizer, places: Places) -> Flags:
    """(n, g, g) whether each place is taken for the object."""
    return np.asarray(relative_scores(localizer.scores(places)) > CUT)
