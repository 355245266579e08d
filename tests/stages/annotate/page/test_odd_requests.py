"""A real server under what no browser sends: it refuses without a traceback, and nobody waits for slow senders."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator

import httpx
import pytest

from slim.stages.annotate.page.server import serving
from slim.stages.annotate.page.session import Session

TOKEN = "secret-of-the-test"
Send = Callable[[bytes], bytes]


@pytest.fixture
def link(session: Session) -> Iterator[str]:
    with serving(session, "127.0.0.1", 0, TOKEN) as (link, _):
        yield link


@pytest.fixture
def send(link: str) -> Send:
    """Sends bytes to the server, and gives what comes back."""
    port = int(link.split(":")[2].split("/")[0])

    def send(content: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
            line.sendall(content.replace(b"PORT", str(port).encode()))
            return b"".join(iter(lambda: line.recv(65536), b""))

    return send


HEAD = b"Host: 127.0.0.1:PORT\r\nConnection: close\r\n"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIA==\r\n"


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"GET /api/session HTTP/1.1\r\n" + HEAD + b"Origin: http://[::1\r\n\r\n", b"403"),
        (b"GET /api/session HTTP/1.1\r\n" + HEAD + WEBSOCKET + b"\r\n", b"403"),
        (b"GET /api/session HTTP/1.1\r\n" + HEAD + b"X-Forwarded-For: 127.0.0.1\r\n\r\n", b"403"),
        (b"GET http://evil.example/api/session HTTP/1.1\r\n" + HEAD + b"\r\n", b"403"),
        (b"G\0T / HTTP/1.1\r\n" + HEAD + b"\r\n", b"400"),
        (b"POST /api/posts HTTP/1.1\r\n" + HEAD + b"Content-Length: 9999999999\r\n\r\n", b"403"),
        (b"GET /api/session HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n", b"400"),
        (b"\x16\x03\x01 a browser that speaks https\r\n\r\n", b"400"),
        (b"POST /api/posts HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\nno size\r\n", b"400"),
        (b"GET /static/app.js HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"9" * 99_999, b"400"),
    ],
    ids=["origin", "websocket", "proxy", "address", "method", "size", "hosts", "https", "chunks", "endless"],
)
def test_server_refuses_odd_bytes_without_a_traceback(
    send: Send, content: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    assert send(content).split()[1] == status
    assert caplog.records == []


def test_senders_that_stop_halfway_keep_nobody_waiting(link: str) -> None:
    address = link.partition("/?")[0].removeprefix("http://").split(":")
    lines = [socket.create_connection((address[0], int(address[1]))) for _ in range(100)]
    for line in lines:
        line.sendall(b"POST /api/posts HTTP/1.1\r\nContent-Length: 99\r\n\r\n{")
    with httpx.Client(follow_redirects=True, timeout=10) as browser:
        assert browser.get(link).status_code == 200
    for line in lines:
        line.close()
