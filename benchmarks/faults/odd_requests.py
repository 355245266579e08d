"""Requests that no page sends, drawn at random, and what may be answered to them."""

from __future__ import annotations

import json
import random
import socket
import time
from dataclasses import dataclass
from typing import Any

OPEN = "/static/"
WAIT = 10  # seconds for a response
ANSWERS = ("core", "spurious", "unsure", "undone", "flag", "", "\ud800", "\x00", None, 1, ["core"])
NUMBERS = (0, 1, 7, -1, 2**31, 2**63, 10**400, 0.5, 1e308, float("nan"), float("inf"), True, None, "1", [], {})
TEXTS = ("", "ann", "<img src=x onerror=alert(1)>", "=1+1", "\x00", "\x1b[2J", "ä" * 300, "\ud800", None, 3, [], {})
PATHS = (
    *("/", "/api/session", "/api/summary", "/api/differences", "/api/points", "/api/scores", "/api/clusters"),
    *("/photo/0", "/photo/3", "/photo/999", "/photo/-1", "/map/1", "/spotlight/2", "/outline/1", "/static/app.js"),
    *("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2fstore.py", "/static//etc/passwd", "/static/"),
    *("/photo/../../../../etc/passwd", "/..%5c..%5c", "/%00", "//", "/page.json", "/annotations.db", "/nowhere", "*"),
    *("http://evil.example/api/session", "/photo/99999999999999999999", "/api/session/../posts", "/static\\..\\app.py"),
)
POSTED = ("/api/posts", "/api/posts", "/api/posts", "/api/more", "/api/add", "/api/session", "/")
METHODS = ("GET", "GET", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", "QUERY", "G\0T")
KINDS = ("application/json",) * 6 + (
    "text/plain",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
)
LEAKS = (b"root:x:0", b"SQLite format 3", b"from __future__", b'"token":')


@dataclass(frozen=True)
class Request:
    """What is sent, and what follows from it.

    Parameters
    ----------
    content
        Every byte.
    target
        The path, as it is sent.
    allowed
        Whether it has the token, this machine's name and no other origin, so that it may be answered.
    complete
        Whether its body is as long as its headers say, so that the server has nothing to wait for.
    pace
        How it is sent: "at once", "slowly", or "half" of it, after which the sender hangs up.
    """

    content: bytes
    target: str
    allowed: bool
    complete: bool
    pace: str = "at once"


class Odd:
    """Draws requests to one server.

    Parameters
    ----------
    rng
        Draws everything.
    port, token, cookie
        Where the server listens, its secret, and the name of its cookie.
    """

    def __init__(self, rng: random.Random, port: int, token: str, cookie: str) -> None:
        self.rng, self.port, self.token, self.cookie = rng, port, token, cookie
        self.count = 0

    def draw(self) -> Request:
        """One request; four of ten are of somebody who may answer."""
        self.count += 1
        rng, posts = self.rng, self.rng.random() < 0.6
        method = "POST" if posts else rng.choice(METHODS)
        path = rng.choice(POSTED if posts else PATHS) if rng.random() < 0.95 else self._random_path()
        query, lines, allowed = self._rights()
        target = f"{path}?{query}" if query else path
        body = self._body(allowed) if posts or rng.random() < 0.1 else b""
        head = [
            f"{method} {target} HTTP/{rng.choice(['1.1'] * 60 + ['1.0', '0.9', '2', 'x'])}",
            *lines,
            *self._extras(),
        ]
        complete = "Transfer-Encoding: chunked" not in head
        length = str(len(body)) if rng.random() < 0.97 else rng.choice(["-1", "x", "1", str(len(body) + 9), "9" * 30])
        head += [f"Content-Type: {rng.choice(KINDS)}", f"Content-Length: {length}", "Connection: close"]
        pace = rng.choices(["at once", "slowly", "half"], [970, 15, 15])[0]
        content = "\r\n".join([*head, "", ""]).encode("utf-8", "replace") + body
        return Request(content, target, allowed, complete and length == str(len(body)), pace)

    def _rights(self) -> tuple[str, list[str], bool]:
        """The query, the headers that decide who may answer, and whether these may."""
        rng = self.rng
        own = [f"127.0.0.1:{self.port}"]
        host = rng.choice(own * 30 + ["evil.example", f"127.0.0.1.evil.example:{self.port}", "", "[::1", "\t"])
        origin = rng.choice([*["", f"http://{host}"] * 8, "https://evil.example", "null", "http://[::1"])
        wrong = rng.choice(["", self.token[:-1], self.token + "x", self.token.swapcase(), "é", "%00", "undefined"])
        token, where = (self.token if rng.random() < 0.75 else wrong), rng.choice(["query", "cookie"])
        query = f"token={token}" if where == "query" else rng.choice(["", "annotator=ann", "version=0", "threshold=²"])
        lines = [f"Host: {host}"] + [f"Origin: {origin}"] * bool(origin)
        lines += [f"Cookie: {self.cookie}={token}"] * (where == "cookie")
        if rng.random() < 0.05:
            lines += ["Sec-Fetch-Site: cross-site"]
        allowed = token == self.token and host in own and origin in ("", f"http://{host}")
        return query, lines, allowed

    def _extras(self) -> list[str]:
        """Headers that ask for something else."""
        rng = self.rng
        if rng.random() < 0.9:
            return []
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        return rng.choice(
            [
                ["Upgrade: websocket", "Sec-WebSocket-Version: 13", key],
                ["Transfer-Encoding: chunked"],
                ["Expect: 100-continue"],
                ["Range: bytes=0-99999999"],
                ["If-Modified-Since: yesterday"],
                ["Accept-Encoding: \x01"],
                [f"X-Long: {'a' * rng.choice([9_000, 70_000, 300_000])}"],
                [f"X-{number}: a" for number in range(rng.choice([150, 3_000]))],
                ["X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: evil.example"],
                ["X-HTTP-Method-Override: DELETE"],
            ]
        )

    def _random_path(self) -> str:
        alphabet = "abc/.%2e5cf\\?#;:@&=\x7f é"
        size = self.rng.choice([3, 30, 300, 30_000])
        return "/" + "".join(self.rng.choices(alphabet, k=size))

    def _body(self, allowed: bool) -> bytes:
        """What is posted: almost an answer, whose key says whether it may be kept, or no JSON at all."""
        rng, kind = self.rng, self.rng.randrange(12)
        if kind == 0:
            return rng.randbytes(rng.randrange(200))
        if kind == 1:
            return b"[" * (depth := rng.choice([90, 990, 50_000])) + b"]" * depth
        if kind == 2 and rng.random() < 0.05:
            return b'{"posts": "' + b"a" * 11_000_000 + b'"}'
        posts = [self._post(allowed) for _ in range(rng.choice([1, 1, 1, 3, 200]))]
        value: dict[str, Any] = {"annotator": rng.choice(TEXTS) if kind < 4 else "ann", "posts": posts}
        value |= {"y": rng.choice(NUMBERS), "index": [rng.choice(NUMBERS)]}
        return json.dumps(value).encode()[: None if kind else 20]

    def _post(self, allowed: bool) -> dict[str, Any]:
        rng = self.rng
        key = f"{'allowed' if allowed else 'refused'}-{self.count}-{rng.random()}"
        post = {"key": key, "index": rng.randrange(8), "answer": "core", "seconds": 1.5}
        if rng.random() < 0.5:
            return post
        odd = {"index": NUMBERS, "answer": ANSWERS, "seconds": NUMBERS, "note": TEXTS, "settles": NUMBERS}
        name = rng.choice(list(odd))
        place = {axis: rng.choice(NUMBERS) for axis in ("x", "y", "width")} if rng.random() < 0.3 else None
        return post | {name: rng.choice(odd[name]), "place": place}


def send(request: Request, port: int) -> bytes:
    """The whole response, or what came of it until the server hung up."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as line:
        try:
            if request.pace == "slowly":
                for start in range(0, min(len(request.content), 300), 30):
                    line.sendall(request.content[start : start + 30])
                    time.sleep(0.05)
                line.sendall(request.content[300:])
            else:
                line.sendall(request.content[: len(request.content) // 2 if request.pace == "half" else None])
            if request.pace == "half":
                return b""
            return b"".join(iter(lambda: line.recv(65536), b""))
        except TimeoutError:
            return b"timeout"
        except (ConnectionError, BrokenPipeError):
            return b""


def fault(request: Request, response: bytes) -> str:
    """What should not have happened; empty where all is well."""
    if response == b"timeout":
        return "no answer" if request.complete else ""
    status = int(response.split()[1]) if response.startswith(b"HTTP/1.1 ") else 0
    if response and not status:
        return "no status"
    if status >= 500:
        return f"status {status}"
    passed = 100 < status < 400 and not request.target.startswith(OPEN)
    if passed and not request.allowed:
        return f"answered {status} to somebody without rights"
    if any(leak in response for leak in LEAKS):
        return "another file"
    return ""
