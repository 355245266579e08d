"""What the application serves: pictures, the session, and answers that are posted to it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from slim.data import ImageTable
from slim.overlay import overlay, spotlight, spotlight_layer
from slim.stages.annotate.page.app import build_app
from slim.stages.annotate.page.images import Pictures
from slim.stages.annotate.page.session import Pool, Session
from slim.stages.annotate.store import Store

TOKEN = "secret-of-the-test"
HOME = "http://127.0.0.1:8000"
HERE = {"x": 0.25, "y": 0.5, "width": 0.0, "height": 0.0}


def test_introduction_has_small_photographs_of_both_kinds_with_words_for_them(client: Any) -> None:
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


def test_app_serves_photos_without_the_files_own_notes(client: Any, pool: ImageTable) -> None:
    notes = Image.Exif()
    notes[0x010E] = "taken at home"
    Image.new("RGB", (12, 12)).save(pool.paths[3], "JPEG", exif=notes, comment="by somebody")
    answer = client.get("/photo/3")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "private, max-age=7200"
    assert b"taken at home" not in answer.content
    assert b"by somebody" not in answer.content
    assert b"Exif" not in answer.content


def test_unreadable_photo_is_an_error_at_each_of_its_addresses(client: Any, pool: ImageTable) -> None:
    Path(pool.paths[2]).unlink()
    for path in ("/photo/2", "/photo/2?small", "/map/2", "/spotlight/2"):
        assert client.get(path).status_code == 404


def test_layers_laid_over_the_photo_are_what_overlay_and_spotlight_draw(client: Any, shown: Pool) -> None:
    photo = shown.table.image(3).resize((400, 400), Image.Resampling.LANCZOS)
    darkness = Image.open(io.BytesIO(client.get("/spotlight/3").content))
    lit = Image.alpha_composite(photo.convert("RGBA"), darkness).convert("RGB")
    assert np.abs(np.asarray(lit, int) - np.asarray(spotlight(photo, shown.maps[3], 400))).max() <= 1
    colours = np.asarray(Image.open(io.BytesIO(client.get("/map/3").content)), float)
    off_the_line = colours[..., :3].min(-1) < 200  # which is white
    opacity = 0.7 * colours[..., 3:] / 255
    drawn = np.asarray(photo) * (1 - opacity) + colours[..., :3] * opacity
    difference = np.abs(drawn - np.asarray(overlay(photo, shown.maps[3], 400)))[off_the_line]
    assert np.median(difference) <= 1


def test_layers_follow_the_threshold_and_the_size(client: Any) -> None:
    lit = [
        (np.asarray(Image.open(io.BytesIO(client.get(f"/spotlight/3?threshold={t}").content)))[..., 3] < 128).mean()
        for t in (20, 50, 80)
    ]
    assert lit[0] > lit[1] > lit[2] > 0
    assert client.get("/map/3?threshold=20").content != client.get("/map/3?threshold=80").content
    assert Image.open(io.BytesIO(client.get("/map/3?small").content)).size == (160, 160)
    for threshold in ("0", "100", "-5", "half", ""):
        answer = client.get("/map/3", params={"threshold": threshold})
        assert answer.status_code == 400
        assert "from 1 to 99" in answer.json()["error"]


def test_flat_maps_are_told_from_others(shown: Pool, store: Store) -> None:
    maps = shown.maps.copy()
    maps[4] = 0.25
    session = Session(replace(shown, maps=maps), np.array([3, 4]), store)
    try:
        with TestClient(build_app(session, TOKEN), base_url=HOME) as client:
            client.get("/", params={"token": TOKEN})
            assert [card["flat"] for card in client.get("/api/session").json()["queue"]] == [False, True]
    finally:
        session.close()


def test_scale_is_served_without_a_token_like_all_that_is_the_same_in_every_run(session: Session) -> None:
    scale = TestClient(build_app(session, TOKEN), base_url=HOME).get("/static/scale.png")
    pixels = np.asarray(Image.open(io.BytesIO(scale.content)), int)
    assert pixels.shape == (1, 128, 3)
    assert pixels[0, 0].sum() < 10 < 600 < pixels[0, -1].sum()


def test_photos_in_memory_are_few(client: Any, shown: Pool) -> None:
    pictures = Pictures(shown)
    for index in range(8):
        pictures.photo(index)
        pictures.layer(index, spotlight_layer, 0.5)
    assert pictures._recent.cache_info().misses == 8
    assert pictures._recent.cache_info().maxsize <= 16


def test_app_tells_a_page_all_that_it_needs(client: Any) -> None:
    described = client.get("/api/session", params={"annotator": "ann"}).json()
    assert [card["index"] for card in described["queue"]] == [0, 1, 4, 5]
    assert [card["y"] for card in described["queue"]] == [0, 0, 1, 1]
    assert described["queue"][0].keys() == {"index", "y", "flat", "predicted", "confidence"}
    assert described["classes"] == ["cat", "n/a dog"]
    points = client.get("/api/points").content
    assert len(points) == 8 * (8 + 4 + 2 + 2)
    assert np.frombuffer(points, "<f4", 16).reshape(8, 2)[:, 0].tolist() == [0, 1, 2, 3] * 2


def test_post_twice_keeps_one_answer(client: Any, session: Session) -> None:
    one = {"key": "k1", "index": 0, "answer": "core", "seconds": 1.5}
    assert [client.post_answers(one).json()["new"] for _ in range(3)] == [1, 0, 0]
    assert session.store.history()[["index", "answer", "annotator", "seconds"]].values.tolist() == [
        [0, "core", "ann", 1.5]
    ]


def test_post_that_comes_late_again_does_not_undo_what_came_after(client: Any, session: Session) -> None:
    first = {"key": "k1", "index": 0, "answer": "core"}
    client.post_answers(first)
    client.post_answers({"key": "k2", "index": 0, "answer": "spurious"})
    client.post_answers(first)
    assert session.store.answers()["answer"].tolist() == ["spurious"]


def test_place_comes_back_with_its_answer_and_goes_with_it(client: Any, session: Session) -> None:
    box = {"x": 0.5, "y": 0.5, "width": 0.2, "height": 0.1}
    click = {"x": 0.25, "y": 0.5}
    client.post_answers(
        {"key": "a", "index": 0, "answer": "spurious", "place": click},
        {"key": "b", "index": 1, "answer": "core", "place": box},
        {"key": "c", "index": 4, "answer": "spurious", "place": None},
    )
    assert client.get("/api/session", params={"annotator": "ann"}).json()["places"] == [[0, HERE], [1, box]]
    client.post_answers({"key": "d", "index": 0, "answer": "undone"}, {"key": "e", "index": 1, "answer": "spurious"})
    assert client.get("/api/session", params={"annotator": "ann"}).json()["places"] == []


def test_place_that_is_not_a_number_is_refused(client: Any, session: Session) -> None:
    body = '{"annotator": "ann", "posts": [{"key": "a", "index": 0, "answer": "core", "place": {"x": NaN, "y": 0}}]}'
    answer = client.post("/api/posts", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "from 0 to 1" in answer.json()["error"]
    assert len(session.store.history()) == 0


def test_differences_come_with_everybodys_place(client: Any) -> None:
    client.post_answers({"key": "a", "index": 1, "answer": "spurious", "place": HERE}, annotator="bob")
    client.post_answers({"key": "b", "index": 1, "answer": "core"})
    client.post_answers({"key": "c", "index": 1, "answer": "spurious", "settles": True, "place": HERE})
    [case] = client.get("/api/differences").json()["differences"]
    assert sorted(case["votes"]) == [["ann", "core", None], ["bob", "spurious", HERE]]
    assert case["settled"] == ["spurious", "ann", HERE]


def test_undo_is_a_new_row(client: Any, session: Session) -> None:
    client.post_answers({"key": "a", "index": 0, "answer": "core"}, {"key": "b", "index": 0, "answer": "undone"})
    assert session.store.history()["answer"].tolist() == ["core", "undone"]
    assert client.get("/api/session", params={"annotator": "ann"}).json()["answers"] == []
    client.post_answers({"key": "c", "index": 1, "answer": "undone"})  # nothing to take back
    assert len(session.store.history()) == 2


def test_flag_keeps_the_note_and_is_no_answer(client: Any, session: Session) -> None:
    client.post_answers({"key": "a", "index": 4, "answer": "flag", "note": "bad label"})
    assert session.store.flags()[["index", "note", "annotator"]].values.tolist() == [[4, "bad label", "ann"]]
    assert len(session.store.answers()) == 0
    assert client.get("/api/session").json()["flags"] == [4]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"annotator": "ann", "posts": [{"key": "a", "index": 8, "answer": "core"}]}, "must be one of 8"),
        ({"annotator": "ann", "posts": [{"key": "a", "index": 0, "answer": "right"}]}, "Got 'right'"),
        ({"annotator": "ann", "posts": [{"key": "", "index": 0, "answer": "core"}]}, "with a key"),
        ({"annotator": "ann", "posts": [{"key": "a", "index": True, "answer": "core"}]}, "whole numbers"),
        ({"annotator": "ann", "posts": [{"index": 0}]}, "must have a key"),
        *[
            ({"annotator": "ann", "posts": [{"key": "a", "index": 0, "answer": "spurious", "place": place}]}, message)
            for place, message in [
                ("here", "must have numbers x and y"),
                ([0.5, 0.5], "must have numbers x and y"),
                ({}, "must have numbers x and y"),
                ({"x": 0.5}, "must have numbers x and y"),
                ({"x": "0.5", "y": 0.5}, "must have numbers x and y"),
                ({"x": True, "y": 0.5}, "must have numbers x and y"),
                ({"x": 0.5, "y": 0.5, "width": None}, "must have numbers x and y"),
                ({"x": 1.01, "y": 0.5}, "from 0 to 1"),
                ({"x": 0.5, "y": -0.1}, "from 0 to 1"),
                ({"x": 0.5, "y": 0.5, "width": 1.5, "height": 0.5}, "from 0 to 1"),
            ]
        ],
        *[
            (
                {"annotator": "ann", "posts": [{"key": "a", "index": 0, "answer": answer, "place": HERE}]},
                "place must come",
            )
            for answer in ("unsure", "undone", "flag")
        ],
        ({"annotator": "ann", "posts": ["core"]}, "must have a key"),
        ({"annotator": "ann", "posts": [{"key": "a", "index": 0, "answer": "core", "seconds": 10**400}]}, "have a key"),
        ({"annotator": "ann"}, "a list 'posts'"),
        ({"annotator": " ", "posts": [{"key": "a", "index": 0, "answer": "core"}]}, "must have a name"),
        ([], "must be a JSON object"),
    ],
)
def test_post_that_makes_no_sense_is_refused_whole(client: Any, session: Session, body: object, message: str) -> None:
    answer = client.post("/api/posts", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert len(session.store.history()) == 0


def test_seconds_below_zero_count_as_none(client: Any, session: Session) -> None:
    assert client.post_answers({"key": "a", "index": 0, "answer": "core", "seconds": -0.5}).json()["new"] == 1
    assert session.store.history()["seconds"].tolist() == [0.0]


def test_store_that_fails_does_not_blame_the_answer(client: Any, store: Store) -> None:
    store._connection.execute("PRAGMA query_only = ON")  # as on a full disk
    answer = client.post_answers({"key": "a", "index": 0, "answer": "core"})
    assert answer.status_code == 507  # so that the page keeps it, and tries again
    assert "annotations.db must be a store of judgements that can be written" in answer.json()["error"]


def test_post_must_be_json(client: Any) -> None:
    text = {"Content-Type": "text/plain"}
    assert client.post("/api/posts", content=b"{}", headers=text).status_code == 400
    for broken in (b"{", b"[" * 50_000 + b"]" * 50_000, b"[" * 500 + b"]" * 500, b'{"annotator": "\\ud800"}', b"\xff"):
        answer = client.post("/api/posts", content=broken, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400


def test_long_request_is_refused_whatever_its_header_says(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slim.stages.annotate.page.app._MAX_BYTES", 100)
    for length in ({}, {"Content-Length": "2"}, {"Content-Length": "none"}):
        headers = {"Content-Type": "application/json", **length}
        answer = client.post("/api/more", content=b'{"y": ' + b" " * 100 + b"0}", headers=headers)
        assert answer.status_code == 400
        assert "at most 100 bytes" in answer.json()["error"]


def test_one_bad_post_keeps_none_of_its_batch(client: Any, session: Session) -> None:
    good, bad = {"key": "a", "index": 0, "answer": "core"}, {"key": "b", "index": 0, "answer": "?"}
    assert client.post_answers(good, bad).status_code == 400
    assert len(session.store.history()) == 0


def test_more_adds_images_of_the_class_that_were_not_asked(client: Any, session: Session) -> None:
    new = client.post("/api/more", json={"y": 1}).json()["queue"]
    assert sorted(card["index"] for card in new) == [6, 7]
    assert session.queue() == [0, 1, 4, 5, *[card["index"] for card in new]]
    assert client.post("/api/more", json={"y": 1}).json() == {"queue": []}
    assert client.post("/api/more", json={"y": 2}).status_code == 400


def test_added_images_survive_a_restart(client: Any, session: Session, shown: Pool, store: Store) -> None:
    assert [card["index"] for card in client.post("/api/add", json={"index": [3, 0, 3]}).json()["queue"]] == [3]
    assert client.post("/api/add", json={"index": [8]}).status_code == 400
    again = Session(shown, np.array([0, 1, 4, 5]), store)
    assert again.queue() == [0, 1, 4, 5, 3]
    again.close()


def test_summary_tells_another_tab_of_the_same_person_that_there_is_more(client: Any) -> None:
    one = {"key": "a", "index": 0, "answer": "core"}
    assert client.post_answers(one).json()["last"] == {"ann": 1}
    assert client.post_answers(one).json()["last"] == {"ann": 1}
    assert client.post_answers({"key": "b", "index": 0, "answer": "undone"}).json()["last"] == {"ann": 2}
    assert client.get("/api/session").json()["summary"]["last"] == {"ann": 2}


def test_summary_comes_once_for_each_version_and_anew_after_a_restart(
    client: Any, session: Session, wait_until_scored: Callable[[Session], None]
) -> None:
    client.post_answers({"key": "a", "index": 0, "answer": "core"})
    wait_until_scored(session)
    summary = client.get("/api/summary").json()
    assert summary["people"] == {"ann": 1}
    again = client.get("/api/summary", params={"version": summary["version"]})
    assert (again.status_code, again.content) == (204, b"")
    client.post("/api/add", json={"index": [3]})  # other tabs show it at once
    assert client.get("/api/summary", params={"version": summary["version"]}).json()["queued"] == 5
    with TestClient(build_app(session, TOKEN), base_url=HOME) as restarted:
        restarted.get("/", params={"token": TOKEN})
        assert restarted.get("/api/summary", params={"version": summary["version"]}).status_code == 200


def test_clusters_are_of_the_environment_and_missing_without_it(shown: Pool, store: Store, client: Any) -> None:
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


def test_pool_without_a_space_can_be_judged_but_has_no_scores(shown: Pool, store: Store) -> None:
    session = Session(Pool(shown.table, shown.maps), np.array([0, 4]), store)
    try:
        with TestClient(build_app(session, TOKEN), base_url=HOME) as client:
            client.get("/", params={"token": TOKEN})
            described = client.get("/api/session").json()
            assert described["space"] is False
            assert described["summary"]["classes"] == []
            assert described["queue"][0].keys() == {"index", "y", "flat"}
            assert client.get("/api/points").status_code == 404
            assert client.post("/api/more", json={"y": 0}).status_code == 400
    finally:
        session.close()


BAD_NAMES = ["a" * 201, "ann\x1b[2J", "ann\nbob", "\x00", "ann\u2028bob"]


@pytest.mark.parametrize("name", [*BAD_NAMES, ["ann"], None, 3])
def test_name_that_is_no_line_of_text_is_refused(client: Any, session: Session, name: Any) -> None:
    answer = client.post_answers({"key": "a", "index": 0, "answer": "core"}, annotator=name)
    assert answer.status_code == 422
    assert "A name must have at most 200 characters, and no control characters" in answer.json()["error"]
    assert len(session.store.history()) == 0


@pytest.mark.parametrize("name", BAD_NAMES)
def test_name_is_refused_before_anybody_answers_under_it(client: Any, name: str) -> None:
    assert client.get("/api/session", params={"annotator": name}).status_code == 422


@pytest.mark.parametrize("name", ["علی\u200cرضا", "क्\u200dष", "Anne\u00a0Marie", "\u200fדנה"])
def test_name_may_have_joiners_and_spaces_of_any_kind(client: Any, session: Session, name: str) -> None:
    assert client.post_answers({"key": "a", "index": 0, "answer": "core"}, annotator=name).json()["new"] == 1
    assert client.get("/api/session", params={"annotator": name}).json()["answers"] == [[0, "core"]]
    assert session.store.people() == [name]
