"""Does the annotator's page hold? Odd requests, kills among eight annotators, slow senders, and memory.

python benchmarks/faults/page.py FOLDER [fuzz] [kills] [slow] [memory] [--requests 10000] [--seconds 60]
                                 [--polls 100000] [--seed 0]

FOLDER receives a small run, which `slim annotate` serves in a process of its own, always at the same port. `fuzz` sends
odd requests and looks for tracebacks, answers to somebody without the token, files from elsewhere and lost or doubled
answers; `kills` lets eight annotators post without a pause while the server is killed and started again; `slow` opens
connections that send nothing more; `memory` polls as pages do.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from odd_requests import Odd, fault, send
from small import slim_run, small_data

from slim.stages.annotate.page.security import cookie_name
from slim.stages.annotate.store import Store

ANNOTATORS, SENDERS = 8, 4


class Server:
    """`slim annotate` in a process of its own, which can be killed and started again."""

    def __init__(self, run: Path) -> None:
        self.run, self.port, self.token = run, 0, ""
        self.said = run.with_name("said.txt")
        self.database = run / "04-judgements" / "annotations.db"
        self.said.write_text("")

    def start(self) -> None:
        command = [sys.executable, "-m", "slim", "annotate", str(self.run), "--annotator", "browser"]
        command += ["--port", str(self.port)] * bool(self.port)
        before = len(self.said.read_text())
        with self.said.open("a") as said:
            self.process = subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, "BROWSER": "true"})
        while not (link := re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", self.said.read_text()[before:])):
            assert self.process.poll() is None, self.said.read_text()
            time.sleep(0.1)
        self.port, self.token = int(link[1]), link[2]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def call(self, method: str, path: str, body: object = None) -> bytes:
        """The body of a successful response, over a connection of its own."""
        with closing(self.connect()) as line:
            return self.ask(line, method, path, body)

    def ask(self, line: http.client.HTTPConnection, method: str, path: str, body: object = None) -> bytes:
        """The body of a successful response."""
        join = "&" if "?" in path else "?"
        content = None if body is None else json.dumps(body)
        line.request(method, f"{path}{join}token={self.token}", content, {"Content-Type": "application/json"})
        response = line.getresponse()
        if response.status not in (200, 204):
            raise http.client.HTTPException(f"{response.status} {response.read()[:200]!r}")
        return response.read()

    def megabytes(self) -> float:
        """The memory that the process occupies."""
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024

    def keys(self) -> list[tuple[str, int]]:
        """Every post that was kept, with the number of its row."""
        with Store(self.database) as store:
            return store._rows("SELECT key, judgement FROM posts")

    def faults(self) -> list[str]:
        """What the terminal and the run's log must not hold."""
        said = self.said.read_text() + "".join(path.read_text() for path in self.run.glob("slim.log*"))
        traces = said.split("Traceback (most recent call last):\n")[1:]  # each with the line of its error
        found = sorted({next(line for line in trace.splitlines() if line[:1] not in (" ", "")) for trace in traces})
        found += ["Exception in ASGI"] * ("Exception in ASGI" in said and not found)
        announced = sum(f"token={self.token}" in line and "Judge the images" in line for line in said.splitlines())
        found += ["token in the log"] * (said.count(self.token) > announced)
        return found


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    """The small run, made where it is missing, and served without earlier answers while the block runs."""
    if not (folder / "run" / "10-report").exists():
        assert slim_run(folder / "run", small_data(folder / "data")).exit_code == 0
    server = Server(folder / "run")
    shutil.rmtree(server.database.parent, ignore_errors=True)
    server.start()
    try:
        yield server
    finally:
        server.kill()


# ---------------------------------------------------------------- odd requests


def fuzz(folder: Path, options: argparse.Namespace) -> None:
    with served(folder) as server:
        odd = Odd(random.Random(options.seed), server.port, server.token, cookie_name(server.token))
        before = {path for path in folder.rglob("*") if folder / "run" / "04-judgements" not in path.parents}
        found: Counter[str] = Counter()
        statuses: Counter[str] = Counter()
        for start in range(0, options.requests, 1000):  # in batches: some bodies have 11 MB
            requests = [odd.draw() for _ in range(min(1000, options.requests - start))]
            with ThreadPoolExecutor(SENDERS) as threads:
                answers = list(threads.map(lambda request: send(request, server.port), requests))
            for number, (request, answer) in enumerate(zip(requests, answers, strict=True), start):
                statuses[answer[9:12].decode() if answer.startswith(b"HTTP") else "none"] += 1
                if what := fault(request, answer):
                    found[what] += 1
                    print(f"{number}: {what}: {request.content[:300]!r}: {answer[:300]!r}", flush=True)
        server.call("GET", "/api/session")
        new = {path for path in folder.rglob("*") if folder / "run" / "04-judgements" not in path.parents} - before
        kept = server.keys()
        say("requests, seed", f"{options.requests}, {options.seed}")
        say("statuses", ", ".join(f"{count} x {status}" for status, count in statuses.most_common()))
        say("should not have happened", dict(found) or "nothing")
        say("posts kept, of these without rights", f"{len(kept)}, {sum(k.startswith('refused') for k, _ in kept)}")
        say("new files elsewhere", sorted(map(str, new - {server.said})) or "none")
        say("tracebacks, error logs, token in the log", server.faults() or "none")


# ---------------------------------------------------------------- kills


def kills(folder: Path, options: argparse.Namespace) -> None:
    with served(folder) as server:
        end, rng, took = time.monotonic() + options.seconds, random.Random(options.seed), []
        with ThreadPoolExecutor(ANNOTATORS) as threads:
            posting = [threads.submit(_post_until, server, number, end, took) for number in range(ANNOTATORS)]
            killed = _kill_until(server, end, rng)
            tries, saved = (sum(counts) for counts in zip(*(one.result() for one in posting), strict=True))
        kept = server.keys()
        with Store(server.database) as store:
            rows = len(store.history())
        say("seconds, annotators, kills, seed", f"{options.seconds}, {ANNOTATORS}, {killed}, {options.seed}")
        say("posts acknowledged, sent more than once", f"{saved}, {tries - saved}")
        say("lost, doubled", f"{saved - len({key for key, _ in kept})}, {rows - len(kept)}")
        say("one post, ms", _quantiles(took))
        say("tracebacks, error logs, token in the log", server.faults() or "none")


def _kill_until(server: Server, end: float, rng: random.Random) -> int:
    """Kill and restart the server until the end, each time after a random pause; returns how often."""
    count = 0
    while (pause := rng.uniform(0.5, 8)) < end - time.monotonic():
        time.sleep(pause)
        server.kill()
        server.start()
        count += 1
    return count


def _post_until(server: Server, number: int, end: float, took: list[float]) -> tuple[int, int]:
    """One annotator, who sends each answer until it is saved; returns how many attempts and answers there were."""
    tries = saved = 0
    while time.monotonic() < end:
        post = {"key": f"{number}-{saved}", "index": saved % 40, "answer": "core", "seconds": 1}
        while True:
            tries, began = tries + 1, time.perf_counter()
            with suppress(OSError, http.client.HTTPException):
                server.call("POST", "/api/posts", {"annotator": f"annotator {number}", "posts": [post]})
                took.append(1000 * (time.perf_counter() - began))
                break
            time.sleep(0.05)
        saved += 1
    return tries, saved


# ---------------------------------------------------------------- slow senders and memory


def slow(folder: Path, options: argparse.Namespace) -> None:
    """Connections that begin a request and then send nothing, beside somebody who answers."""
    with served(folder) as server:
        starts = (b"GET / HT", b"POST /api/posts HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n{")
        lines = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(400)]
        for number, line in enumerate(lines):
            line.sendall(starts[number % 2])
        took = []
        for number in range(200):
            began = time.perf_counter()
            server.call("GET", f"/api/summary?version={number}")
            took.append(1000 * (time.perf_counter() - began))
        say("400 connections that stopped sending, another's request, ms", _quantiles(took))
        for line in lines:
            line.close()
        say("tracebacks, error logs, token in the log", server.faults() or "none")


def memory(folder: Path, options: argparse.Namespace) -> None:
    """Requests as pages send them: mostly polls, pictures and answers, over connections that are kept."""
    lines = threading.local()

    def poll(number: int) -> None:
        if not hasattr(lines, "own"):
            lines.own = server.connect()
        try:
            _poll(server, lines.own, number)
        except ConnectionError:  # the server closes a connection that was idle for some seconds
            lines.own.close()
            _poll(server, lines.own, number)

    with served(folder) as server, ThreadPoolExecutor(SENDERS) as threads:
        step = max(1, options.polls // 10)
        grown = [server.megabytes()]
        for start in range(0, options.polls, step):
            list(threads.map(poll, range(start, start + step)))
            grown.append(server.megabytes())
            print(f"{start + step:,} requests: {grown[-1]:.0f} MB", flush=True)
        say("requests; MB at the start and after each tenth", " ".join(f"{value:.0f}" for value in grown))
        say("tracebacks, error logs, token in the log", server.faults() or "none")


def _poll(server: Server, line: http.client.HTTPConnection, number: int) -> None:
    pictures = ("photo", "map", "spotlight")
    if number % 50 == 0:  # the keys repeat: the page's answers are few, its requests many
        post = {"key": str(number % 1000), "index": number % 40, "answer": "core"}
        server.ask(line, "POST", "/api/posts", {"annotator": "ann", "posts": [post]})
    elif number % 5 == 0:
        server.ask(line, "GET", f"/{pictures[number % 3]}/{number % 48}")
    else:
        server.ask(
            line, "GET", ("/api/summary", "/api/scores", "/api/session?annotator=ann", "/api/summary")[number % 4]
        )


def _quantiles(values: list[float]) -> str:
    ordered = sorted(values)
    return f"median {statistics.median(ordered):.0f}, p99 {ordered[int(0.99 * (len(ordered) - 1))]:.0f}"


def say(what: str, figure: object) -> None:
    print(f"{what:<60} {figure}", flush=True)


def main() -> None:
    parts = {part.__name__: part for part in (fuzz, kills, slow, memory)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("parts", nargs="*", help="all of them by default")
    for name, default in (("requests", 10_000), ("seconds", 60), ("polls", 100_000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    if not parts.keys() >= set(options.parts):
        parser.error(f"Parts must be among {', '.join(parts)}. Got {', '.join(options.parts)}.")
    for name in options.parts or list(parts):
        parts[name](options.folder, options)


if __name__ == "__main__":
    main()
