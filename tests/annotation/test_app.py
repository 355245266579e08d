"""The page's server: who may talk to it, what it serves, and that no answer is lost or doubled."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from slim.annotation import BrowserAnnotator, Pool, Queries, Store, app
from slim.annotation import browser as module
from slim.annotation.app import build_app
from slim.annotation.browser import judgements_of, serving
from slim.annotation.session import Session, agreement
from slim.annotation.spread import Step, Trust, advice, state
from slim.annotation.store import Post
from slim.datasets import ImageTable
from slim.errors import AnnotationError, SlimError, SlimWarning
from slim.live import LiveSpreading
from slim.propagation import PropagateSettings, answers_array, propagate

TOKEN = "secret-of-the-test"
HOME = "http://127.0.0.1:8000"
Ask = Callable[..., Queries]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "annotations.db") as store:
        yield store


@pytest.fixture
def shown(pool: ImageTable) -> Pool:
    """All eight images, four a class on a line each, right halves core."""
    rng = np.random.default_rng(0)
    coordinates = np.stack([np.arange(8) % 4, np.zeros(8)], axis=1).astype(np.float32)
    probabilities = rng.dirichlet((1, 1), 8).astype(np.float32)
    spreading = LiveSpreading(coordinates, pool.y, PropagateSettings(), pool.class_names)
    maps = rng.random((8, 2, 4)).astype(np.float32)
    return Pool(pool, maps, "pets & <co>", probabilities, coordinates, coordinates, spreading)


@pytest.fixture
def session(shown: Pool, store: Store) -> Iterator[Session]:
    session = Session(shown, np.array([0, 1, 4, 5]), store)
    yield session
    session.close()


@pytest.fixture
def client(session: Session) -> Iterator[TestClient]:
    """A browser that has opened the link."""
    with TestClient(build_app(session, TOKEN, name="ann"), base_url=HOME) as client:
        assert client.get("/", params={"token": TOKEN}).status_code == 200
        yield client


def post(client: TestClient, *posts: dict[str, object], annotator: str = "ann") -> httpx.Response:
    return client.post("/api/posts", json={"annotator": annotator, "posts": list(posts)})


def settled(session: Session) -> None:
    """Wait until every answer is spread."""
    deadline = monotonic() + 30
    while not session.current():
        assert monotonic() < deadline
        sleep(0.01)


# --- who may talk to it


@pytest.mark.parametrize("path", ["/", "/api/session", "/photo/0", "/map/0", "/api/points", "/api/events", "/nowhere"])
def test_app_refuses_whoever_has_no_token(session: Session, path: str) -> None:
    stranger = TestClient(build_app(session, TOKEN), base_url=HOME)
    for params in ({}, {"token": "wrong"}, {"token": ""}):
        answer = stranger.get(path, params=params)
        assert answer.status_code == 403
        assert "Open the link that slim printed" in answer.text
    stranger.cookies.set("slim-00000000", TOKEN)
    assert stranger.get(path).status_code == 403


def test_app_moves_the_token_from_the_link_into_a_cookie(session: Session) -> None:
    browser = TestClient(build_app(session, TOKEN), base_url=HOME, follow_redirects=False)
    answer = browser.get("/", params={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    page = browser.get("/")
    assert page.status_code == 200
    assert TOKEN not in page.text


def test_app_escapes_what_comes_from_the_run(client: TestClient) -> None:
    assert "<title>pets &amp; &lt;co&gt;" in client.get("/").text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1"])
def test_app_refuses_a_name_that_is_not_this_machines(client: TestClient, host: str) -> None:
    answer = client.get("/api/session", headers={"Host": host})
    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost:1234", "[::1]:80", "192.168.0.7:8000"])
def test_app_takes_addresses_and_tunnels(session: Session, host: str) -> None:
    there = TestClient(build_app(session, TOKEN), base_url=f"http://{host}")
    assert there.get("/", params={"token": TOKEN}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:9000", "http://127.0.0.1:8000.evil.example"]
)
def test_app_refuses_posts_of_other_sites(client: TestClient, session: Session, origin: str) -> None:
    body = {"annotator": "ann", "posts": [{"key": "a", "index": 0, "answer": "core"}]}
    answer = client.post("/api/posts", json=body, headers={"Origin": origin})
    assert answer.status_code == 403
    assert len(session.store.history()) == 0
    assert client.post("/api/posts", json=body, headers={"Origin": HOME}).json() == {"new": 1, "last": {"ann": 1}}


def test_app_sends_a_policy_that_allows_nothing_from_elsewhere(client: TestClient) -> None:
    for path in ("/", "/static/app.js", "/photo/0", "/api/session", "/photo/99", "/nowhere"):
        headers = client.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_page_has_neither_inline_code_nor_addresses_of_others(client: TestClient) -> None:
    page = client.get("/").text
    assert "<style" not in page
    assert " style=" not in page
    assert " onclick" not in page
    assert page.count("<script") == page.count('<script type="module" src="static/app.js">') == 1
    names = {file.name for file in (Path(app.__file__).parent / "static").iterdir() if file.suffix in (".js", ".css")}
    assert {"app.js", "settle.js", "shared.js", "annotate.css"} <= names
    for name in names:
        text = client.get(f"/static/{name}").text.replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text
        assert "https:" not in text
        assert "eval(" not in text


def test_introduction_has_small_photographs_of_both_kinds_with_words_for_them(client: TestClient) -> None:
    pictures = re.findall(
        r'<img src="(static/(core|spurious)-\w+\.jpg)" alt="(.+?)" width="(\d+)" height="(\d+)"', client.get("/").text
    )
    assert sorted(kind for _, kind, *_ in pictures) == ["core", "core", "spurious", "spurious"]
    for address, _, words, width, height in pictures:
        response = client.get(f"/{address}")
        assert response.headers["content-type"] == "image/jpeg"
        assert len(response.content) < 40_000
        assert Image.open(io.BytesIO(response.content)).size == (int(width), int(height))
        assert "the colour lies" in words


def test_page_in_a_notebook_bears_its_token_and_may_be_framed_there(session: Session) -> None:
    notebook = TestClient(build_app(session, TOKEN, framed=True), base_url=HOME)
    page = notebook.get("/", params={"token": TOKEN})
    assert f'content="{TOKEN}"' in page.text
    assert "frame-ancestors 'self' http://localhost:*" in page.headers["content-security-policy"]
    assert notebook.get("/api/session", params={"token": TOKEN}).status_code == 200
    assert notebook.get("/api/session").status_code == 403


# --- what it serves


@pytest.mark.parametrize(
    "path",
    [
        "/photo/8",
        "/photo/-1",
        "/photo/../0",
        "/photo/%2e%2e%2fannotations.db",
        "/photo//etc/passwd",
        "/photo/99999999999999999999999",
        "/map/8",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2fstore.py",
        "/static//etc/passwd",
    ],
)
def test_app_serves_only_images_of_the_run(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_app_serves_photos_without_the_files_own_notes(client: TestClient, pool: ImageTable) -> None:
    answer = client.get("/photo/3")
    assert answer.headers["content-type"] == "image/jpeg"
    assert b"Exif" not in answer.content
    assert client.get("/map/3").content.__len__() == 8
    Path(pool.paths[2]).unlink()
    assert client.get("/photo/2").status_code == 404


def test_app_tells_a_page_all_that_it_needs(client: TestClient) -> None:
    found = client.get("/api/session", params={"annotator": "ann"}).json()
    assert [card["index"] for card in found["queue"]] == [0, 1, 4, 5]
    assert [card["y"] for card in found["queue"]] == [0, 0, 1, 1]
    assert found["queue"][0].keys() == {"index", "y", "predicted", "confidence"}
    assert found["classes"] == ["cat", "n/a dog"]
    assert found["map"] == [2, 4]
    points = client.get("/api/points").content
    assert len(points) == 8 * (8 + 4 + 2 + 2)
    assert np.frombuffer(points, "<f4", 16).reshape(8, 2)[:, 0].tolist() == [0, 1, 2, 3] * 2


# --- answers


def test_post_twice_keeps_one_answer(client: TestClient, session: Session) -> None:
    one = {"key": "k1", "index": 0, "answer": "core", "seconds": 1.5}
    assert [post(client, one).json()["new"] for _ in range(3)] == [1, 0, 0]
    assert session.store.history()[["index", "answer", "annotator", "seconds"]].values.tolist() == [
        [0, "core", "ann", 1.5]
    ]


def test_post_that_comes_late_again_does_not_undo_what_came_after(client: TestClient, session: Session) -> None:
    first = {"key": "k1", "index": 0, "answer": "core"}
    post(client, first)
    post(client, {"key": "k2", "index": 0, "answer": "spurious"})
    post(client, first)
    assert session.store.answers()["answer"].tolist() == ["spurious"]


def test_undo_is_a_new_row(client: TestClient, session: Session) -> None:
    post(client, {"key": "a", "index": 0, "answer": "core"}, {"key": "b", "index": 0, "answer": "undone"})
    assert session.store.history()["answer"].tolist() == ["core", "undone"]
    assert client.get("/api/session", params={"annotator": "ann"}).json()["answers"] == []
    post(client, {"key": "c", "index": 1, "answer": "undone"})  # nothing to take back
    assert len(session.store.history()) == 2


def test_flag_keeps_the_note_and_is_no_answer(client: TestClient, session: Session) -> None:
    post(client, {"key": "a", "index": 4, "answer": "flag", "note": "bad label"})
    assert session.store.flags()[["index", "note", "annotator"]].values.tolist() == [[4, "bad label", "ann"]]
    assert len(session.store.answers()) == 0
    assert client.get("/api/session").json()["flags"] == [4]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"annotator": "ann", "posts": [{"key": "a", "index": 8, "answer": "core"}]}, "must be one of 8"),
        ({"annotator": "ann", "posts": [{"key": "a", "index": 0, "answer": "right"}]}, "Got 'right'"),
        ({"annotator": "ann", "posts": [{"key": "", "index": 0, "answer": "core"}]}, "with a key"),
        ({"annotator": "ann", "posts": [{"key": "a", "index": 0, "answer": "core", "seconds": -1}]}, "in seconds"),
        ({"annotator": "ann", "posts": [{"key": "a", "index": True, "answer": "core"}]}, "whole numbers"),
        ({"annotator": "ann", "posts": [{"index": 0}]}, "must have a key"),
        ({"annotator": "ann", "posts": ["core"]}, "must have a key"),
        ({"annotator": "ann"}, "a list named posts"),
        ({"annotator": " ", "posts": [{"key": "a", "index": 0, "answer": "core"}]}, "must have a name"),
        ([], "must hold a JSON object"),
    ],
)
def test_post_that_makes_no_sense_is_refused_whole(
    client: TestClient, session: Session, body: object, said: str
) -> None:
    answer = client.post("/api/posts", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert len(session.store.history()) == 0


def test_post_must_be_json(client: TestClient) -> None:
    text = {"Content-Type": "text/plain"}
    assert client.post("/api/posts", content=b"{}", headers=text).status_code == 400
    assert client.post("/api/posts", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400


def test_one_bad_post_keeps_none_of_its_batch(client: TestClient, session: Session) -> None:
    good, bad = {"key": "a", "index": 0, "answer": "core"}, {"key": "b", "index": 0, "answer": "?"}
    assert post(client, good, bad).status_code == 400
    assert len(session.store.history()) == 0


# --- more, and several people


def test_more_adds_images_of_the_class_that_were_not_asked(client: TestClient, session: Session) -> None:
    new = client.post("/api/more", json={"y": 1}).json()["queue"]
    assert sorted(card["index"] for card in new) == [6, 7]
    assert session.queue() == [0, 1, 4, 5, *[card["index"] for card in new]]
    assert client.post("/api/more", json={"y": 1}).json() == {"queue": []}
    assert client.post("/api/more", json={"y": 2}).status_code == 400


def test_added_images_survive_a_restart(client: TestClient, session: Session, shown: Pool, store: Store) -> None:
    assert [card["index"] for card in client.post("/api/add", json={"index": [3, 0, 3]}).json()["queue"]] == [3]
    assert client.post("/api/add", json={"index": [8]}).status_code == 400
    again = Session(shown, np.array([0, 1, 4, 5]), store)
    assert again.queue() == [0, 1, 4, 5, 3]
    again.close()


def test_people_do_not_see_each_others_answers_but_their_agreement(client: TestClient, session: Session) -> None:
    for name, answers in (("ann", ("core", "core", "spurious")), ("bob", ("core", "spurious", "spurious"))):
        posts = [{"key": f"{name}{i}", "index": i, "answer": answer} for i, answer in enumerate(answers)]
        post(client, *posts, annotator=name)
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
    found = judgements_of(session).frame
    assert found[["index", "answer", "annotator"]].values.tolist() == [[0, "spurious", "ann"], [5, "core", "ann"]]


def disagree(client: TestClient) -> None:
    """Ann and Bob differ about 5 and 1, and agree about 0."""
    for name, answers in (("ann", ("core", "core", "spurious")), ("bob", ("core", "spurious", "unsure"))):
        posts = [{"key": f"{name}{i}", "index": i, "answer": a} for i, a in zip((0, 5, 1), answers, strict=True)]
        post(client, *posts, annotator=name)


def test_differences_have_who_said_what_and_the_notes(client: TestClient) -> None:
    disagree(client)
    post(client, {"key": "f", "index": 5, "answer": "flag", "note": "two animals"}, annotator="cid")
    found = client.get("/api/differences").json()["differences"]
    assert [(one["index"], one["votes"], one["notes"], one["settled"]) for one in found] == [
        (1, [["ann", "spurious"], ["bob", "unsure"]], [], None),
        (5, [["ann", "core"], ["bob", "spurious"]], [["cid", "two animals"]], None),
    ]


def test_settled_answer_is_of_record_and_does_not_make_people_agree(client: TestClient, session: Session) -> None:
    disagree(client)
    before = session.summary()
    post(client, {"key": "s", "index": 5, "answer": "spurious", "settles": True}, annotator="cid")
    now = session.summary()
    assert (before["differing"], before["settled"]) == (2, 0)
    assert (now["differing"], now["settled"]) == (2, 1)
    assert now["agreement"] == before["agreement"]
    assert now["people"] == {"ann": 3, "bob": 3}
    assert client.get("/api/differences").json()["differences"][1]["settled"] == ["spurious", "cid"]
    frame = judgements_of(session).frame.set_index("index")
    assert frame.loc[5, ["answer", "annotator"]].tolist() == ["spurious", "ann + bob + cid"]
    assert frame.loc[1, "answer"] == "unsure"
    settled(session)
    scores = np.frombuffer(client.get("/api/scores").content, np.uint8)
    assert scores[4] > scores[5] > scores[7]  # away from where core was answered, beyond where it now says spurious


def test_summary_tells_another_tab_of_the_same_person_that_there_is_more(client: TestClient) -> None:
    one = {"key": "a", "index": 0, "answer": "core"}
    assert post(client, one).json()["last"] == {"ann": 1}
    assert post(client, one).json()["last"] == {"ann": 1}
    assert post(client, {"key": "b", "index": 0, "answer": "undone"}).json()["last"] == {"ann": 2}
    assert client.get("/api/session").json()["spread"]["last"] == {"ann": 2}


def test_clusters_are_of_the_environment_and_missing_without_it(shown: Pool, store: Store, client: TestClient) -> None:
    assert client.get("/api/session").json()["environment"] is False
    assert "environment features" in client.get("/api/clusters").json()["error"]
    noise = np.random.default_rng(0).normal(scale=0.01, size=(8, 2))
    features = np.repeat([[0.0, 1.0], [1.0, 0.0]], [3, 5], axis=0) + noise
    session = Session(replace(shown, environment=features), np.arange(2), store)
    try:
        with TestClient(build_app(session, TOKEN), base_url=HOME) as other:
            other.get("/", params={"token": TOKEN})
            assert list(other.get("/api/clusters").content) == [1] * 3 + [0] * 5
    finally:
        session.close()


# --- live spreading


def test_trend_survives_a_restart(client: TestClient, session: Session, shown: Pool, store: Store) -> None:
    answers = ["core", "spurious", "core", "undone", "spurious"]
    for step, (index, answer) in enumerate(zip((0, 3, 1, 1, 2), answers, strict=True)):
        post(client, {"key": str(step), "index": index, "answer": answer})
        settled(session)
    before = session._trends.steps
    again = Session(shown, np.array([0, 1, 4, 5]), store)
    try:
        deadline = monotonic() + 30
        while not again._idle:
            assert monotonic() < deadline
            sleep(0.01)
        assert [step.trust for step in again._trends.steps[0]] == [step.trust for step in before[0]]
        np.testing.assert_allclose([s.change for s in again._trends.steps[0]], [s.change for s in before[0]], atol=1e-6)
    finally:
        again.close()


def test_scores_follow_the_answers(client: TestClient, session: Session) -> None:
    settled_before = np.frombuffer(client.get("/api/scores").content, np.uint8)
    assert (settled_before == 255).all()
    post(client, {"key": "a", "index": 0, "answer": "core"}, {"key": "b", "index": 3, "answer": "spurious"})
    settled(session)
    scores = np.frombuffer(client.get("/api/scores").content, np.uint8)
    assert scores[0] > 200 > 50 > scores[3]
    assert (scores[4:] == 255).all()
    first, second = session.summary()["classes"]
    assert (first["n_core"], first["n_spurious"], second["n_core"]) == (1, 1, 0)
    assert second["advice"] == "No answer about n/a dog yet."


@pytest.mark.parametrize("settings", [PropagateSettings(), PropagateSettings("spreading", gamma=2)])
def test_live_scores_are_those_of_the_stage(shown: Pool, settings: PropagateSettings) -> None:
    answers = {0: "core", 1: "core", 3: "spurious", 4: "spurious", 6: "core", 7: "unsure"}
    codes = answers_array(8, list(answers), list(answers.values()))
    assert shown.components is not None
    y, names = shown.table.y, shown.table.class_names
    spreading = LiveSpreading(shown.components, y, settings, names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlimWarning)
        whole = propagate(shown.components, y, codes, settings, class_names=names)
    spreading({0: "core"})
    live = spreading(answers)  # type: ignore[arg-type]
    np.testing.assert_array_equal(live.scores, whole.values)
    assert [(one.auc, one.low) for one in live.trust] == [(one.auc, one.low) for one in whole.trust]


def test_spreading_takes_answers_back(shown: Pool) -> None:
    assert shown.spreading is not None
    shown.spreading({0: "core", 3: "spurious"})
    assert np.isnan(shown.spreading({0: "unsure"}).scores).all()


def test_advice_says_when_enough_is_enough() -> None:
    good, weak = Trust(8, 8, 0.9, 0.7, 1.0), Trust(8, 8, 0.5, 0.3, 0.7)
    assert state([Step(good, 0.2)] * 6) == "going on"
    assert state([Step(good, 0.001)] * 6) == "settled"
    assert "hardly change anything" in advice("cat", [Step(good, 0.001)] * 6)
    assert "too few to be sure" in advice("cat", [Step(Trust(8, 8, 0.7, 0.4, 0.9), 0.1)])
    assert "3 of each" in advice("cat", [Step(Trust(1, 9, 0.9, 0.6, 1.0), 0.1)])
    assert "do not separate right from wrong" in advice("cat", [Step(weak, 0.001)] * 6)
    assert "nothing can be told" in advice("cat", [Step(Trust(0, 9), 0.0)])


def test_spread_of_no_space_asks_but_shows_no_scores(ask_about: Ask, store: Store) -> None:
    session = Session(Pool.of(ask_about(0, 4)), np.arange(2), store)
    try:
        with TestClient(build_app(session, TOKEN), base_url=HOME) as client:
            client.get("/", params={"token": TOKEN})
            found = client.get("/api/session").json()
            assert found["space"] is False
            assert found["spread"]["classes"] == []
            assert client.get("/api/points").status_code == 404
            assert client.post("/api/more", json={"y": 0}).status_code == 400
    finally:
        session.close()


# --- a real server


def test_serving_tells_news_and_ends(session: Session) -> None:
    with serving(session, "127.0.0.1", 0, TOKEN) as (link, finished):
        with httpx.Client(follow_redirects=True) as browser:
            assert browser.get(link).status_code == 200
            home = link.partition("?")[0]
            with browser.stream("GET", f"{home}api/events") as events:
                lines = (line for line in events.iter_lines() if line.startswith("data: "))
                before = json.loads(next(lines)[6:])
                body = {"annotator": "ann", "posts": [{"key": "a", "index": 0, "answer": "core"}]}
                browser.post(f"{home}api/posts", json=body)
                told = next(line for line in lines if json.loads(line[6:])["version"] > before["version"])
                assert json.loads(told[6:])["people"] == {"ann": 1}
            browser.post(f"{home}api/finish", json={})
        assert finished.is_set()
    with pytest.raises(httpx.ConnectError):
        httpx.get(link)


def test_serving_says_what_is_wrong_with_an_address(session: Session) -> None:
    with serving(session, "127.0.0.1", 0, TOKEN) as (link, _):
        port = int(link.split(":")[2].split("/")[0])
        with pytest.raises(SlimError, match=r"The page must have an address of its own. Got 127.0.0.1, port"):
            serving(session, "127.0.0.1", port, TOKEN).__enter__()


class Visitor:
    """Stands in for the browser that is opened: answers the first queries, and says that it is done."""

    def __init__(self, answers: int) -> None:
        self.answers = answers

    def __call__(self, link: str) -> bool:
        home = link.partition("?")[0]
        with httpx.Client(follow_redirects=True) as browser:
            browser.get(link)
            queue = browser.get(f"{home}api/session").json()["queue"]
            posts = [{"key": f"k{i}", "index": queue[i]["index"], "answer": "core"} for i in range(self.answers)]
            browser.post(f"{home}api/posts", json={"annotator": "ann", "posts": posts})
            browser.post(f"{home}api/finish", json={})
        return True


def test_browser_annotator_gives_positions_of_the_pool(ask_about: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.webbrowser, "open", Visitor(2))
    found = BrowserAnnotator().judge(ask_about(1, 6)).frame
    assert found[["index", "answer", "annotator"]].values.tolist() == [[1, "core", "ann"], [6, "core", "ann"]]


def test_browser_annotator_warns_of_queries_without_an_answer(ask_about: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.webbrowser, "open", Visitor(1))
    with pytest.warns(SlimWarning, match="1 of 2 queries got no answer on the page"):
        assert len(BrowserAnnotator().judge(ask_about(1, 6))) == 1
    monkeypatch.setattr(module.webbrowser, "open", Visitor(0))
    with pytest.raises(AnnotationError, match="At least one query must be answered"):
        BrowserAnnotator().judge(ask_about(1, 6))


def test_browser_annotator_keeps_its_address_for_the_next_time(
    tmp_path: Path, ask_about: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    links: list[str] = []

    def visit(link: str) -> bool:
        links.append(link)
        return Visitor(1)(link)

    monkeypatch.setattr(module.webbrowser, "open", visit)
    for _ in range(2):
        BrowserAnnotator(folder=tmp_path).judge(ask_about(3))
    assert links[0] == links[1]
    assert (tmp_path / "page.json").stat().st_mode & 0o777 == 0o600


def test_announcement_over_ssh_has_the_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 5000 10.0.0.2 22")
    text = "\n".join(module.announcement("http://127.0.0.1:8123/?token=t", "127.0.0.1", ssh=True))
    assert "ssh -N -L 8123:127.0.0.1:8123" in text
    assert "@10.0.0.2" in text
    open_to_all = "\n".join(module.announcement("http://127.0.0.1:8123/?token=t", "0.0.0.0", ssh=False))
    assert "every machine that reaches this one, and has the link, sees the photos" in open_to_all


SERVER = """
import sys, numpy as np, pandas as pd
from slim.annotation import Pool, Queries, Store
from slim.annotation.browser import serving
from slim.annotation.session import Session
from slim.datasets import ImageTable
n = 400
table = ImageTable(pd.DataFrame({"path": [f"/{i}.jpg" for i in range(n)], "y": [0] * n}), ("cat",))
with Store(sys.argv[1]) as store:
    session = Session(Pool(table, np.zeros((n, 2, 2))), np.arange(n), store)
    with serving(session, "127.0.0.1", 0, "t") as (link, finished):
        print(link, flush=True)
        finished.wait()
"""


def test_killed_server_has_every_answer_that_it_called_saved(tmp_path: Path) -> None:
    path, sent, saved = tmp_path / "annotations.db", 0, set()
    for _ in range(3):
        server = subprocess.Popen([sys.executable, "-c", SERVER, str(path)], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        link = server.stdout.readline().strip()
        home = link.partition("?")[0]
        with httpx.Client(follow_redirects=True, timeout=10) as browser:
            browser.get(link)
            known = {index for index, _ in browser.get(f"{home}api/session?annotator=ann").json()["answers"]}
            assert saved <= known
            for step in range(30):
                post = {"key": f"k{sent}", "index": sent, "answer": "core"}
                body = {"annotator": "ann", "posts": [post]}
                if browser.post(f"{home}api/posts", json=body).is_success:
                    saved.add(sent)
                sent += 1
                if step == 20:
                    server.kill()
                    server.wait()
                    break
        server.stdout.close()
    with Store(path) as store:
        assert set(store.answers()["index"]) == saved
        assert len(store.history()) == len(saved) == 63
