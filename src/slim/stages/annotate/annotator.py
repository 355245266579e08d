"""Annotators, and asking one about each query in turn; every answer is stored at once."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Literal, Protocol

from slim.arguments import checked
from slim.errors import AnnotationError, SlimWarning
from slim.progress import track
from slim.stages.annotate.queries import Queries, Query
from slim.stages.annotate.store import MEMORY, Store
from slim.stages.judgements import ANSWERS, Answer, Judgements, Place

Judged = Answer | tuple[Answer, Place]
"""A judgement, alone or with the place of the object."""

Reply = Judged | Literal["undo", "stop"] | None
"""What an annotator replies to a query."""


class Annotator(Protocol):
    """Any object with a name and this method: a person's interface, an oracle, or your own class."""

    @property
    def name(self) -> str:
        """Name under which its answers are stored; change it whenever the answers would change."""

    def answer(self, query: Query) -> Reply:
        """Judge an image.

        Returns
        -------
        "core", "spurious" or "unsure"
            The judgement.
        (answer, Place)
            The judgement, core or spurious, and where the object is.
        None
            No answer: the query stays unanswered.
        "undo"
            Withdraw the last answer, and ask about that image again.
        "stop"
            End the session.

        Raises
        ------
        EOFError
            The input has ended.
        """


class Oracle:
    """A simulated annotator. Calling it with queries returns their judgements.

    Attributes
    ----------
    name
        Name under which its answers are stored.
    clicks
        Whether it says where the object is when it answers spurious.
    """

    name: str
    clicks: bool = False

    def answer(self, query: Query) -> Judged | None:
        """Judge an image; None = no answer."""
        raise NotImplementedError

    def __call__(self, queries: Queries) -> Judgements:
        """Judge queries: ``ask(queries, self)``."""
        return ask(queries, self)


@checked
def ask(
    queries: Queries,
    annotator: Annotator,
    store: Store | None = None,
    *,
    enough: Callable[[Judgements], bool] | None = None,
) -> Judgements:
    """Ask an annotator about each query that they have not answered yet.

    Parameters
    ----------
    queries
        The images to judge.
    annotator
        Who answers.
    store
        Where each answer is stored at once; a query with an answer of this annotator in it is not asked again. Without
        a store, answers exist only in the result.
    enough
        Whether the judgements of the first queries suffice, so that the next one and those after it are left out; all
        queries by default.

    Returns
    -------
    Judgements
        This annotator's answers about these queries, including those of earlier sessions. A query without an answer
        has no row.

    Raises
    ------
    AnnotationError
        The input ended too early, no query was answered, or a reply is not one of those that `Annotator` lists.

    Warns
    -----
    SlimWarning
        Some queries were left unanswered.

    Notes
    -----
    Seconds are counted from the question to the answer; an oracle's are 0.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from slim.data import ImageTable
    >>> table = ImageTable(pd.DataFrame({"path": ["/a.jpg", "/b.jpg"], "y": [0, 1]}), ("cat", "dog"))
    >>> queries = Queries(np.array([4, 7]), table.y, table, np.zeros((2, 7, 7)), table.class_names)
    >>> class Doubter(Oracle):
    ...     name = "doubter"
    ...     def answer(self, query):
    ...         return "unsure"
    >>> ask(queries, Doubter())
    Judgements(2: 0 core, 0 spurious, 2 unsure)
    """
    opened: AbstractContextManager[Store] = Store(MEMORY) if store is None else nullcontext(store)
    with opened as answers:
        try:
            asked, stopped = _ask_each(queries, annotator, answers, enough)
        except EOFError as error:
            raise _input_ended(queries, annotator, answers) from error
        judgements = _judgements(asked, annotator, answers)
    if not stopped:
        check_answered(judgements, asked, annotator)
    return judgements


def _ask_each(
    queries: Queries, annotator: Annotator, store: Store, enough: Callable[[Judgements], bool] | None
) -> tuple[Queries, bool]:
    """Ask about each unanswered query; the queries that were needed, and whether the annotator stopped before."""
    answered = set(_judgements(queries, annotator, store).frame["index"])
    pending = deque(query for query in queries if query.index not in answered)
    for query in _turns(pending, annotator):
        earlier = queries.first(query.position)
        if enough is not None and len(earlier) and enough(_judgements(earlier, annotator, store)):
            return earlier, False
        start = perf_counter()
        reply = annotator.answer(query)
        seconds = 0.0 if isinstance(annotator, Oracle) else perf_counter() - start
        if reply == "stop":
            return queries, True
        if reply == "undo":
            pending.extendleft(_withdraw(queries, annotator, store))
            continue
        pending.popleft()
        if reply is not None:
            answer, place = _checked(reply, annotator)
            store.record(query.index, answer, annotator.name, seconds, place)
    return queries, False


def _turns(pending: deque[Query], annotator: Annotator) -> Iterator[Query]:
    """The next pending query, until none is left."""

    def first() -> Iterator[Query]:
        while pending:
            yield pending[0]

    # A progress bar would overwrite the questions to a person.
    return track(first(), "asking the oracle", total=len(pending)) if isinstance(annotator, Oracle) else first()


def _withdraw(queries: Queries, annotator: Annotator, store: Store) -> list[Query]:
    """Withdraw the annotator's last answer about one of the queries; that query, or nothing if there was none."""
    answers = store.answers()
    own = answers[(answers["annotator"] == annotator.name) & answers["index"].isin(queries.index)]
    last = [query for query in queries if len(own) and query.index == own["index"].iloc[-1]]
    for query in last:
        store.undo(query.index, annotator.name)
    return last


def _checked(reply: Judged, annotator: Annotator) -> tuple[Answer, Place | None]:
    """The answer and the place in a reply."""
    answer, place = reply if isinstance(reply, tuple) and len(reply) == 2 else (reply, None)
    if answer not in ANSWERS or not (place is None or isinstance(place, Place)):
        raise AnnotationError(
            "An annotator must answer core, spurious or unsure, core or spurious with a Place, None, undo or stop. "
            f"Got {reply!r} from {annotator.name}. Fix its method answer."
        )
    return answer, place


def _judgements(queries: Queries, annotator: Annotator, store: Store) -> Judgements:
    """This annotator's judgements of these queries so far."""
    answers = store.answers()
    return queries.judgements(answers[answers["annotator"] == annotator.name])


def _input_ended(queries: Queries, annotator: Annotator, store: Store) -> AnnotationError:
    """The error for an input that ended too early, which says what became of the answers so far."""
    n = len(_judgements(queries, annotator, store))
    fate = (
        f"The {n} so far are saved in {store.path}: run the same command in a terminal to continue"
        if store.on_disk
        else f"The {n} so far are lost: name a folder or a store to keep them"
    )
    return AnnotationError(f"All {len(queries)} queries must be answered. Got the end of the input after {n}. {fate}.")


def check_answered(judgements: Judgements, queries: Queries, annotator: Annotator) -> None:
    """Warn of unanswered queries; refuse judgements of none.

    Raises
    ------
    AnnotationError
        No query was answered.

    Warns
    -----
    SlimWarning
        Some queries were left unanswered.
    """
    n, m = len(judgements), len(queries)
    if n == 0:
        raise AnnotationError(
            f"At least one query must be answered. Got no answer to {m} from {annotator.name}. "
            f"Check that its answers are about these images, of which the first is {queries[0].path}."
        )
    if n < m:
        warnings.warn(
            f"{m - n} of {m} queries got no answer from {annotator.name}; the others are used.",
            SlimWarning,
            stacklevel=3,
        )
