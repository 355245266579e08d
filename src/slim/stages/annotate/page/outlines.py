"""What SLIM takes for the object, from the answers so far: outlines of photos that nobody has judged."""

from __future__ import annotations

import secrets
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from slim.arrays import Floats, Ints
from slim.errors import DataError
from slim.localization import Localizer, Places
from slim.stages.annotate.settling import Objects, Progress, spread

DRAWN, LEAST_SURE = 3, 3
"""Photos on the page: drawn at random, and those in which SLIM is least sure."""

_MOST = 5_000
_UNSURE = 0.1  # of the pool: a photo stays on the page while it is among the least sure


@dataclass(frozen=True, eq=False)
class Found:
    """What was found by one computation; whoever draws it keeps it while the next one runs.

    Attributes
    ----------
    version
        Of the pictures; empty before the first computation.
    drawn
        Positions of up to three random images without an answer, which show what the maps are like.
    least_sure
        Positions of up to three others in which SLIM is least sure of the object.
    progress
        Whether more answers would change the maps.
    localizer
        Finds the object in every image; None before the first computation.
    """

    version: str = ""
    drawn: tuple[int, ...] = ()
    least_sure: tuple[int, ...] = ()
    progress: Progress = field(default_factory=Progress)
    localizer: Localizer | None = None


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
    by little. In a data set with masks, the objects found in such images overlapped least with the true ones, so that
    others are shown as well. Of more than 5,000 images, up to so many at even distances are compared.
    """

    def __init__(self, places: Places, maps: Floats) -> None:
        self._objects = Objects(places, maps)
        self._candidates = np.arange(len(places))[spread(len(places), _MOST)]
        self._order = np.random.default_rng(0).permutation(len(places)).tolist()
        self._start, self._count = secrets.token_hex(4), 0  # versions count from zero again after a restart
        self.found = Found()

    def update(self, counted: pd.DataFrame, flagged: Set[int] = frozenset()) -> None:
        """Compute from answers, after which `found` and `scores` follow them.

        Parameters
        ----------
        counted
            As `answers_that_count` returns them, latest last.
        flagged
            Images that are not to be shown.
        """
        answers = self._objects.answers(counted)
        localizer = self._objects.localizer(answers)
        progress = self._objects.progress(answers, localizer)
        known = flagged | set(counted.index)
        drawn = _renewed(self.found.drawn, [image for image in self._order if image not in known], DRAWN)
        least_sure = self._least_sure(localizer, known | set(drawn))
        self._count += 1
        self.found = Found(f"{self._start}-{self._count}", drawn, least_sure, progress, localizer)

    def scores(self, image: int) -> tuple[Floats, float]:
        """(g, g) scores of an image's places, and where its object begins among them.

        Raises
        ------
        DataError
            Nothing is computed yet.
        """
        localizer = self.found.localizer
        if localizer is None:
            raise DataError("Objects must be found before they are outlined. Got no computation yet. Reload the page.")
        return np.asarray(localizer.scores(self._objects.places[[image]])[0]), localizer.cut

    def _least_sure(self, localizer: Localizer, known: Set[int]) -> tuple[int, ...]:
        """The images to show: those shown before, as long as they are among the least sure, and the next ones."""
        scores = localizer.scores(self._objects.places[spread(len(self._objects.places), _MOST)])
        contrast = scores.max((1, 2)) - np.median(scores, (1, 2))
        order: Ints = self._candidates[np.argsort(contrast, kind="stable")]
        unsure = [image for image in order.tolist() if image not in known]
        among = max(LEAST_SURE, round(_UNSURE * len(unsure)))
        return _renewed(self.found.least_sure, unsure, LEAST_SURE, among)


def _renewed(shown: Sequence[int], order: Sequence[int], count: int, among: int | None = None) -> tuple[int, ...]:
    """So many of the images in an order: those shown before that are `among` the first stay where they are.

    Examples
    --------
    >>> _renewed((7, 2, 5), [5, 1, 7, 4], 3)
    (7, 1, 5)
    >>> _renewed((7, 2, 5), [5, 1, 7, 4], 3, among=2)
    (1, 7, 5)
    """
    staying = set(order[:among]).intersection(shown)
    others = (image for image in order if image not in staying)
    slots = [image if image in staying else None for image in shown] + [None] * (count - len(shown))
    chosen = (next(others, None) if image is None else image for image in slots)
    return tuple(image for image in chosen if image is not None)
