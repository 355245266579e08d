"""Stage 6: where the object is in every image."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from slim.arguments import checked
from slim.arrays import Bytes, Floats, Ints
from slim.data import Dataset, ImageTable, image_batches
from slim.data.table import RegionKind
from slim.errors import DataError, SlimWarning
from slim.localization import Localizer, PlaceAnswers, Places, fit_localizer
from slim.matting import SIDE, object_maps
from slim.metrics import wilson_interval
from slim.progress import track
from slim.record import ArrayToFill
from slim.room import check_room
from slim.stages.attend import Attention
from slim.stages.embed import Space
from slim.stages.judgements import CORE, SPURIOUS, Judgements
from slim.stages.locate.object_maps import ObjectMaps, Trust
from slim.stages.settings import LocateSettings, MapSource

_SAMPLE = 300  # images from which a localizer without answers is made
_MOST_LEFT_OUT = 100
_CHUNK = 4_096


@checked
def locate(
    data: Dataset,
    attention: Attention,
    space: Space,
    judgements: Judgements,
    settings: LocateSettings | None = None,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
) -> ObjectMaps:
    """Find the object in every image, from the answers about a few.

    Parameters
    ----------
    data, attention, space
        The images, their attention and places, and the attention space of the pool.
    judgements
        Answers about images of the pool, ideally with a place on the object where the attention is wrong. Without
        answers, whatever stands out in the middle is taken for the object.
    settings
        See `LocateSettings`.
    seed
        Random seed of the images to learn from if there are no answers.
    folder
        Where to write the maps as they are computed; in memory by default.

    Raises
    ------
    DataError
        The maps are to come from masks or boxes, and an image has none; or the attention describes no places.

    Warns
    -----
    SlimWarning
        The maps made without a person's place do not contain it more often than a random place.

    Examples
    --------
    ``maps = slim.locate(data, attention, space, judgements)``
    """
    settings = settings or LocateSettings()
    check_source(data, settings.source)
    check_room("object maps", disk=(len(data.train) + len(data.val)) * SIDE * SIDE, folder=folder)
    if settings.source != "answers":
        train, val = (_region_maps(data.split(name), settings.source, folder, name) for name in ("train", "val"))
        return ObjectMaps(train, val, settings.source)
    pool, n = attention.split(space.pool), len(data.split(space.pool))
    if len(pool.places) != n:
        raise DataError(
            f"The attention must describe the places of all {n} images. Got {len(pool.places)}. "
            "Compute it with slim.attend, which attend_split does not replace."
        )
    index, answers = _answers(judgements, pool.places, np.asarray(pool.maps), n)
    sample = pool.places[np.random.default_rng((seed, 9)).permutation(n)[:_SAMPLE]]
    localizer = fit_localizer(answers, sample)
    train, val = (
        _maps(data.split(name), localizer, attention.split(name).places, settings, folder) for name in ("train", "val")
    )
    area = _area(train if space.pool == "train" else val)
    trust = _trust(data.split(space.pool), index, answers, judgements.places(n), sample, area)
    _warn(trust)
    return ObjectMaps(train, val, "answers", trust)


def check_source(data: Dataset, source: MapSource) -> None:
    """Refuse masks or boxes that an image of train or val does not have."""
    for table in (data.train, data.val) if source != "answers" else ():
        known = table.has_region
        if table.regions != source or not known.all():
            missing = 0 if table.regions != source else int(np.flatnonzero(~known)[0])
            raise DataError(
                f"Object maps from {source} need {source} of all {table.split} images. Got none of "
                f"{table.paths[missing]}. Make them from answers: --locate.source answers."
            )


def _answers(judgements: Judgements, places: Places, maps: Floats, n: int) -> tuple[Ints, PlaceAnswers]:
    """Positions of the images judged core or spurious, and what that says about their places."""
    codes = judgements.codes(n)
    index = np.flatnonzero((codes == CORE) | (codes == SPURIOUS))
    where = judgements.places(n)[index]
    return index, PlaceAnswers.from_judgements(places[index], maps[index], codes[index] == CORE, where)


def _maps(
    table: ImageTable, localizer: Localizer, places: Places, settings: LocateSettings, folder: str | Path | None
) -> Bytes:
    """The object maps of a table."""
    maps = ArrayToFill(folder, table.split, (len(table), SIDE, SIDE), np.uint8)
    batches = image_batches(table, SIDE, settings.batch_size, workers=settings.workers)
    for images, _, index in track(batches, f"mapping the objects of {len(table)} {table.split} images"):
        maps[index.numpy()] = object_maps(localizer.scores(places[index.numpy()]), images, localizer.cut)
    done: Bytes = maps.filled()
    return done


def _area(maps: Bytes) -> float:
    """The mean share of an image that its map covers; of so many maps at a time that they fit into memory."""
    return sum(int((maps[start : start + _CHUNK] > 127).sum()) for start in range(0, len(maps), _CHUNK)) / maps.size


def _region_maps(table: ImageTable, kind: RegionKind, folder: str | Path | None, name: str) -> Bytes:
    """Object maps from masks or boxes."""
    maps = ArrayToFill(folder, name, (len(table), SIDE, SIDE), np.uint8)
    for i in track(range(len(table)), f"reading the {kind} of {len(table)} {table.split} images"):
        region = table.region(i, SIDE, kind)
        if not region.any():
            raise DataError(
                f"Object maps from masks need an object in every mask. Got an empty mask of {table.paths[i]}. "
                "Make them from answers: --locate.source answers."
            )
        maps[i] = np.where(region, 255, 0)
    done: Bytes = maps.filled()
    return done


def _trust(table: ImageTable, index: Ints, answers: PlaceAnswers, where: Floats, sample: Places, area: float) -> Trust:
    """Leave each image with a place out in turn: does its map contain the place?"""
    pointed = np.flatnonzero(~np.isnan(where[index, 0]))[:_MOST_LEFT_OUT]
    hits = 0
    batches = image_batches(table, SIDE, 1, order=index[pointed])
    shown = track(batches, f"mapping {len(pointed)} judged images without their own answer")
    for left_out, (images, _, _) in zip(pointed, shown, strict=True):
        localizer = fit_localizer(answers.without(left_out), sample)
        scores = localizer.scores(answers.places[[left_out]])
        x, y = (np.minimum(where[index[left_out], :2], 1 - 1e-9) * SIDE).astype(int)
        hits += int(object_maps(scores, images, localizer.cut)[0, y, x] > 127)
    n = len(pointed)
    low, high = wilson_interval(hits, n) if n else (0.0, 1.0)
    return Trust(n, hits, hits / n if n else None, float(low), float(high), area)


def _warn(trust: Trust) -> None:
    if trust.n and trust.low <= trust.area:
        warnings.warn(
            f"There is no evidence that the object maps find the object: {trust.hits} of {trust.n} maps made without a "
            f"place contain it (95 % interval {trust.low:.0%} to {trust.high:.0%}), and a map covers {trust.area:.0%} "
            "of the image. Point at the object in more images: slim annotate RUN.",
            SlimWarning,
            stacklevel=3,
        )
