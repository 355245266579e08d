"""Several people and their agreement, and the scores and advice from their answers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from slim.errors import SlimWarning
from slim.stages.annotate.page.advice import Step, advice, state
from slim.stages.annotate.page.session import Pool, Session, agreement
from slim.stages.annotate.people import judgements_of_people
from slim.stages.annotate.store import Post, Store
from slim.stages.judgements import UNASKED, answer_codes
from slim.stages.propagate.incremental import IncrementalScores
from slim.stages.propagate.propagate import propagate_answers
from slim.stages.propagate.scores import ClassTrust
from slim.stages.settings import PropagateSettings

Wait = Callable[[Session], None]


def test_people_do_not_see_each_others_answers_but_their_agreement(client: Any, session: Session) -> None:
    for name, answers in (("ann", ("core", "core", "spurious")), ("bob", ("core", "spurious", "spurious"))):
        posts = [{"key": f"{name}{i}", "index": i, "answer": answer} for i, answer in enumerate(answers)]
        client.post_answers(*posts, annotator=name)
    assert client.get("/api/session", params={"annotator": "bob"}).json()["answers"][1] == [1, "spurious"]
    summary = session.summary()
    assert summary["people"] == {"ann": 3, "bob": 3}
    assert summary["agreement"] == agreement([["core", "core"], ["core", "spurious"], ["spurious", "spurious"]])


def test_agreement_of_those_who_always_agree_is_one() -> None:
    assert agreement([["core", "core"], ["spurious", "spurious"]]) == 1.0
    assert agreement([["core"], ["spurious"]]) is None
    assert agreement([["core", "core"]]) is None


def test_judgements_leave_out_oracles_that_answered_before(session: Session, store: Store) -> None:
    store.record(0, "core", "masks over 0.5")
    session.keep([Post("a", 0, "spurious", 2.0), Post("b", 5, "core", 1.0)], "ann")
    frame = judgements_of_people(store, session.pool.table, session.queue()).frame
    assert frame[["index", "answer", "annotator"]].values.tolist() == [[0, "spurious", "ann"], [5, "core", "ann"]]


def disagree(client: Any) -> None:
    """Ann and Bob differ about 5 and 1, and agree about 0."""
    for name, answers in (("ann", ("core", "core", "spurious")), ("bob", ("core", "spurious", "unsure"))):
        posts = [{"key": f"{name}{i}", "index": i, "answer": a} for i, a in zip((0, 5, 1), answers, strict=True)]
        client.post_answers(*posts, annotator=name)


def test_differences_have_who_said_what_and_the_notes(client: Any) -> None:
    disagree(client)
    client.post_answers({"key": "f", "index": 5, "answer": "flag", "note": "two animals"}, annotator="cid")
    differences = client.get("/api/differences").json()["differences"]
    assert [(one["index"], one["votes"], one["notes"], one["settled"]) for one in differences] == [
        (1, [["ann", "spurious", None], ["bob", "unsure", None]], [], None),
        (5, [["ann", "core", None], ["bob", "spurious", None]], [["cid", "two animals"]], None),
    ]


def test_settled_answer_is_of_record_and_does_not_make_people_agree(
    client: Any, session: Session, wait_until_scored: Wait
) -> None:
    disagree(client)
    before = session.summary()
    client.post_answers({"key": "s", "index": 5, "answer": "spurious", "settles": True}, annotator="cid")
    now = session.summary()
    assert (before["differing"], before["settled"]) == (2, 0)
    assert (now["differing"], now["settled"]) == (2, 1)
    assert now["agreement"] == before["agreement"]
    assert now["people"] == {"ann": 3, "bob": 3}
    assert client.get("/api/differences").json()["differences"][1]["settled"] == ["spurious", "cid", None]
    frame = judgements_of_people(session.store, session.pool.table, session.queue()).frame.set_index("index")
    assert frame.loc[5, ["answer", "annotator"]].tolist() == ["spurious", "ann + bob + cid"]
    assert frame.loc[1, "answer"] == "unsure"
    wait_until_scored(session)
    scores = np.frombuffer(client.get("/api/scores").content, np.uint8)
    assert scores[4] > scores[5] > scores[7]  # away from where core was answered, beyond where it now says spurious


def test_settled_answer_that_outlives_its_disagreement_is_still_listed_and_can_be_undone(
    client: Any, session: Session
) -> None:
    disagree(client)
    client.post_answers({"key": "s", "index": 5, "answer": "spurious", "settles": True}, annotator="cid")
    client.post_answers({"key": "c", "index": 5, "answer": "core"}, annotator="bob")
    listed = {one["index"]: one for one in client.get("/api/differences").json()["differences"]}
    assert list(listed) == [1, 5]
    assert sorted(listed[5]["votes"]) == [["ann", "core", None], ["bob", "core", None]]
    assert listed[5]["settled"] == ["spurious", "cid", None]
    assert (session.summary()["differing"], session.summary()["settled"]) == (2, 1)
    client.post_answers({"key": "u", "index": 5, "answer": "undone", "settles": True}, annotator="ann")
    assert [one["index"] for one in client.get("/api/differences").json()["differences"]] == [1]
    frame = judgements_of_people(session.store, session.pool.table, session.queue()).frame.set_index("index")
    assert frame.loc[5, "answer"] == "core"


def test_settled_answer_is_listed_though_everybody_took_theirs_back(client: Any) -> None:
    disagree(client)
    client.post_answers({"key": "s", "index": 5, "answer": "spurious", "settles": True}, annotator="cid")
    for name in ("ann", "bob"):
        client.post_answers({"key": f"u{name}", "index": 5, "answer": "undone"}, annotator=name)
    [_, case] = client.get("/api/differences").json()["differences"]
    assert (case["index"], case["votes"], case["settled"]) == (5, [], ["spurious", "cid", None])


def test_trend_survives_a_restart(
    client: Any, session: Session, shown: Pool, store: Store, wait_until_scored: Wait
) -> None:
    answers = ["core", "spurious", "core", "undone", "spurious"]
    for step, (index, answer) in enumerate(zip((0, 3, 1, 1, 2), answers, strict=True)):
        client.post_answers({"key": str(step), "index": index, "answer": answer})
        wait_until_scored(session)
    before = session._trends.steps
    again = Session(shown, np.array([0, 1, 4, 5]), store)
    try:
        wait_until_scored(again)
        assert [step.trust for step in again._trends.steps[0]] == [step.trust for step in before[0]]
        np.testing.assert_allclose([s.change for s in again._trends.steps[0]], [s.change for s in before[0]], atol=1e-6)
    finally:
        again.close()


def test_scores_follow_the_answers(client: Any, session: Session, wait_until_scored: Wait) -> None:
    settled_before = np.frombuffer(client.get("/api/scores").content, np.uint8)
    assert (settled_before == 255).all()
    client.post_answers({"key": "a", "index": 0, "answer": "core"}, {"key": "b", "index": 3, "answer": "spurious"})
    wait_until_scored(session)
    scores = np.frombuffer(client.get("/api/scores").content, np.uint8)
    assert scores[0] > 200 > 50 > scores[3]
    assert (scores[4:] == 255).all()
    first, second = session.summary()["classes"]
    assert (first["n_core"], first["n_spurious"], second["n_core"]) == (1, 1, 0)
    assert second["advice"] == "No answers for n/a dog yet."


@pytest.mark.parametrize("settings", [PropagateSettings(), PropagateSettings("spreading", gamma=2)])
def test_live_scores_are_those_of_the_stage(shown: Pool, settings: PropagateSettings) -> None:
    answers = {0: "core", 1: "core", 3: "spurious", 4: "spurious", 6: "core", 7: "unsure"}
    codes = np.full(8, UNASKED, np.int8)
    codes[list(answers)] = answer_codes(list(answers.values()))  # type: ignore[arg-type]
    y, names, points = shown.table.y, shown.table.class_names, np.asarray(shown.components)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlimWarning)
        whole = propagate_answers(points, y, codes, settings, class_names=names)
    scoring = IncrementalScores(points, y, settings, names)
    scoring({0: "core"})
    live = scoring(answers)  # type: ignore[arg-type]
    np.testing.assert_array_equal(live.values, whole.values)
    assert live.trust == whole.trust


def test_scores_forget_answers_that_are_undone(shown: Pool) -> None:
    assert shown.scoring is not None
    shown.scoring({0: "core", 3: "spurious"})
    assert np.isnan(shown.scoring({0: "unsure"}).values).all()


def test_browser_cache_is_not_shared_with_other_maps(shown: Pool, session: Session, store: Store) -> None:
    maps = shown.maps.copy()
    maps[7, 1, 3] += 0.5
    for pool, same in ((replace(shown, maps=maps), False), (shown, True)):
        other = Session(pool, np.arange(2), store)
        other.close()
        assert (other.run == session.run) is same


def trust(n_core: int, n_spurious: int, *auc: float) -> ClassTrust:
    """A class's trust, from its answers and its AUC with the interval."""
    value, low, high = auc or (None, None, None)
    return ClassTrust("cat", n_core, n_spurious, 0, 20, None, value, low, high, "above chance")


def test_advice_follows_the_answers_of_a_class() -> None:
    good, weak = trust(8, 8, 0.9, 0.7, 1.0), trust(8, 8, 0.5, 0.3, 0.7)
    assert state([Step(good, 0.2)] * 6) == "going on"
    assert state([Step(good, 0.001)] * 6) == "settled"
    assert "hardly change anything" in advice("cat", [Step(good, 0.001)] * 6)
    assert "each answer still changes them" in advice("cat", [Step(good, 0.2)] * 6)
    assert "too few to be sure" in advice("cat", [Step(trust(8, 8, 0.7, 0.4, 0.9), 0.1)])
    assert "3 of each" in advice("cat", [Step(trust(1, 9, 0.9, 0.6, 1.0), 0.1)])
    assert "do not separate core from spurious" in advice("cat", [Step(weak, 0.001)] * 6)
    assert advice("cat", [Step(trust(0, 9), 0.0)]) == (
        "All 9 answers for cat are spurious (off the object). Its scores cannot be checked without core answers. "
        "Press “+5\u00a0more”, or pick photos from another part of the map."
    )
    assert advice("cat", [Step(trust(1, 0), 0.0)]).startswith("The only answer for cat is core (on the object).")
