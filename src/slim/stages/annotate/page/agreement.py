"""How far people agree about the images that several of them judged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slim.stages.judgements import ANSWERS, Answer, answer_that_counts


def differing(votes: dict[int, dict[str, Answer]], settled: dict[int, tuple[Answer, str]]) -> list[int]:
    """The images on which people disagree, and those whose settled answer is not what people say by now.

    Parameters
    ----------
    votes
        For each image, the answer of each person.
    settled
        The answers that settled images, and who settled them.

    Examples
    --------
    >>> votes = {4: {"ann": "core", "bob": "spurious"}, 5: {"ann": "core", "bob": "core"}, 6: {"ann": "core"}}
    >>> differing(votes, {}), differing(votes, {5: ("spurious", "ann"), 6: ("core", "ann"), 7: ("core", "ann")})
    ([4], [4, 5, 7])
    """
    disagreed = [index for index, vote in votes.items() if len(set(vote.values())) > 1]
    said = {index: answer_that_counts(vote.values()) for index, vote in votes.items()}
    outlived = [index for index, (answer, _) in settled.items() if said.get(index) != answer]
    return list(dict.fromkeys([*disagreed, *outlived]))


def agreement(votes: Sequence[Sequence[Answer]]) -> float | None:
    """Krippendorff's alpha of nominal answers: 1 = perfect agreement, 0 = as by chance.

    Parameters
    ----------
    votes
        For each image, everybody's answer.

    Notes
    -----
    None where no image has two answers, and where all answers are the same: alpha is not defined there.

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
