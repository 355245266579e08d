"""Who may reach the page, and what it keeps from everybody else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from slim.stages.annotate.page import app
from slim.stages.annotate.page.app import build_app
from slim.stages.annotate.page.security import Guard
from slim.stages.annotate.page.session import Session

TOKEN = "secret-of-the-test"
HOME = "http://127.0.0.1:8000"


@pytest.mark.parametrize("path", ["/", "/api/session", "/photo/0", "/map/0", "/api/points", "/api/summary", "/nowhere"])
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
    assert "SameSite=lax" in cookie
    page = browser.get("/")
    assert page.status_code == 200
    assert TOKEN not in page.text


def test_app_escapes_what_comes_from_the_run(client: Any) -> None:
    assert "<title>pets &amp; &lt;co&gt;" in client.get("/").text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1"])
def test_app_refuses_a_name_that_is_not_this_machines(client: Any, host: str) -> None:
    answer = client.get("/api/session", headers={"Host": host})
    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost:1234", "[::1]:80", "192.168.0.7:8000"])
def test_app_takes_addresses_and_tunnels(session: Session, host: str) -> None:
    there = TestClient(build_app(session, TOKEN), headers={"Host": host})
    assert there.get("/", params={"token": TOKEN}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "gpu1.example"])
def test_page_for_a_network_may_be_opened_by_each_of_this_machines_names(
    session: Session, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "GPU1")
    monkeypatch.setattr("socket.getfqdn", lambda: "gpu1.lab.example")
    app = build_app(session, TOKEN, host=host)
    for name in (host, "gpu1", "gpu1.local", "gpu1.lab.example:8000", "GPU1.lab.example"):
        there = TestClient(app, headers={"Host": name})
        assert there.get("/", params={"token": TOKEN}).status_code == 200, name
    other = TestClient(app, headers={"Host": "gpu1.evil.example"})
    assert other.get("/", params={"token": TOKEN}).status_code == 421
    here = TestClient(build_app(session, TOKEN), headers={"Host": "gpu1.lab.example"})
    assert here.get("/", params={"token": TOKEN}).status_code == 421


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:9000", "http://127.0.0.1:8000.evil.example"]
)
def test_app_refuses_posts_of_other_sites(client: Any, session: Session, origin: str) -> None:
    body = {"annotator": "ann", "posts": [{"key": "a", "index": 0, "answer": "core"}]}
    answer = client.post("/api/posts", json=body, headers={"Origin": origin})
    assert answer.status_code == 403
    assert len(session.store.history()) == 0
    assert client.post("/api/posts", json=body, headers={"Origin": HOME}).json() == {"new": 1, "last": {"ann": 1}}


def test_app_sends_a_policy_that_allows_nothing_from_elsewhere(client: Any) -> None:
    for path in ("/", "/static/app.js", "/photo/0", "/api/session", "/photo/99", "/nowhere"):
        headers = client.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_page_has_neither_inline_code_nor_addresses_of_others(client: Any) -> None:
    page = client.get("/").text
    assert "<style" not in page
    assert " style=" not in page
    assert " onclick" not in page
    assert page.count("<script") == page.count('<script type="module" src="static/app.js">') == 1
    names = {file.name for file in (Path(app.__file__).parent / "static").iterdir() if file.suffix in (".js", ".css")}
    assert {"app.js", "settle.js", "sync.js", "annotate.css"} <= names
    for name in names:
        text = client.get(f"/static/{name}").text.replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text
        assert "https:" not in text
        assert "eval(" not in text
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|Fragment|DOMParser", text)


def test_page_in_a_notebook_bears_its_token_and_may_be_framed_there(session: Session) -> None:
    notebook = TestClient(build_app(session, TOKEN, framed=True), base_url=HOME)
    page = notebook.get("/", params={"token": TOKEN})
    assert f'content="{TOKEN}"' in page.text
    assert "frame-ancestors" not in page.headers["content-security-policy"]  # editors have schemes of their own
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert notebook.get("/api/session", params={"token": TOKEN}).status_code == 200
    assert notebook.get("/api/session").status_code == 403


def test_page_behind_a_proxy_needs_the_token_and_nothing_else(session: Session) -> None:
    hub = {"host": "hub.example", "origin": "https://hub.example", "sec-fetch-site": "cross-site"}
    notebook = TestClient(build_app(session, TOKEN, framed=True), base_url=HOME, headers=hub)
    posts = {"annotator": "ann", "posts": [{"key": "1", "index": 0, "answer": "core", "seconds": 1}]}
    assert notebook.post("/api/posts", params={"token": TOKEN}, json=posts).json()["new"] == 1
    assert notebook.post("/api/posts", json=posts).status_code == 403
    notebook.cookies.set(Guard(notebook.app, TOKEN).cookie, TOKEN)
    assert notebook.post("/api/posts", json=posts).status_code == 403  # a cookie would come along from other sites


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
        "/spotlight/8",
        "/api/image/8",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2fstore.py",
        "/static//etc/passwd",
    ],
)
def test_app_serves_only_images_of_the_run(client: Any, path: str) -> None:
    assert client.get(path).status_code == 404
