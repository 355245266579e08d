"""The stages as functions between records, for scripts and notebooks.

Each takes what the stage before returned; a person may look, and change things, in between. The stages' own modules
hold the same functions on plain arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slim import attention as _attention
from slim import curation as _curation
from slim import propagation as _propagation
from slim import space as _space
from slim.annotation import Annotator, BrowserAnnotator, Judgements, Pool, Queries, Store
from slim.annotation import ask as _ask
from slim.annotation import select_queries as _select_queries
from slim.attention import AttendSettings, Attention
from slim.curation import CurateSettings, Subset
from slim.datasets import ImageTable
from slim.factors import Mistakes
from slim.live import LiveSpreading
from slim.models import Classifier
from slim.propagation import PropagateSettings, Scores, answers_array
from slim.space import EmbedSettings, Space

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class AttentionOf(Attention):
    """Attention together with the images that it is of.

    Attributes
    ----------
    table
        The images, one a row of every array.
    head
        (n_classes, p) weights of the linear head that reads the features; None where the network has none.
    """

    table: ImageTable
    head: Floats | None = None


@dataclass(frozen=True, eq=False)
class SpaceOf(Space):
    """An attention space together with the attention that it was made from.

    Attributes
    ----------
    attention
        One row an image, as the coordinates.
    """

    attention: AttentionOf


@dataclass(frozen=True, eq=False, repr=False)
class QueriesOf(Queries):
    """Queries together with the attention space that they were selected in.

    Attributes
    ----------
    space
        Of the pool.
    """

    space: SpaceOf


def attend(classifier: Classifier, table: ImageTable, settings: AttendSettings | None = None) -> AttentionOf:
    """Compute attention maps, core and environment features; see `slim.attention.attend`.

    Examples
    --------
    ``attention = slim.attend(reference, data.train)``
    """
    found = _attention.attend(classifier, table, settings)
    return AttentionOf(**vars(found), table=table, head=classifier.head_weight)


def embed(attention: AttentionOf, settings: EmbedSettings | None = None, *, seed: int = 0) -> SpaceOf:
    """Embed what the model sees where it looks, and elsewhere, in two dimensions each; see `slim.space.embed`.

    Examples
    --------
    ``space = slim.embed(attention)``
    """
    space = _space.embed(attention.core, attention.environment, attention.contrast, settings, seed=seed)
    return SpaceOf(**vars(space), attention=attention)


def select_queries(
    space: SpaceOf,
    *,
    budget: int = 20,
    select: Literal["information", "centres"] = "information",
    candidates: int = 5,
    seed: int = 0,
) -> Queries:
    """Choose `budget` images a class to ask about; see `slim.annotation.select_queries`.

    Examples
    --------
    ``queries = slim.select_queries(space, budget=20)``
    """
    found = space.attention
    chosen = _select_queries(
        space.of(select), found.table, found.maps, budget=budget, select=select, candidates=candidates, seed=seed
    )
    return QueriesOf(**vars(chosen), space=space)


def annotate(
    queries: Queries, annotator: Annotator | BrowserAnnotator | None = None, store: Store | None = None
) -> Judgements:
    """Ask about each query: you, on a page, by default; see `slim.annotation.annotate`.

    In a notebook the page is shown inline, and the cell ends when you press Done there. A script opens the browser and
    waits; over SSH it says how to reach the page.

    Examples
    --------
    ``judgements = slim.annotate(queries)``
    """
    pool = _pool(queries.space) if isinstance(queries, QueriesOf) else None
    return _ask(queries, annotator or BrowserAnnotator(), store, pool)


def _pool(space: SpaceOf) -> Pool:
    """Everything that the page of judgements shows."""
    found = space.attention
    settings = PropagateSettings()
    return Pool(
        found.table,
        found.maps,
        probabilities=found.probabilities,
        coordinates=space.core,
        components=space.components,
        spreading=LiveSpreading(space.of(settings.method), found.table.y, settings, found.table.class_names),
        environment=found.environment,
    )


def propagate(space: SpaceOf, judgements: Judgements, settings: PropagateSettings | None = None) -> Scores:
    """Give every image an attention score; see `slim.propagation.propagate`.

    Examples
    --------
    ``scores = slim.propagate(space, judgements)``
    """
    table, judged = space.attention.table, judgements.frame
    answers = answers_array(len(table), judged["index"].to_numpy(), judged["answer"].tolist())
    settings = settings or PropagateSettings()
    points = space.of(settings.method)
    return _propagation.propagate(points, table.y, answers, settings, class_names=table.class_names)


def curate(
    attention: AttentionOf,
    space: Space,
    scores: Scores,
    settings: CurateSettings | None = None,
    *,
    val: AttentionOf | None = None,
    seed: int = 0,
    **changes: Any,
) -> Subset:
    """Choose a small balanced subset; see `slim.curation.curate`.

    Parameters
    ----------
    attention, space, scores
        Of the same images.
    settings
        See `CurateSettings`.
    val
        Attention of the val split, whose mistakes tell what to balance; without it the environment is balanced.
    seed
        Of everything that is drawn.
    **changes
        Single settings, for instance ``size=60``.

    Examples
    --------
    ``subset = slim.curate(attention, space, scores, val=slim.attend(reference, data.val), size=120)``
    """
    seen = None
    if val is not None:
        seen = Mistakes.of(val.environment, val.features, val.probabilities, val.table.y, val.head)
    return _curation.curate(
        np.asarray(attention.core),
        np.asarray(attention.environment),
        (space.core, space.environment),
        scores.values,
        attention.table.y,
        replace(settings or CurateSettings(), **changes),
        features=np.asarray(attention.features),
        mistakes=seen,
        class_names=attention.table.class_names,
        seed=seed,
    )
