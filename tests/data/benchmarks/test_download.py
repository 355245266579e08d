"""Downloads from a local server that breaks in every way: what arrives is whole, or the message says what each said."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from slim.data.benchmarks import download as module
from slim.data.benchmarks import registry
from slim.data.benchmarks.download import RemoteFile, download
from slim.errors import DataError, SlimWarning
from slim.progress import quiet

BODY = bytes(range(256)) * 400
MD5 = hashlib.md5(BODY).hexdigest()


class Broken(BaseHTTPRequestHandler):
    """Answers as the first part of the path says; `asked` lists each request with its range."""

    asked: list[tuple[str, str]] = []  # noqa: RUF012 (a new one for each test)

    def do_GET(self) -> None:
        kind, wanted = self.path.split("/")[1], self.headers.get("Range", "")
        type(self).asked.append((kind, wanted))
        getattr(self, kind)(int(wanted[6:-1]) if wanted else 0)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""

    def answer(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def part(self, start: int, end: int) -> None:
        """Bytes from start to end, of an answer that promises all that follow."""
        if start >= len(BODY):
            return self.answer(416, b"", Content_Range=f"bytes */{len(BODY)}")
        content_range = {"Content_Range": f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"} if start else {}
        return self.answer(206 if start else 200, BODY[start:end], len(BODY) - start, **content_range)

    def good(self, start: int) -> None:
        self.part(start, len(BODY))

    def truncated(self, start: int) -> None:
        self.part(start, start + 30_000)

    def stalled(self, start: int) -> None:
        self.part(start, start + 50_000)
        self.wfile.flush()
        time.sleep(0.6)

    def forgetful(self, start: int) -> None:
        """Breaks the first time, and ignores the range then."""
        self.answer(200, BODY[: 20_000 if start == 0 else len(BODY)], len(BODY))

    def forbidden(self, start: int) -> None:
        self.answer(403, b"no")

    def wrong(self, start: int) -> None:
        self.answer(200, b"other" * 1000)

    def misplaced(self, start: int) -> None:
        self.answer(206, BODY, Content_Range=f"bytes 0-{len(BODY) - 1}/{len(BODY)}") if start else self.truncated(0)

    def redirected(self, start: int) -> None:
        self.answer(302, b"", Location="/page/sign-in")

    def page(self, start: int) -> None:
        self.answer(200, b"<html>Sign in</html>", Content_Type="text/html; charset=utf-8")

    def disguised(self, start: int) -> None:
        self.answer(200, b"\n<!DOCTYPE html>Too many downloads", Content_Type="application/zip")


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    monkeypatch.setattr(Broken, "asked", [])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with quiet():
        yield lambda kind: f"http://127.0.0.1:{server.server_port}/{kind}/birds.tar.gz"
    server.shutdown()
    thread.join()
    server.server_close()


def test_whole_file_arrives_and_is_not_asked_for_again(url: Callable[[str], str], tmp_path: Path) -> None:
    file = RemoteFile("birds.tar.gz", (url("good"),), MD5)
    path = download(file, tmp_path / "new")
    assert path.read_bytes() == BODY
    assert download(file, tmp_path / "new") == path
    assert [entry.name for entry in path.parent.iterdir()] == ["birds.tar.gz"]
    assert Broken.asked == [("good", "")]


@pytest.mark.parametrize(
    ("kind", "ranges"),
    [
        ("truncated", ["", "bytes=30000-", "bytes=60000-", "bytes=90000-"]),
        ("stalled", ["", "bytes=50000-", "bytes=100000-"]),
        ("forgetful", ["", "bytes=20000-"]),
    ],
)
def test_broken_transfer_continues_where_it_stopped(
    url: Callable[[str], str], tmp_path: Path, kind: str, ranges: list[str]
) -> None:
    assert download(RemoteFile("birds.tar.gz", (url(kind),), MD5), tmp_path).read_bytes() == BODY
    assert Broken.asked == [(kind, wanted) for wanted in ranges]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("forbidden", "HTTP 403 Forbidden"),
        ("wrong", f"its MD5 is .*, not {MD5}"),
        ("redirected", "a web page in place of the file"),
        ("disguised", "a web page in place of the file"),
        ("misplaced", "it continues at the wrong place"),
    ],
)
def test_useless_address_gives_way_to_the_next_one_or_is_named(
    url: Callable[[str], str], tmp_path: Path, kind: str, reason: str
) -> None:
    with pytest.raises(DataError, match=f"birds.tar.gz must come from one of 1 addresses.*{reason}"):
        download(RemoteFile("birds.tar.gz", (url(kind),), MD5), tmp_path)
    assert not (tmp_path / "birds.tar.gz").exists()
    assert download(RemoteFile("birds.tar.gz", (url(kind), url("good")), MD5), tmp_path).read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["birds.tar.gz"]


def test_later_call_continues_an_interrupted_one(
    url: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = RemoteFile("birds.tar.gz", (url("truncated"),))
    with monkeypatch.context() as patch:
        patch.setattr(module, "ATTEMPTS", 2)
        with pytest.raises(DataError, match="it stopped after 60,000 of 102,400 bytes"):
            download(file, tmp_path)
    assert download(file, tmp_path).read_bytes() == BODY
    assert Broken.asked[2] == ("truncated", "bytes=60000-")


@pytest.mark.parametrize("extra", [b"", b"more"])
def test_part_that_needs_no_more_bytes_is_taken_if_it_has_the_size(
    url: Callable[[str], str], tmp_path: Path, extra: bytes
) -> None:
    address = url("good")
    name = f"birds.tar.gz.{hashlib.sha256(address.encode()).hexdigest()[:8]}.partial"
    (tmp_path / name).write_bytes(BODY + extra)
    assert download(RemoteFile("birds.tar.gz", (address,), MD5), tmp_path).read_bytes() == BODY
    assert len(Broken.asked) == (2 if extra else 1)


def test_server_that_is_not_there_is_no_connection(tmp_path: Path) -> None:
    with quiet(), pytest.raises(DataError, match="no connection: .*refused"):
        download(RemoteFile("birds.tar.gz", ("http://127.0.0.1:9/birds.tar.gz",)), tmp_path)


def test_fault_of_this_machines_disk_is_not_the_servers(url: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        download(RemoteFile("birds.tar.gz", (url("good"),)), tmp_path / "file" / "below")


def test_dead_mirrors_end_in_how_to_use_a_copy_of_ones_own(
    url: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIM_CACHE", str(tmp_path))
    good, dead = RemoteFile("table.csv", (url("good"),)), RemoteFile("images.zip", (url("forbidden"), url("page")))
    benchmark = registry.BENCHMARKS["isic"]
    monkeypatch.setitem(registry.BENCHMARKS, "isic", replace(benchmark, files=(good, dead)))
    with pytest.raises(DataError) as refused:
        registry.fetch("isic")
    text = str(refused.value)
    assert "images.zip must come from one of 2 addresses" in text
    assert "HTTP 403" in text
    assert "a web page in place of the file" in text
    assert text.endswith("Put it into a folder: slim data isic --root FOLDER")
    optional = RemoteFile("images.zip", dead.urls, needed=False)
    monkeypatch.setitem(registry.BENCHMARKS, "isic", replace(benchmark, files=(good, optional)))
    with pytest.warns(SlimWarning, match="or go on without it"):
        assert registry.fetch("isic") == tmp_path / "isic"


def test_every_benchmark_can_be_downloaded_and_says_where_it_is_published() -> None:
    for benchmark in registry.BENCHMARKS.values():
        assert benchmark.page.startswith("https://")
        assert benchmark.terms.endswith(".")
        assert any(file.needed for file in benchmark.files)
        assert all(url.startswith("https://") for file in benchmark.files for url in file.urls)
