"""Asking an annotator about each query, one at a time, and keeping every answer at once."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Literal, Protocol

from slim.annotation.judgements import Judgements
from slim.annotation.queries import ANSWERS, Answer, Queries, Query
from slim.annotation.store import Store
from slim.errors import AnnotationError, SlimWarning
from slim.progress import track

Reply = Answer | Literal["undo", "stop"] | None


class Annotator(Protocol):
    """Whoever answers: any object with a name and this method."""

    @property
    def name(self) -> str:
        """What its answers are kept under; whatever changes the answers should change it."""

    def answer(self, query: Query) -> Reply:
        """Judge an image.

        Returns
        -------
        "core", "spurious" or "unsure"
            The judgement.
        None
            No answer: the query counts as not asked.
        "undo"
            Take the last answer back, and ask about that image again.
        "stop"
            Ask no more for now.

        Raises
        ------
        EOFError
            Nobody is there to answer any more.
        """


class Oracle:
    """A simulated person. Calling it with queries gives their judgements."""

    name: str

    def answer(self, query: Query) -> Answer | None:
        """Judge an image; None = no answer."""
        raise NotImplementedError

    def __call__(self, queries: Queries) -> Judgements:
        """The judgements of these queries: ``annotate(queries, self)``."""
        return annotate(queries, self)


def annotate(queries: Queries, annotator: Annotator, store: Store | None = None) -> Judgements:
    """Ask an annotator about each query that he has not answered yet.

    Parameters
    ----------
    queries
        Whom to ask about.
    annotator
        Who answers.
    store
        Where each answer is kept at once; what it holds already is not asked again. Without one, answers live only
        in the result.

    Returns
    -------
    Judgements
        This annotator's answers about these queries, also those of earlier sessions. A query without an answer has
        no row. For several annotators together: ``Judgements.of(queries, store.answers())``.

    Raises
    ------
    AnnotationError
        Nobody is there to answer, or not one query has an answer, or an answer is not one of the three.

    Warns
    -----
    SlimWarning
        Some queries were asked and got no answer.

    Notes
    -----
    Seconds run from the question to the answer; those of an oracle are 0.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from slim.datasets import ImageTable
    >>> table = ImageTable(pd.DataFrame({"path": ["/a.jpg", "/b.jpg"], "y": [0, 1]}), ("cat", "dog"))
    >>> queries = Queries(np.array([4, 7]), table.y, table, np.zeros((2, 7, 7)), table.class_names)
    >>> class Doubter(Oracle):
    ...     name = "doubter"
    ...     def answer(self, query):
    ...         return "unsure"
    >>> annotate(queries, Doubter())
    Judgements(2: 0 core, 0 spurious, 2 unsure)
    """
    holder: AbstractContextManager[Store] = Store(":memory:") if store is None else nullcontext(store)
    with holder as book:
        try:
            stopped = _ask(queries, annotator, book)
        except EOFError as error:
            raise _left_alone(queries, annotator, book, kept=store is not None) from error
        judgements = _judgements(queries, annotator, book)
    if not stopped:
        _check_answered(judgements, queries, annotator)
    return judgements


def _ask(queries: Queries, annotator: Annotator, store: Store) -> bool:
    """Go through the unanswered queries; True where the annotator stopped before the end."""
    answered = set(_judgements(queries, annotator, store).frame["index"])
    pending = deque(query for query in queries if query.index not in answered)
    for query in _turns(pending, annotator):
        start = perf_counter()
        reply = annotator.answer(query)
        seconds = 0.0 if isinstance(annotator, Oracle) else perf_counter() - start
        if reply == "stop":
            return True
        if reply == "undo":
            pending.extendleft(_take_back(queries, annotator, store))
            continue
        pending.popleft()
        if reply is not None:
            store.record(query.index, _checked(reply, annotator), annotator.name, seconds)
    return False


def _turns(pending: deque[Query], annotator: Annotator) -> Iterator[Query]:
    """The query whose turn it is, until none is left."""

    def first() -> Iterator[Query]:
        while pending:
            yield pending[0]

    # A bar would write over a person's questions.
    return track(first(), "asking the oracle", total=len(pending)) if isinstance(annotator, Oracle) else first()


def _take_back(queries: Queries, annotator: Annotator, store: Store) -> list[Query]:
    """Undo the annotator's last answer about one of the queries; the query, or nothing where there was none."""
    answers = store.answers()
    own = answers[(answers["annotator"] == annotator.name) & answers["index"].isin(queries.index)]
    last = [query for query in queries if len(own) and query.index == own["index"].iloc[-1]]
    for query in last:
        store.undo(query.index, annotator.name)
    return last


def _checked(reply: Answer, annotator: Annotator) -> Answer:
    if reply not in ANSWERS:
        raise AnnotationError(
            f"An annotator must answer core, spurious, unsure or None. Got {reply!r} from {annotator.name}. Mend it."
        )
    return reply


def _judgements(queries: Queries, annotator: Annotator, store: Store) -> Judgements:
    """What this annotator has answered about these queries so far."""
    answers = store.answers()
    return Judgements.of(queries, answers[answers["annotator"] == annotator.name])


def _left_alone(queries: Queries, annotator: Annotator, store: Store, *, kept: bool) -> AnnotationError:
    """The error where nobody answers any more: says what became of the answers so far."""
    n = len(_judgements(queries, annotator, store))
    fate = (
        f"The {n} so far are saved in {store.path}: run the same command in a terminal to go on"
        if kept
        else f"The {n} so far are lost: pass a store to keep them"
    )
    return AnnotationError(f"All {len(queries)} queries must be answered. Got the end of the input after {n}. {fate}.")


def _check_answered(judgements: Judgements, queries: Queries, annotator: Annotator) -> None:
    """Say so where queries went unanswered."""
    n, m = len(judgements), len(queries)
    if n == 0:
        raise AnnotationError(
            f"At least one query must be answered. Got no answer to {m} from {annotator.name}. "
            f"The first was about {queries[0].path}; look whether the answers are of these images."
        )
    if n < m:
        warnings.warn(
            f"{m - n} of {m} queries got no answer from {annotator.name}; they count as not asked.",
            SlimWarning,
            stacklevel=3,
        )
