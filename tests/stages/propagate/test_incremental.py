"""Scores while answers arrive are those of all answers at once, and only what changed is computed again."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from slim.errors import SlimWarning
from slim.stages.judgements import UNASKED, Answer, answer_codes
from slim.stages.propagate import incremental
from slim.stages.propagate.incremental import IncrementalScores, no_scores
from slim.stages.propagate.propagate import propagate_answers
from slim.stages.propagate.scores import Scores
from slim.stages.settings import PropagateSettings

NAMES = ["cat", "dog"]
METHODS = ["regression", "spreading"]


def points(n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Points of the plane and labels."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)), np.arange(n) % 2


def answers(n: int) -> dict[int, Answer]:
    """Answers about the first images, by their first coordinate, one of them unsure."""
    plane, _ = points()
    judged: dict[int, Answer] = {i: "core" if plane[i, 0] > 0 else "spurious" for i in range(n)}
    return judged | {6: "unsure"} if n > 6 else judged


def at_once(judged: dict[int, Answer], settings: PropagateSettings) -> Scores:
    plane, y = points()
    codes = np.full(len(y), UNASKED)
    codes[list(judged)] = answer_codes(list(judged.values()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlimWarning)
        return propagate_answers(plane, y, codes, settings, class_names=NAMES)


@pytest.mark.parametrize("method", METHODS)
def test_scores_after_each_answer_equal_those_of_all_answers_at_once(method: Any) -> None:
    settings = PropagateSettings(method)
    scores = IncrementalScores(*points(), settings, NAMES)
    for n in (2, 3, 8, 20, 19):  # the last answer is taken back
        now, expected = scores(answers(n)), at_once(answers(n), settings)
        np.testing.assert_array_equal(now.values, expected.values)
        assert now.trust == expected.trust


@pytest.mark.parametrize("method", METHODS)
def test_answer_that_is_changed_counts_as_it_now_is(method: Any) -> None:
    settings = PropagateSettings(method)
    scores = IncrementalScores(*points(), settings, NAMES)
    scores(answers(12))
    changed: dict[int, Answer] = {**answers(12), 3: "core", 4: "unsure"}
    np.testing.assert_array_equal(scores(changed).values, at_once(changed, settings).values)


@pytest.mark.parametrize("method", METHODS)
def test_class_without_an_answer_has_no_scores_yet(method: Any) -> None:
    _, y = points()
    scores = IncrementalScores(*points(), PropagateSettings(method), NAMES)
    now = scores({0: "core", 2: "spurious", 1: "unsure"})
    assert np.isnan(now.values[y == 1]).all()
    assert not np.isnan(now.values[y == 0]).any()
    assert [one.verdict for one in now.trust] == ["not above chance", "no answer"]
    assert (now.trust[1].n_unsure, now.trust[1].n_unasked) == (1, 39)
    assert np.isnan(scores({}).values).all()


def test_no_scores_count_every_image_as_unasked() -> None:
    scores = no_scores(points()[1], NAMES)
    assert np.isnan(scores.values).all()
    assert [(one.class_name, one.n_unasked, one.verdict) for one in scores.trust] == [
        ("cat", 40, "no answer"),
        ("dog", 40, "no answer"),
    ]


def test_spreading_scores_only_the_class_of_a_new_answer_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[str] = []
    real = incremental.propagate_class

    def propagate_class(*arguments: Any) -> Any:
        scored.append(arguments[-1])
        return real(*arguments)

    monkeypatch.setattr(incremental, "propagate_class", propagate_class)
    scores = IncrementalScores(*points(), PropagateSettings("spreading"), NAMES)
    scores(answers(12))
    assert scored == NAMES
    scores(answers(12))
    assert scored == NAMES
    scores({**answers(12), 13: "core"})
    assert scored == [*NAMES, "dog"]


def test_earlier_scores_stay_as_they_were() -> None:
    scores = IncrementalScores(*points(), PropagateSettings(), NAMES)
    first = scores(answers(8))
    kept = first.values.copy()
    scores(answers(20))
    np.testing.assert_array_equal(first.values, kept)
