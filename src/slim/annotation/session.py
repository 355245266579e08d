"""What the page asks and knows: the queue, everybody's answers, and the scores that they give, kept up to date."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from threading import Condition, Thread
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from slim.annotation.judgements import majority
from slim.annotation.queries import ANSWERS, Answer, Floats, Queries, most_informative
from slim.annotation.spread import Spread, Spreading, Trust, advice, state
from slim.annotation.store import Post, Store
from slim.annotation.trend import DRAWN, Trends
from slim.datasets import ImageTable
from slim.errors import AnnotationError
from slim.overlay import COLOURS

ROUND = 5  # images that one request for more adds


@dataclass(frozen=True, eq=False)
class Pool:
    """The images that a page may show, and what is known of them.

    Parameters
    ----------
    table
        n images.
    maps
        (n, h, w) attention maps in [0, 1].
    title
        What the page is called.
    probabilities
        (n, k) of the reference model; None where they are not known.
    coordinates
        (n, 2) plane of the attention space; None where there is none, and the page then neither shows it nor asks for
        more.
    components
        (n, d) of the attention space, in which more images to ask about are chosen.
    spreading
        Gives the scores from the answers; None where nothing is spread.
    environment
        (n, d) environment features, whose clusters the map may show; None where there are none.
    """

    table: ImageTable
    maps: Floats
    title: str = "judgements"
    probabilities: Floats | None = None
    coordinates: Floats | None = None
    components: Floats | None = None
    spreading: Spreading | None = None
    environment: Floats | None = None

    @classmethod
    def of(cls, queries: Queries) -> Pool:
        """No more than the queries' own images."""
        return cls(queries.table, queries.maps)


class Session:
    """One page's queue and answers. Close it to end its thread.

    Parameters
    ----------
    pool
        What may be shown.
    index
        (m,) positions in the pool of the images to ask about.
    store
        Where answers are; what it holds already is not asked again.
    """

    def __init__(self, pool: Pool, index: NDArray[np.int64], store: Store) -> None:
        self.pool = pool
        self.store = store
        self.run = hashlib.sha256("\n".join([pool.title, *pool.table.paths]).encode()).hexdigest()[:12]
        self.version = 0
        self.closed = False
        self._asked = [int(image) for image in index]
        self._y = pool.table.y
        self._trends = Trends(self._y, len(pool.table.class_names))
        self._spread = self._nothing()
        self._idle = False  # everything is spread and recalled
        self._wanted = Condition()
        self._changes, self._spread_changes = 1, 0  # how many there were, and how many are in the scores
        self._thread = Thread(target=self._work, name="slim-spreading", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread that spreads."""
        with self._wanted:
            self.closed = True
            self._wanted.notify_all()
        self._thread.join()

    def queue(self) -> list[int]:
        """Positions of the images that are asked about, in their order; what was added comes last."""
        return list(dict.fromkeys([*self._asked, *self.store.added()]))

    def cards(self, index: Sequence[int]) -> list[dict[str, Any]]:
        """What the page says of each of these images."""
        chosen = np.asarray(index, dtype=np.int64)
        probabilities = self.pool.probabilities
        seen = None if probabilities is None else np.asarray(probabilities[chosen])
        cards: list[dict[str, Any]] = [{"index": int(i), "y": int(self._y[i])} for i in chosen]
        if seen is not None:
            for card, row in zip(cards, seen, strict=True):
                card |= {"predicted": int(row.argmax()), "confidence": round(float(row.max()), 4)}
        return cards

    def describe(self, annotator: str) -> dict[str, Any]:
        """Everything that a page needs to begin, for one annotator."""
        answers = self.store.answers()
        own = answers[answers["annotator"] == annotator]
        return {
            "run": self.run,
            "title": self.pool.title,
            "classes": list(self.pool.table.class_names),
            "images": len(self.pool.table),
            "map": list(self.pool.maps.shape[1:]),
            "colours": COLOURS.tolist(),
            "queue": self.cards(self.queue()),
            "budget": len(self._asked),
            "answers": [[int(i), a] for i, a in zip(own["index"], own["answer"], strict=True)],  # oldest first
            "seconds": round(float(own["seconds"].sum()), 1),
            "flags": sorted(set(self.store.flags()["index"].tolist())),
            "space": self.pool.components is not None,
            "environment": self.pool.environment is not None,
            "spread": self.summary(),
        }

    def keep(self, posts: Sequence[Post], annotator: str) -> int:
        """Keep what was answered, and begin to spread it.

        Raises
        ------
        AnnotationError
            An image does not exist.
        """
        for post in posts:
            self.check(post.index)
        new = self.store.post(posts, annotator)
        with self._wanted:
            self._changes += 1
            self._wanted.notify_all()
        return new

    def more(self, label: int) -> list[dict[str, Any]]:
        """Add the next best images of a class to the queue."""
        if self.pool.components is None or not 0 <= label < len(self.pool.table.class_names):
            raise AnnotationError(
                "More images can be chosen in the attention space of a class. "
                f"Got class {label} of {len(self.pool.table.class_names)}"
                f"{'' if self.pool.components is not None else ' and no space'}. Open the page with slim annotate RUN."
            )
        members = np.flatnonzero(self._y == label)
        asked = np.asarray(self.queue(), dtype=np.int64)
        return self.add(most_informative(self.pool.components, members, asked, ROUND).tolist())

    def add(self, index: Sequence[int]) -> list[dict[str, Any]]:
        """Add images to the queue; those that are in it stay where they are. Gives what the page says of the new."""
        for image in index:
            self.check(image)
        known = set(self.queue())
        new = [image for image in dict.fromkeys(index) if image not in known]
        self.store.add(new)
        return self.cards(new)

    def check(self, index: int) -> None:
        """Refuse a position that is none of the pool."""
        if not 0 <= index < len(self.pool.table):
            raise AnnotationError(
                f"An image must be one of {len(self.pool.table)}. Got number {index}. Reload the page."
            )

    def votes(self) -> dict[int, list[tuple[str, Answer]]]:
        """Who said what about each image, people on the page only."""
        answers, people = self.store.answers(), self.store.people()
        votes: dict[int, list[tuple[str, Answer]]] = defaultdict(list)
        for row in answers[answers["annotator"].isin(people)].itertuples(index=False):
            votes[int(cast(int, row[0]))].append((str(row.annotator), cast(Answer, row.answer)))
        return votes

    def settled(self) -> dict[int, tuple[Answer, str]]:
        """The answer that settles each image about which people differed, and who gave it."""
        rows = self.store.settled()
        given = zip(rows["answer"], rows["annotator"], strict=True)
        return dict(zip(rows["index"].tolist(), cast("list[tuple[Answer, str]]", list(given)), strict=True))

    def differences(self) -> list[dict[str, Any]]:
        """The images about which people differ, with everybody's answer, the notes, and what settles them.

        Each is a card with ``votes`` (name and answer), ``notes`` (name and note of who flagged the photo) and
        ``settled`` (answer and name, or None), in the order of the queue.
        """
        votes, settled = self.votes(), self.settled()
        differing = [i for i, vote in votes.items() if len({answer for _, answer in vote}) > 1]
        place = {index: at for at, index in enumerate(self.queue())}
        differing.sort(key=lambda index: place.get(index, len(place)))
        flags = self.store.flags()
        notes: dict[int, list[tuple[str, str]]] = defaultdict(list)
        for index, note, who in zip(flags["index"], flags["note"], flags["annotator"], strict=True):
            notes[int(index)].append((who, note))
        return [
            {**card, "votes": votes[i], "notes": notes[i], "settled": settled.get(i)}
            for i, card in zip(differing, self.cards(differing), strict=True)
        ]

    def summary(self) -> dict[str, Any]:
        """The trust in each class, its trend, what to do next, and who has answered how far in agreement."""
        names = self.pool.table.class_names
        votes, settled = self.votes(), self.settled()
        differing = [index for index, vote in votes.items() if len({answer for _, answer in vote}) > 1]
        return {
            "version": self.version,
            "queued": len(self.queue()),
            "last": self.store.last_rows(),
            "people": {name: sum(name in dict(v) for v in votes.values()) for name in self.store.people()},
            # Of what each answered alone: who settles has seen the others' answers.
            "agreement": agreement([[answer for _, answer in vote] for vote in votes.values()]),
            "differing": len(differing),
            "settled": sum(index in settled for index in differing),
            "classes": [
                {
                    "name": name,
                    **asdict(self._spread.trust[label]),
                    "trend": [
                        [None] * 3 if step.trust.few else [step.trust.auc, step.trust.low, step.trust.high]
                        for step in steps[-DRAWN:]
                    ],
                    "state": state(steps),
                    "advice": advice(name, steps),
                }
                for label, (name, steps) in enumerate(zip(names, self._trends.steps, strict=True))
            ]
            if self.pool.spreading is not None
            else [],
        }

    def scores(self) -> NDArray[np.float32]:
        """(n,) scores so far; NaN where nothing is known."""
        return self._spread.scores

    def current(self) -> bool:
        """Whether the scores are those of every answer kept."""
        return self._changes == self._spread_changes

    def _nothing(self) -> Spread:
        n, k = len(self.pool.table), len(self.pool.table.class_names)
        return Spread(np.full(n, np.nan, np.float32), (Trust(0, 0),) * k)

    def _work(self) -> None:
        """Spread whenever something was answered, until the session is closed; in between, recall the earlier trend."""
        recalling = self._recall()
        while True:
            with self._wanted:
                self._wanted.wait_for(lambda: not self.current() or self.closed or not self._idle)
                if self.closed:
                    return
                changes = self._changes
            if changes != self._spread_changes:
                self._renew()
                self.version += 1
                self._spread_changes = changes
            else:
                finished = next(recalling, None)
                self._idle = finished is None
                self.version += bool(finished)

    def _renew(self) -> None:
        """Spread the answers that there are now, and note how much each class's scores have moved."""
        if self.pool.spreading is None:
            return
        before, self._spread = self._spread, self.pool.spreading(self._answers())
        self._trends.note(before, self._spread)

    def _answers(self) -> dict[int, Answer]:
        """The answer of record of each image that has one."""
        voted = {index: majority(answer for _, answer in vote) for index, vote in self.votes().items()}
        return voted | {index: answer for index, (answer, _) in self.settled().items()}

    def _recall(self) -> Iterator[bool]:
        """The trend of the answers that are there now; computed as it is gone through."""
        if self.pool.spreading is None:
            return iter(())
        history, people = self.store.history(), self.store.people()
        history = history[history["annotator"].isin(people) | history["settles"]]
        return self._trends.recall(history, self._answers, self.pool.spreading, self._nothing())


def agreement(votes: Sequence[Sequence[Answer]]) -> float | None:
    """Krippendorff's alpha of nominal answers: 1 = always agree, 0 = as by chance; None where nobody overlaps.

    Parameters
    ----------
    votes
        For each image, what everybody said.

    Notes
    -----
    Where every answer is the same, chance agrees as well, and alpha is not defined; None then.

    Examples
    --------
    >>> agreement([["core", "core"], ["spurious", "spurious"], ["core", "spurious"]])
    0.444
    """
    pairs = np.zeros((len(ANSWERS), len(ANSWERS)))
    for vote in votes:
        if len(vote) > 1:
            counts = np.array([vote.count(answer) for answer in ANSWERS], dtype=float)
            pairs += (np.outer(counts, counts) - np.diag(counts)) / (len(vote) - 1)
    totals, n = pairs.sum(0), pairs.sum()
    by_chance = (n * n - np.square(totals).sum()) / (n - 1) if n > 1 else 0.0
    return round(float(1 - (n - np.trace(pairs)) / by_chance), 3) if by_chance else None
