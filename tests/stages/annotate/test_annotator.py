"""Asking an annotator: each answer stored at once, resuming, undo, stop, and queries that stay unanswered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slim import Place, Queries, Query, RecordedAnswers, Store, ask
from slim.errors import AnnotationError, SlimWarning

Ask = Callable[..., Queries]
Recorded = Callable[[str], RecordedAnswers]


def test_ask_warns_of_queries_without_an_answer(recorded: Recorded, ask_about: Ask) -> None:
    oracle = recorded("index,answer\n0,core\n")
    with pytest.warns(SlimWarning, match="2 of 3 queries got no answer"):
        judgements = ask(ask_about(0, 1, 2), oracle)
    assert judgements.frame["index"].tolist() == [0]


def test_ask_refuses_to_continue_without_any_answer(recorded: Recorded, ask_about: Ask) -> None:
    with pytest.raises(AnnotationError, match=r"Got no answer to 1 from recorded answers.csv.*/2.png"):
        ask(ask_about(2), recorded("path,answer\n/elsewhere/9.png,core\n"))


def test_ask_refuses_an_unknown_reply(ask_about: Ask, certain: Any) -> None:
    with pytest.raises(AnnotationError, match="Got 'perhaps' from certain"):
        ask(ask_about(0), certain("perhaps"))


def test_ask_keeps_the_place_of_an_answer(ask_about: Ask, scripted: Any) -> None:
    person = scripted(("spurious", Place(0.25, 0.5)), ("core", Place(0.5, 0.5, 0.1, 0.2)), "core", "undo", "spurious")
    places = ask(ask_about(4, 2, 6), person).places(8)
    assert places[[4, 2]].tolist() == [[0.25, 0.5, 0, 0], [0.5, 0.5, 0.1, 0.2]]
    assert np.isnan(places[[0, 1, 3, 5, 6, 7]]).all()


@pytest.mark.parametrize("reply", [("spurious", (0.5, 0.5)), ("undo", Place(0, 0)), ("core", Place(0, 0), 1)])
def test_ask_refuses_a_reply_with_no_place(reply: object, ask_about: Ask, certain: Any) -> None:
    with pytest.raises(AnnotationError, match="core or spurious with a Place.* Got .* from certain"):
        ask(ask_about(0), certain(reply))


def test_ask_stores_each_answer_before_the_next_question(ask_about: Ask, certain: Any) -> None:
    with Store(":memory:") as store:
        seen = []

        class Watching(certain):
            def answer(self, query: Query) -> Any:
                seen.append(store.answers()["index"].tolist())
                return super().answer(query)

        ask(ask_about(4, 2, 6), Watching(), store)
    assert seen == [[], [4], [4, 2]]


def test_ask_resumes_where_it_was_left(ask_about: Ask, scripted: Any) -> None:
    with Store(":memory:") as store:
        first = ask(ask_about(0, 1, 2), scripted("core", "stop"), store)
        person = scripted("spurious", "unsure")
        second = ask(ask_about(0, 1, 2), person, store)
    assert first.frame["answer"].tolist() == ["core"]
    assert person.asked == [1, 2]
    assert second.frame["answer"].tolist() == ["core", "spurious", "unsure"]


def test_ask_gives_only_the_answers_of_this_annotator_to_these_queries(ask_about: Ask, scripted: Any) -> None:
    with Store(":memory:") as store:
        ask(ask_about(0, 5), scripted("core", "core", name="bob"), store)
        judgements = ask(ask_about(0), scripted("spurious"), store)
    assert judgements.frame[["index", "answer", "annotator"]].to_numpy().tolist() == [[0, "spurious", "ann"]]


def test_ask_undo_asks_again_also_about_an_earlier_session(ask_about: Ask, scripted: Any) -> None:
    queries = ask_about(0, 1, 2)
    with Store(":memory:") as store:
        ask(queries, scripted("core", "core", "stop"), store)
        person = scripted("undo", "undo", "undo", "spurious", "unsure", "core")
        judgements = ask(queries, person, store)
        assert store.history()["answer"].tolist().count("undone") == 2
    assert person.asked == [2, 1, 0, 0, 1, 2]
    assert judgements.frame["answer"].tolist() == ["spurious", "unsure", "core"]


def test_ask_stopped_at_once_gives_no_judgement(ask_about: Ask, scripted: Any) -> None:
    assert len(ask(ask_about(0, 1), scripted("stop"))) == 0


def test_ask_measures_the_seconds_of_a_person(ask_about: Ask, scripted: Any) -> None:
    seconds = ask(ask_about(0), scripted("core")).frame["seconds"].iloc[0]
    assert 0 < seconds < 5


def test_ask_says_what_became_of_the_answers_when_the_input_ends(tmp_path: Path, ask_about: Ask, scripted: Any) -> None:
    with (
        Store(tmp_path / "annotations.db") as store,
        pytest.raises(AnnotationError, match=r"after 1. The 1 so far are saved in .*annotations.db: run the same"),
    ):
        ask(ask_about(0, 1), scripted("core"), store)
    with Store(tmp_path / "annotations.db") as store:
        assert store.answers()["index"].tolist() == [0]
    with pytest.raises(AnnotationError, match="The 1 so far are lost: name a folder or a store"):
        ask(ask_about(0, 1), scripted("core"))
