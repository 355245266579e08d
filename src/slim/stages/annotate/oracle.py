"""Oracles: simulated annotators, which check whether the attention lies on the object, and click on it if not."""

from __future__ import annotations

import warnings
from typing import cast, get_args

import numpy as np
from scipy.ndimage import distance_transform_edt

from slim.arrays import Flags
from slim.data import ImageTable
from slim.data.table import RegionKind
from slim.errors import AnnotationError, SettingsError, SlimWarning
from slim.metrics import inside_fraction
from slim.overlay import upsample
from slim.stages.annotate.annotator import Judged, Oracle
from slim.stages.annotate.queries import Query
from slim.stages.judgements import Answer, Place

_SIZE = 224  # pixels; about what a person sees of an image in a montage
_WELL_INSIDE = 0.7  # of the largest distance to the object's border: how deep inside it clicks lie at least


class MaskOracle(Oracle):
    """Judges by the object's region: core where more than `threshold` of the strong attention lies inside.

    When it answers spurious, it clicks on the object, as a person would.

    Parameters
    ----------
    table
        The pool that the queries were selected from.
    threshold
        Of the inside fraction, in [0, 1).
    kind
        Which regions: "masks" or "boxes".
    clicks
        Whether spurious answers say where the object is. False = core and spurious only.
    click_noise
        How far off the clicks are: each coordinate by up to this share of the image's side, uniformly, and at most to
        the edge of the image. In [0, 0.5].
    seed
        Random seed of the clicks.

    Raises
    ------
    AnnotationError
        The table has no such regions.

    Notes
    -----
    It judges what a person sees: the map, smoothly upsampled and scaled to [0, 1] again. An image without a mask is
    "unsure", so is one with an empty mask, and so is one with a flat map, which does not show where the model looks.

    A click on a mask lies well inside: at a random pixel whose distance to the border is at least 0.7 of the largest. A
    click on a box is its centre. Each image has its own random draw, seeded by `seed` and its position in the pool.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from PIL import Image
    >>> from slim.stages.annotate.queries import Queries
    >>> folder = tempfile.mkdtemp()
    >>> Image.new("RGB", (8, 8)).save(f"{folder}/cat.png")
    >>> half = np.kron(np.array([[255, 0]], np.uint8), np.ones((8, 4), np.uint8))
    >>> Image.fromarray(half).save(f"{folder}/mask.png")
    >>> frame = pd.DataFrame({"path": [f"{folder}/cat.png"], "y": [0], "mask": [f"{folder}/mask.png"]})
    >>> table = ImageTable(frame, ("cat",))
    >>> attention_map = np.array([[1.0, 0.0], [1.0, 0.0]])
    >>> query = Queries(np.array([0]), table.y, table, attention_map[None], table.class_names)[0]
    >>> MaskOracle(table).answer(query)
    'core'
    >>> beside = Queries(np.array([0]), table.y, table, 1 - attention_map[None], table.class_names)[0]
    >>> answer, place = MaskOracle(table).answer(beside)
    >>> answer, 0 < place.x < 0.5
    ('spurious', True)
    """

    def __init__(
        self,
        table: ImageTable,
        threshold: float = 0.5,
        kind: RegionKind = "masks",
        *,
        clicks: bool = True,
        click_noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        if not 0 <= threshold < 1:
            raise SettingsError(f"threshold must be at least 0 and below 1. Got {threshold}. Try 0.5.")
        if not 0 <= click_noise <= 0.5:
            raise SettingsError(f"click_noise must be from 0 to 0.5. Got {click_noise}. Try 0.1.")
        self.table = table
        self.threshold = threshold
        self.kind = kind
        self.clicks = clicks
        self.click_noise = click_noise
        self.seed = seed
        how = f", clicks{f' off by {click_noise:g}' if click_noise else ''}, seed {seed}" if clicks else ""
        self.name = f"{kind} over {threshold:g}{how}"
        self._known = _has_region(table, kind)

    def __repr__(self) -> str:
        settings = f"threshold={self.threshold:g}, kind={self.kind!r}, clicks={self.clicks}"
        return f"{type(self).__name__}({self.table.split}, {settings})"

    def answer(self, query: Query) -> Judged:
        """Judge an image of the pool; with `clicks`, a spurious answer comes with the place of the object.

        Raises
        ------
        AnnotationError
            The query is from another pool.
        DataError
            The mask cannot be read, or its shape is not the image's.

        Warns
        -----
        SlimWarning
            The mask is empty.
        """
        self._check(query)
        if not self._known[query.index]:
            return "unsure"
        region = self.table.region(query.index, _SIZE, self.kind)
        if not region.any():
            warnings.warn(
                "Some masks are empty: their images are unsure. Leave out the mask of an image without an object.",
                SlimWarning,
                stacklevel=2,
            )
            return "unsure"
        fraction = inside_fraction(upsample(query.map[None], _SIZE), region[None])[0]
        if np.isnan(fraction):
            return "unsure"
        if fraction > self.threshold:
            return "core"
        return ("spurious", self._click(region, query.index)) if self.clicks else "spurious"

    def _click(self, region: Flags, index: int) -> Place:
        """A click on the object that fills this region of an image."""
        rng = np.random.default_rng((self.seed, index, 1))  # another stream than that of the flips
        rows, columns = np.nonzero(region) if self.kind == "boxes" else np.nonzero(_well_inside(region))
        if self.kind == "boxes":
            pixel = np.array([columns.mean(), rows.mean()])
        else:
            pixel = np.array([columns, rows]).T[rng.integers(len(rows))]
        off = rng.uniform(-self.click_noise, self.click_noise, size=2)
        return Place(*np.clip((pixel + 0.5) / _SIZE + off, 0, 1))

    def _check(self, query: Query) -> None:
        """Refuse a query from another pool, where its position is that of another image."""
        known = self.table.frame["path"]
        if query.index >= len(known) or known.iloc[query.index] != query.path:
            raise AnnotationError(
                f"An oracle must have the pool that the queries were selected from. Got {query.path} as image "
                f"{query.index}, which is another one in its table. Pass it the table of the pool."
            )


class NoisyOracle(Oracle):
    """Flips some of an oracle's answers from core to spurious or vice versa.

    A false core has no place. A false spurious has a random one, anywhere in the photo, where the oracle clicks.

    Parameters
    ----------
    oracle
        Gives the true answers.
    share
        Probability that an answer is flipped, in [0, 1].
    seed
        Random seed.

    Notes
    -----
    Each image has its own random draw, seeded by `seed` and the image's position in the pool. So the flipped share is
    `share` only on average, resuming gives the same answers, and what is flipped at a small share is also flipped at a
    larger one. "unsure" stays.

    Examples
    --------
    >>> class Certain(Oracle):
    ...     name = "certain"
    ...     def answer(self, query):
    ...         return "core"
    >>> NoisyOracle(Certain(), 0.1, seed=3).name
    'certain, noise 0.1, seed 3'
    """

    def __init__(self, oracle: Oracle, share: float, seed: int = 0) -> None:
        if not 0 <= share <= 1:
            raise SettingsError(f"The share of flipped answers must be from 0 to 1. Got {share}. Try 0.1.")
        self.oracle = oracle
        self.share = share
        self.seed = seed
        self.clicks = oracle.clicks
        self.name = f"{oracle.name}, noise {share:g}, seed {seed}"

    def __repr__(self) -> str:
        return f"NoisyOracle({self.oracle!r}, {self.share:g}, seed={self.seed})"

    def answer(self, query: Query) -> Judged | None:
        """Judge an image as the oracle does, or the opposite."""
        reply = self.oracle.answer(query)
        answer: Answer | None = reply[0] if isinstance(reply, tuple) else reply
        rng = np.random.default_rng((self.seed, query.index))
        if rng.random() >= self.share or answer not in ("core", "spurious"):
            return reply
        if answer == "spurious":
            return "core"
        return ("spurious", Place(*rng.random(2))) if self.clicks else "spurious"


def _well_inside(region: Flags) -> Flags:
    """The pixels of a mask (h, w) that are farthest from its border, of which the image's edge is a part."""
    depth = distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    return np.asarray(depth >= _WELL_INSIDE * depth.max())


def _has_region(table: ImageTable, kind: RegionKind) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(n,) whether each image has a region of this kind; refuses a table without any."""
    frame = table.frame
    if kind == "masks":
        known = frame["mask"].ne("").to_numpy(dtype=bool) if "mask" in frame else np.zeros(len(frame), dtype=bool)
    else:
        known = np.full(len(frame), "box_x" in frame)
    if not known.any():
        one = "mask" if kind == "masks" else "box"
        raise AnnotationError(
            f"{kind.capitalize()} must exist for the {one} oracle. Got a data set without {kind}. "
            f"Answer yourself (--annotator terminal), or add the {kind} to the data set's table."
        )
    return cast("np.ndarray[tuple[int], np.dtype[np.bool_]]", known)


def is_oracle(name: str) -> bool:
    """Whether a store's answers by this name came from an oracle on masks or boxes.

    Examples
    --------
    >>> is_oracle("masks over 0.5, noise 0.1, seed 3"), is_oracle("ann")
    (True, False)
    """
    return name.startswith(tuple(f"{kind} over " for kind in get_args(RegionKind)))
