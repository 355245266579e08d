"""The state behind the page: the queue, everybody's answers, and the scores computed from them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from threading import Condition, Thread
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slim.arrays import Floats
from slim.data import ImageTable
from slim.errors import AnnotationError
from slim.localization import Places
from slim.overlay import is_flat
from slim.quantized import Vectors
from slim.stages.annotate.page.advice import advice, few_answers, state
from slim.stages.annotate.page.agreement import agreement, differing
from slim.stages.annotate.page.outlines import Outlines
from slim.stages.annotate.page.trend import DRAWN, Trends
from slim.stages.annotate.people import queue_of_people
from slim.stages.annotate.selection import most_informative
from slim.stages.annotate.store import Post, Store
from slim.stages.attend import SplitAttention
from slim.stages.embed import Space
from slim.stages.judgements import PLACE_COLUMNS, Answer, Place, answers_that_count
from slim.stages.propagate.incremental import IncrementalScores, no_scores
from slim.stages.propagate.scores import Scores
from slim.stages.settings import PropagateSettings

ROUND = 5  # images that "+5 more" adds


@dataclass(frozen=True, eq=False)
class Pool:
    """The images that a page can show, and what is known about them; the page leaves out what is None.

    Parameters
    ----------
    table
        n images.
    maps
        (n, h, w) attention maps in [0, 1].
    title
        Title of the page.
    probabilities
        (n, k) of the reference model.
    plane
        (n, 2) plane of the attention space, which the page draws.
    components
        (n, d) components of the attention space, by which further queries are selected.
    scoring
        Computes the scores from the answers.
    environment
        (n, d) environment features, whose clusters can colour the plane.
    places
        (n, g, g, c) features of places, by which the page shows what SLIM takes for the object.
    """

    table: ImageTable
    maps: Floats
    title: str = "judgements"
    probabilities: Floats | None = None
    plane: Floats | None = None
    components: Floats | None = None
    scoring: IncrementalScores | None = None
    environment: Vectors | None = None
    places: Places | None = None

    @classmethod
    def of_run(
        cls,
        table: ImageTable,
        attention: SplitAttention,
        space: Space,
        propagation: PropagateSettings | None = None,
        title: str = "judgements",
    ) -> Pool:
        """The images of a run's pool once they are embedded."""
        settings = propagation or PropagateSettings()
        scoring = IncrementalScores(space.points(settings.method), table.y, settings, table.class_names)
        return cls(
            table,
            attention.maps,
            title,
            attention.probabilities,
            space.plane,
            space.components,
            scoring,
            attention.environment,
            attention.places if len(attention.places) else None,
        )


class Session:
    """The queue and the answers of one page. Close it to end its thread.

    Parameters
    ----------
    pool
        What the page can show.
    index
        (m,) positions of the queries in the pool.
    store
        Holds the answers, also those of earlier sessions.
    """

    def __init__(self, pool: Pool, index: NDArray[np.int64], store: Store) -> None:
        self.pool = pool
        self.store = store
        self.run = _fingerprint(pool)
        self.version = 0
        self._index = [int(image) for image in index]
        self._y = pool.table.y
        self._trends = Trends(self._y, len(pool.table.class_names))
        self._scores = self._no_scores()
        self.outlines = None if pool.places is None else Outlines(pool.places, pool.maps)
        self._closed = False
        self._idle = False  # every answer is scored, and the trend of earlier sessions replayed
        self._condition = Condition()  # guards the version and the counts below
        self._changes, self._scored = 1, 0  # how often answers have changed, and how many changes the scores include
        self._outlined = 0  # and the outlines
        self._thread = Thread(target=self._work, name="slim-scoring", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the scoring thread."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._thread.join()

    def queue(self) -> list[int]:
        """Positions of the queries in their order; added ones, and those that were asked before, come last."""
        return queue_of_people(self.store, self._index)

    def cards(self, index: Sequence[int]) -> list[dict[str, Any]]:
        """What the page shows about each of these images, besides the pictures."""
        cards = []
        for image in index:
            card: dict[str, Any] = {"index": image, "y": int(self._y[image]), "flat": is_flat(self.pool.maps[image])}
            if self.pool.probabilities is not None:
                row = np.asarray(self.pool.probabilities[image])
                card |= {"predicted": int(row.argmax()), "confidence": round(float(row.max()), 4)}
            cards.append(card)
        return cards

    def describe(self, annotator: str) -> dict[str, Any]:
        """Everything that a page needs at its start, for one annotator."""
        answers = self.store.answers()
        own = answers[answers["annotator"] == annotator]
        return {
            "run": self.run,
            "classes": list(self.pool.table.class_names),
            "images": len(self.pool.table),
            "queue": self.cards(self.queue()),
            "answers": [[int(i), a] for i, a in zip(own["index"], own["answer"], strict=True)],  # oldest first
            "places": [[int(i), place] for i, place in zip(own["index"], _places(own), strict=True) if place],
            "seconds": round(float(own["seconds"].sum()), 1),
            "flags": sorted(set(self.store.flags()["index"].tolist())),
            "space": self.pool.components is not None,
            "environment": self.pool.environment is not None,
            "summary": self.summary(),
        }

    def keep(self, posts: Sequence[Post], annotator: str) -> int:
        """Store posts, and start to compute the scores again; returns how many posts were new.

        Raises
        ------
        AnnotationError
            An image is not in the pool.
        """
        for post in posts:
            self.check(post.index)
        new = self.store.post(posts, annotator)
        with self._condition:
            self._changes += 1
            self._condition.notify_all()
        return new

    def more(self, label: int) -> list[dict[str, Any]]:
        """Add the most informative images of a class to the queue; returns their cards."""
        classes = len(self.pool.table.class_names)
        if self.pool.components is None:
            raise AnnotationError(
                "Further queries must be selected in an attention space. Got none. "
                "Open the page with slim annotate RUN."
            )
        if not 0 <= label < classes:
            raise AnnotationError(f"A class must be a number from 0 to {classes - 1}. Got {label}. Reload the page.")
        members, queue = np.flatnonzero(self._y == label), np.asarray(self.queue(), dtype=np.int64)
        return self.add(most_informative(self.pool.components, members, queue, ROUND).tolist())

    def add(self, index: Sequence[int]) -> list[dict[str, Any]]:
        """Add images to the queue, unless they are in it already; returns the cards of the new ones."""
        for image in index:
            self.check(image)
        known = set(self.queue())
        new = [image for image in dict.fromkeys(index) if image not in known]
        self.store.add(new)
        self._renew_version()
        return self.cards(new)

    def check(self, index: int) -> None:
        """Refuse a position that is not in the pool."""
        if not 0 <= index < len(self.pool.table):
            raise AnnotationError(
                f"An image must be one of {len(self.pool.table)}. Got number {index}. Reload the page."
            )

    def votes(self) -> dict[int, dict[str, Answer]]:
        """The answer of each person about each image; oracles are left out."""
        votes: dict[int, dict[str, Answer]] = defaultdict(dict)
        answers = self._answers_of_people()
        for index, answer, name in zip(answers["index"], answers["answer"], answers["annotator"], strict=True):
            votes[index][name] = answer
        return votes

    def settled(self) -> dict[int, tuple[Answer, str]]:
        """The answer that settled each disagreement, and who settled it."""
        rows = self.store.settled()
        return dict(zip(rows["index"], zip(rows["answer"], rows["annotator"], strict=True), strict=True))

    def differences(self) -> list[dict[str, Any]]:
        """The images on which people disagree, with each other or with what settled it, in the order of the queue.

        Each is a card with ``votes`` (name, answer and place), ``notes`` (name and note of whoever flagged the photo)
        and ``settled`` (answer, name and place, or None).
        """
        votes, settled = self.votes(), self.settled()
        places = _places_by_name(self.store.answers()), _places_by_name(self.store.settled())
        place = {index: at for at, index in enumerate(self.queue())}
        disagreed = sorted(differing(votes, settled), key=lambda index: place.get(index, len(place)))
        flags = self.store.flags()
        notes: dict[int, list[tuple[str, str]]] = defaultdict(list)
        for index, note, name in zip(flags["index"], flags["note"], flags["annotator"], strict=True):
            notes[index].append((name, note))
        return [
            {
                **card,
                "votes": [(name, answer, places[0].get((i, name))) for name, answer in votes.get(i, {}).items()],
                "notes": notes[i],
                "settled": (*settled[i], places[1].get((i, settled[i][1]))) if i in settled else None,
            }
            for i, card in zip(disagreed, self.cards(disagreed), strict=True)
        ]

    def summary(self) -> dict[str, Any]:
        """Each class's trust, trend and advice; everybody's progress, and their agreement."""
        votes, settled = self.votes(), self.settled()
        disagreed = differing(votes, settled)
        return {
            "queued": len(self.queue()),
            "last": self.store.last_rows(),
            "people": {name: sum(name in vote for vote in votes.values()) for name in self.store.people()},
            # Without settling answers: whoever settles has seen the other answers.
            "agreement": agreement([list(vote.values()) for vote in votes.values()]),
            "differing": len(disagreed),
            "settled": sum(index in settled for index in disagreed),
            "outlines": None if self.outlines is None else self._strip(self.outlines),
            "classes": [] if self.pool.scoring is None else [self._class(k) for k in range(len(self._scores.trust))],
        }

    def _strip(self, outlines: Outlines) -> dict[str, Any]:
        """What the page shows about the object: the version of the pictures, their cards, and a note."""
        found = outlines.found
        cards = self.cards([*found.drawn, *found.least_sure])
        caption = ["drawn at random"] * len(found.drawn) + ["least sure"] * len(found.least_sure)
        cards = [{**card, "caption": text} for card, text in zip(cards, caption, strict=True)]
        return {"version": found.version, "cards": cards, "note": found.progress.note}

    def _class(self, label: int) -> dict[str, Any]:
        """The summary of one class."""
        name, steps = self.pool.table.class_names[label], self._trends.steps[label]
        trend = [
            [None] * 3 if few_answers(step.trust) else [step.trust.auc, step.trust.low, step.trust.high]
            for step in steps[-DRAWN:]
        ]
        trust = asdict(self._scores.trust[label])
        return {"name": name, **trust, "trend": trend, "state": state(steps), "advice": advice(name, steps)}

    def scores(self) -> NDArray[np.float32]:
        """(n,) current scores; NaN in classes without an answer."""
        return self._scores.values

    def current(self) -> bool:
        """Whether the scores and the outlines include every answer."""
        return self._changes == self._scored == self._outlined

    def _no_scores(self) -> Scores:
        """The scores before any answer."""
        return no_scores(self._y, self.pool.table.class_names)

    def _renew_version(self) -> None:
        """Let every open page ask for the summary again."""
        with self._condition:
            self.version += 1

    def _work(self) -> None:
        """Compute the scores after each change until the session is closed; meanwhile, replay the earlier trend."""
        replaying = self._replay()
        while True:
            with self._condition:
                self._condition.wait_for(lambda: not self.current() or self._closed or not self._idle)
                if self._closed:
                    return
                changes = self._changes
            if changes != self._scored:
                self._score()
                self._renew_version()
                self._scored = changes
            elif changes != self._outlined:
                self._outline()
                self._outlined = changes
            else:
                finished = next(replaying, None)
                self._idle = finished is None
                if finished:
                    self._renew_version()

    def _score(self) -> None:
        """Compute the scores from the present answers, and add a step to the trend."""
        if self.pool.scoring is None:
            return
        before, self._scores = self._scores, self.pool.scoring(self._answers())
        self._trends.add(before, self._scores)

    def _outline(self) -> None:
        """Compute from the present answers what is taken for the object."""
        if self.outlines is not None:
            self.outlines.update(self._counted(), set(self.store.flags()["index"]))
            self._renew_version()

    def _answers_of_people(self) -> pd.DataFrame:
        """The present answers, without those of oracles."""
        answers = self.store.answers()
        return answers[answers["annotator"].isin(self.store.people())]

    def _answers(self) -> dict[int, Answer]:
        """The answer that counts for each image that has one."""
        counted = self._counted()["answer"]
        return dict(zip(counted.index, counted, strict=True))

    def _counted(self) -> pd.DataFrame:
        """The same with the places, latest last."""
        return answers_that_count(self._answers_of_people(), self.store.settled())

    def _replay(self) -> Iterator[bool]:
        """Compute the trend of the answers that there are now, step by step as this is iterated."""
        if self.pool.scoring is None:
            return iter(())
        history, people = self.store.history(), self.store.people()
        history = history[history["annotator"].isin(people) | history["settles"]]
        return self._trends.replay(history, self._answers, self.pool.scoring, self._no_scores())


def _fingerprint(pool: Pool) -> str:
    """Identifies a pool's images and maps, so that a browser does not show what it stored for another pool."""
    digest = hashlib.sha256("\n".join([pool.title, *pool.table.paths]).encode())
    digest.update(np.ascontiguousarray(pool.maps).data)
    return digest.hexdigest()[:12]


def _places(rows: pd.DataFrame) -> list[dict[str, float] | None]:
    """Where each answer says that the object is, for the page; None where it does not."""
    places = (Place.from_columns(*values) for values in rows[list(PLACE_COLUMNS)].itertuples(index=False))
    return [None if place is None else asdict(place) for place in places]


def _places_by_name(rows: pd.DataFrame) -> dict[tuple[int, str], dict[str, float] | None]:
    """The place of each image's answer by each person."""
    return dict(zip(zip(rows["index"], rows["annotator"], strict=True), _places(rows), strict=True))
