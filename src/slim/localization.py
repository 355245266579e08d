"""Where the object is in every image, learned from a few answers about where it is in some.

A linear classifier of places (cells of a grid over the image, described by a network's features) is fitted to the
judged images and applied to every place of every image.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch.nn.functional import max_pool2d

from slim.arrays import Flags, Floats
from slim.matting import CUT, relative_scores, resized
from slim.quantized import Quantized

Places = npt.NDArray[np.int8] | Quantized

_CUTS = CUT - 0.02 * np.arange(18)
_CONTAINED = 0.6
_WRONG = 0.1  # share of the answers that may be wrong

_UNIT = 32.0  # of the numbers of places: about one standard deviation
_STRENGTH = 0.03
_ATTENDED = 0.5
_BORDER_WEIGHT = 0.5
_ROUNDS = 8
_SURE, _FOCUSES, _REACH = 0.6, 3, 2
_CHUNK = 512


@dataclass(frozen=True, eq=False)
class PlaceAnswers:
    """What answers say about the places of judged images.

    Attributes
    ----------
    places
        (m, g, g, c) features of the places.
    object, background
        (m, g, g) weights from 0 to 1: 1 = surely the object, or surely background.
    near
        (m, g, g) where else the object may be.
    attended
        (m,) whether the object is what the model looks at: judged core, and nobody pointed.
    """

    places: Places
    object: Floats
    background: Floats
    near: Flags
    attended: Flags

    @classmethod
    def from_judgements(cls, places: Places, attention: Floats, core: Flags, where: Floats) -> PlaceAnswers:
        """From judged images.

        Parameters
        ----------
        places
            (m, g, g, c) features of the places.
        attention
            (m, h, w) attention maps in [0, 1].
        core
            (m,) whether each was judged core; the others were judged spurious.
        where
            (m, 4) x and y of a click on the object or of the centre of a box, and the box's width and height (0 for a
            click), relative to the frame; NaN where there is none.

        Notes
        -----
        The object is around a click, around the centre of a box, whose corners are not the object, and where the model
        looks in images judged core; and it is near there, and not outside of a box. Background is where the model looks
        in images judged spurious, and, with half the weight, what is outside of a box, or, without one, at the left,
        right and upper border.
        """
        side = places.shape[1]
        attended = resized(attention, side) >= _ATTENDED
        boxed = (where[:, 2:] > 0).any(1).reshape(-1, 1, 1)
        excluded = np.array([_excluded(place, side) for place in where], bool).reshape(-1, side, side)
        pointed = np.array([_pointed(place, side) for place in where], bool).reshape(-1, side, side)
        pointed &= ~(boxed & excluded)
        as_attended = core & ~pointed.any((1, 2))
        inside = pointed | (attended & as_attended.reshape(-1, 1, 1))
        outside = np.maximum(attended & ~core.reshape(-1, 1, 1), _BORDER_WEIGHT * excluded)
        outside[inside] = 0
        near = _dilated(inside) & ~(boxed & excluded)
        return cls(places, inside.astype(np.float64), outside, near, as_attended)

    def __getitem__(self, which: slice | Flags) -> PlaceAnswers:
        """Of some of the images."""
        return PlaceAnswers(*(getattr(self, field.name)[which] for field in fields(self)))

    def without(self, left_out: int) -> PlaceAnswers:
        """Without one image."""
        return self[np.arange(len(self.places)) != left_out]


@dataclass(frozen=True, eq=False)
class Localizer:
    """A linear classifier of places.

    Attributes
    ----------
    weight
        (2 * c,) coefficients for a place's features, and for the same minus their mean over the image.
    bias
        The intercept.
    cut
        The object begins this far from the background (0) to the peak (1) of its image's scores.
    """

    weight: Floats
    bias: float
    cut: float = CUT

    @classmethod
    def fit(cls, places: Places, inside: Floats, outside: Floats) -> Localizer | None:
        """Fit to places (m, g, g, c) with weights (m, g, g) as `PlaceAnswers` has them; None where there are none.

        Examples
        --------
        >>> places = np.zeros((1, 2, 2, 1), np.int8)
        >>> places[0, 0, 0] = 100
        >>> inside = np.array([[[1.0, 0.0], [0.0, 0.0]]])
        >>> Localizer.fit(places, inside, 1 - inside).scores(places)[0] > 0
        array([[ True, False],
               [False, False]])
        """
        inputs, target, weights = [], [], []
        described = _described(places)
        for value, parts in ((1, inside), (0, outside)):
            rows, totals = parts > 0, parts.sum((1, 2), keepdims=True)
            inputs.append(described[rows])
            target.append(np.full(int(rows.sum()), value))
            weights.append((parts / np.maximum(totals, 1e-9))[rows])  # each image counts the same
        if not len(inputs[0]) or not len(inputs[1]):
            return None
        n = sum(map(len, inputs))
        balanced = np.concatenate([n / 2 * weight / weight.sum() for weight in weights])
        solver = LogisticRegression(C=_STRENGTH, max_iter=200)
        # One thread: with two, a fit this small takes four times as long, and its last digits differ.
        with warnings.catch_warnings(), threadpool_limits(1, "blas"):
            warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits do not matter
            solver.fit(np.concatenate(inputs), np.concatenate(target), sample_weight=balanced)
        return cls(solver.coef_[0], float(solver.intercept_[0]))

    def scores(self, places: Places) -> Floats:
        """(n, g, g) log odds of the object at places (n, g, g, c)."""
        half = len(self.weight) // 2
        own, relative = (self.weight[:half] / _UNIT).astype(np.float32), self.weight[half:] / _UNIT
        scores = np.empty(places.shape[:3], np.float32)
        for start in range(0, len(places), _CHUNK):
            some = places[start : start + _CHUNK].astype(np.float32)
            mean = some.mean((1, 2))[:, None] @ relative  # image by image: sums do not depend on how many there are
            scores[start : start + _CHUNK] = some @ (own + relative.astype(np.float32)) - mean[:, :, None]
        return np.asarray(scores + np.float32(self.bias))

    def inside(self, places: Places) -> Flags:
        """(n, g, g) whether each of the places (n, g, g, c) is taken for the object."""
        return np.asarray(relative_scores(self.scores(places)) > self.cut)


def fit_localizer(answers: PlaceAnswers, sample: Places) -> Localizer:
    """The best localizer that answers allow.

    Parameters
    ----------
    answers
        Any number of them.
    sample
        (n, g, g, c) places of a few hundred images.

    Notes
    -----
    Where no answer says what the object is, it is taken to be what a localizer without answers finds in the judged
    images, outside of what was called background.
    """
    return answered_localizer(answers) or supposed_localizer(answers, unanswered_localizer(sample))


def answered_localizer(answers: PlaceAnswers) -> Localizer | None:
    """A localizer from answers alone; None where they say nothing about the object, or nothing about the background.

    Parameters
    ----------
    answers
        Any number of them.

    Notes
    -----
    A click may miss, and what a model attends to is more than the object. So the localizer is fitted again to those
    places near what the answers mark that it takes for the object most surely, three times. What is surest can be a
    small part of the object, which shows where the model is often right: see `_fitting_cut`.
    """
    localizer = Localizer.fit(answers.places, answers.object, answers.background)
    marked = answers.object > 0
    for _ in range(_FOCUSES):
        if localizer is None:
            break
        sure = answers.near & (relative_scores(localizer.scores(answers.places)) > _SURE)
        inside = np.where(sure.any((1, 2), keepdims=True), sure, marked)
        outside = np.where(inside, 0, answers.background)
        localizer = Localizer.fit(answers.places, inside.astype(np.float64), outside)
    return localizer and replace(localizer, cut=_fitting_cut(localizer, answers))


def _fitting_cut(localizer: Localizer, answers: PlaceAnswers) -> float:
    """The highest cut at which objects contain most of what the model looks at in images judged core.

    What it looks at there is mostly the object, as a person said; where the surest place is elsewhere, the answer is
    not believed. Wrong answers among few would count too much, so that the cut goes down at most by the share of the
    answers that say so, less those that may be wrong.
    """
    scores = localizer.scores(answers.places)
    surest = scores == scores.max((1, 2), keepdims=True)
    believed = answers.attended & (surest & (answers.object > 0)).any((1, 2))
    if not believed.any():
        return CUT
    relative, attended = relative_scores(scores[believed]), answers.object[believed] > 0
    lowest = CUT * min(1, 1 + _WRONG - believed.mean())
    for cut in _CUTS[lowest <= _CUTS]:
        contained = ((relative > cut) & attended).sum((1, 2)) / attended.sum((1, 2))
        if np.median(contained) >= _CONTAINED:
            break
    return float(cut)


def supposed_localizer(answers: PlaceAnswers, unanswered: Localizer) -> Localizer:
    """The localizer where no answer says what the object is: see `fit_localizer`.

    Parameters
    ----------
    answers
        Any number of them.
    unanswered
        As `unanswered_localizer` returns it.
    """
    if not len(answers.places):
        return unanswered
    likely = unanswered.inside(answers.places) & (answers.background == 0)
    return Localizer.fit(answers.places, likely.astype(np.float64), answers.background) or unanswered


def unanswered_localizer(sample: Places) -> Localizer:
    """A localizer without answers: centre against border at first, then its own surest places.

    Parameters
    ----------
    sample
        (n, g, g, c) places of a few hundred images.
    """
    side = sample.shape[1]
    row, column = np.mgrid[:side, :side] - (side - 1) / 2
    inside = np.repeat((np.hypot(row, column) < side / 6)[None], len(sample), 0).astype(np.float64)
    outside = np.repeat(_border(side)[None], len(sample), 0).astype(np.float64)
    localizer = Localizer(np.zeros(2 * sample.shape[-1]), 0.0)
    for _ in range(_ROUNDS + 1):
        fitted = Localizer.fit(sample, inside, outside)
        if fitted is None:  # all places are alike
            break
        localizer = fitted
        scores = localizer.scores(sample)
        inside = (scores > np.quantile(scores, 0.9, axis=(1, 2), keepdims=True)).astype(np.float64)
        outside = (scores < np.quantile(scores, 0.5, axis=(1, 2), keepdims=True)).astype(np.float64)
    return localizer


def _dilated(cells: Flags) -> Flags:
    """Cells (m, g, g) and those around them."""
    grown = max_pool2d(torch.from_numpy(cells)[:, None].float(), 2 * _REACH + 1, 1, _REACH)[:, 0].numpy() > 0
    return np.asarray(grown)


def _described(places: Places) -> Floats:
    """(m, g, g, 2 * c) features of places, and the same minus their mean over the image."""
    values = np.asarray(places, np.float32) / _UNIT
    return np.concatenate([values, values - values.mean((1, 2), keepdims=True)], -1)


def _pointed(place: Floats, side: int) -> Flags:
    """The cells (side, side) around a click or around the centre of a box; none for NaN."""
    cells = np.zeros((side, side), bool)
    if not np.isnan(place[:2]).any():
        column, row = np.minimum(place[:2] * side, side - 1).astype(int)
        cells[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
    return cells


def _excluded(place: Floats, side: int) -> Flags:
    """The cells (side, side) that hold no object: those outside of a box; without one, at the border."""
    x, y, width, height = np.nan_to_num(place)
    if not (width or height):
        return _border(side)
    centres = (np.arange(side) + 0.5) / side
    rows, columns = (abs(centres - middle) <= max(length, 1 / side) / 2 for middle, length in ((y, height), (x, width)))
    return np.asarray(~np.logical_and.outer(rows, columns))


def _border(side: int) -> Flags:
    """The left, right and upper border of a grid: an object often touches the lower one."""
    border = np.zeros((side, side), bool)
    border[:, [0, -1]] = border[0] = True
    return border
