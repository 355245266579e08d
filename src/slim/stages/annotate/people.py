"""Whose answers count in a run that people judge, and about which images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slim.data import ImageTable
from slim.stages.annotate.store import Store
from slim.stages.judgements import Judgements, queried_images


def judgements_of_people(store: Store, table: ImageTable, index: Sequence[int]) -> Judgements:
    """People's judgements: all that `Store.people` answered, whichever queries were asked then.

    Parameters
    ----------
    store
        Holds the answers and the added images.
    table
        The pool.
    index
        Positions of the queries in the pool, whose judgements come first.
    """
    queried = np.array(queue_of_people(store, index), dtype=np.int64)
    answers = store.answers()
    by_people = answers[answers["annotator"].isin(store.people())]
    return Judgements.from_answers(queried_images(table, queried), by_people, store.settled())


def queue_of_people(store: Store, index: Sequence[int]) -> list[int]:
    """Positions of the queries, the images added to them, and those that people judged under another budget."""
    return list(dict.fromkeys([*map(int, index), *store.added(), *store.judged()]))
