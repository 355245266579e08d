"""Queries: the images shown for judging."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from slim.arrays import Floats, Ints
from slim.data import ImageTable
from slim.errors import AnnotationError
from slim.notebook import picture_html
from slim.stages.judgements import Judgements

_SHOWN = 8  # in a notebook


@dataclass(frozen=True, eq=False)
class Query:
    """One image shown for judging.

    Parameters
    ----------
    queries
        The queries that it belongs to.
    position
        Its place among them, from 0.
    """

    queries: Queries
    position: int

    @property
    def index(self) -> int:
        """Position of the image in the pool, the table that the queries were selected from."""
        return int(self.queries.index[self.position])

    @property
    def y(self) -> int:
        """Label."""
        return int(self.queries.y[self.position])

    @property
    def class_name(self) -> str:
        """Name of the label."""
        return self.queries.class_names[self.y]

    @property
    def path(self) -> str:
        """Absolute path of the image."""
        return str(self.queries.table.frame["path"].iloc[self.position])

    @property
    def row(self) -> dict[str, Any]:
        """The image's row of the table."""
        return dict(self.queries.table.frame.iloc[self.position])

    @property
    def map(self) -> Floats:
        """Attention map (h, w) in [0, 1]; 1 = the strongest attention."""
        return np.asarray(self.queries.maps[self.position])

    def photo(self) -> Image.Image:
        """The image at its own size, RGB; `DataError` where it cannot be read."""
        return self.queries.table.image(self.position)

    def __repr__(self) -> str:
        return f"Query({self.position + 1} of {len(self.queries)}, {self.class_name}, {self.path})"


@dataclass(frozen=True, eq=False)
class Queries:
    """The images to judge, in the order of asking. Iterate, or index with a position, to get each `Query`.

    Parameters
    ----------
    index
        (m,) position of each in the pool, without duplicates.
    y
        (m,) labels.
    table
        The m images, in this order.
    maps
        (m, h, w) attention maps in [0, 1].
    class_names
        Names of the labels.
    pool
        The table that they were selected from; by default `table`.

    Examples
    --------
    >>> import pandas as pd
    >>> table = ImageTable(pd.DataFrame({"path": ["/a.jpg", "/b.jpg"], "y": [0, 1]}), ("cat", "dog"))
    >>> queries = Queries(np.array([4, 7]), table.y, table, np.zeros((2, 7, 7)), table.class_names)
    >>> queries[1]
    Query(2 of 2, dog, /b.jpg)
    >>> queries
    Queries(2: 1 of cat, 1 of dog)
    """

    index: Ints
    y: Ints
    table: ImageTable
    maps: Floats
    class_names: tuple[str, ...]
    pool: ImageTable | None = None

    def __post_init__(self) -> None:
        sizes = {len(self.index), len(self.y), len(self.table), len(self.maps)}
        if len(sizes) > 1 or len(np.unique(self.index)) < len(self.index):
            raise AnnotationError(
                f"Queries must be different images, each with a label, a row and a map. Got {len(self.index)} "
                f"positions ({len(np.unique(self.index))} different), {len(self.y)} labels, {len(self.table)} rows "
                f"and {len(self.maps)} maps. Make them with slim.select_queries."
            )

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int) -> Query:
        return Query(self, range(len(self))[position])

    def __iter__(self) -> Iterator[Query]:
        return (Query(self, position) for position in range(len(self)))

    def __repr__(self) -> str:
        counts = np.bincount(self.y, minlength=len(self.class_names))
        parts = [f"{n} of {name}" for n, name in zip(counts, self.class_names, strict=True) if n]
        return f"Queries({len(self)}: {', '.join(parts)})"

    def _repr_html_(self) -> str:
        from slim.stages.annotate.montage import montage  # which imports this module

        shown = list(self)[:_SHOWN]
        picture = picture_html(montage(shown, f"The first {len(shown)} of {len(self)} queries"), repr(self))
        return f"<p>{escape(repr(self))}</p>{picture}"

    def judgements(self, answers: pd.DataFrame, settled: pd.DataFrame | None = None) -> Judgements:
        """The judgements of these queries, from what `Store.answers` and `Store.settled` return."""
        queried = pd.DataFrame({"index": self.index, "y": self.y, "path": self.table.paths})
        return Judgements.from_answers(queried, answers, settled)

    def first(self, n: int) -> Queries:
        """The first n of them."""
        return Queries(self.index[:n], self.y[:n], self.table[:n], self.maps[:n], self.class_names, self.pool)
