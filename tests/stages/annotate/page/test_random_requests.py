"""Whatever is sent to the page, with the token or without: it answers or refuses, and never fails by itself."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from slim.stages.annotate.page.app import build_app
from slim.stages.annotate.page.session import Session

TOKEN = "secret-of-the-test"
N = 400
PATHS = (
    *("/", "/api/session", "/api/summary", "/api/differences", "/api/points", "/api/scores", "/api/clusters"),
    *("/photo/0", "/photo/99", "/photo/-1", "/photo/x", "/photo/99999999999999999999", "/map/3", "/spotlight/4"),
    *("/outline/1", "/static/scale.png", "/static/../app.py", "/static/%2e%2e/app.py", "/nowhere", "//", "/%00"),
)
POSTED = ("/api/posts", "/api/more", "/api/add", "/api/finish", "/api/posts", "/")
WORDS = ("posts", "annotator", "key", "index", "answer", "seconds", "note", "settles", "place", "x", "y", "width")
VALUES: tuple[Callable[[random.Random], Any], ...] = (
    lambda rng: rng.choice(["core", "spurious", "unsure", "undone", "flag", "", "\ud800", "\x00", "ä" * 300, "ann"]),
    lambda rng: rng.choice([0, 1, 4, -1, 2**31, 2**63, 2**64, 10**400, True, None]),
    lambda rng: rng.choice([0.5, -0.5, 1e308, 1e-320, float("nan"), float("inf")]),
)


def value(rng: random.Random, depth: int = 3) -> Any:
    """A random value of JSON, which often looks like what the page sends."""
    kind = rng.randrange(5) if depth else 4
    if kind == 0:
        return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind in (1, 2):
        return {word: value(rng, depth - 1) for word in rng.sample(WORDS, rng.randrange(6))}
    return rng.choice(VALUES)(rng)


def body(rng: random.Random) -> bytes:
    """What is posted: values, almost answers, or no JSON at all."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randbytes(rng.randrange(40))
    if kind == 1:
        depth = rng.choice([90, 200, 990, 5_000, 50_000])
        opening, closing = rng.choice([(b"[", b"]"), (b'{"posts":', b"}")])
        return opening * depth + b"1" + closing * depth
    if kind == 2:
        return json.dumps(value(rng)).encode()
    post = {"key": str(rng.random()), "index": rng.randrange(8), "answer": "core"} | {rng.choice(WORDS): value(rng, 2)}
    return json.dumps({"annotator": "ann", "posts": [post], rng.choice(WORDS): value(rng)}).encode()


@pytest.fixture
def browser(session: Session) -> TestClient:
    """A browser that shows an error of the page as status 500, as a real server does."""
    return TestClient(
        build_app(session, TOKEN),
        base_url="http://127.0.0.1:8000",
        raise_server_exceptions=False,
        follow_redirects=True,
    )


def test_random_requests_are_answered_or_refused(browser: TestClient) -> None:
    rng = random.Random(0)
    browser.get("/", params={"token": TOKEN})
    for number in range(N):
        headers = {"Content-Type": rng.choice(["application/json"] * 4 + ["text/plain", "multipart/form-data"])}
        headers |= rng.choice([{}] * 8 + [{"Origin": "https://evil.example"}, {"Host": "evil.example"}])
        params = rng.choice([{}] * 4 + [{"threshold": rng.choice(["50", "0", "²", "-1", "1e3"])}, {"small": ""}])
        if rng.random() < 0.6:
            request = {"method": "POST", "url": rng.choice(POSTED), "content": body(rng)}
        else:
            request = {"method": rng.choice(["GET", "GET", "HEAD", "PUT", "DELETE"]), "url": rng.choice(PATHS)}
        answer = browser.request(**request, headers=headers, params=params)
        assert answer.status_code < 500, (number, request)


def test_random_requests_without_the_token_are_refused(browser: TestClient, session: Session) -> None:
    rng = random.Random(1)
    for number in range(N):
        path, token = rng.choice(PATHS[:-4] + POSTED), rng.choice(["", "wrong", TOKEN[:-1], TOKEN + "x", "é"])
        method = rng.choice(["GET", "POST"])
        headers = {"Content-Type": "application/json", "Cookie": f"slim-00000000={TOKEN}"}
        answer = browser.request(method, path, params={"token": token}, content=body(rng), headers=headers)
        allowed = path.startswith("/static/")
        assert (answer.status_code < 500) if allowed else answer.status_code == 403, (number, method, path)
    assert len(session.store.history()) == 0
