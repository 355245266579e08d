"""Latency of the annotator's page, and whether killing its server loses or duplicates answers.

python benchmarks/annotator.py [kills] [keys] [scores] [load]

Each part makes its own run with synthetic photographs and prints one line per figure. All but `kills` need Playwright
and Chromium, whose path can be set in SLIM_CHROMIUM.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter

from slim.data import ImageTable
from slim.stages.annotate.page.server import serving
from slim.stages.annotate.page.session import Pool, Session
from slim.stages.annotate.store import Store
from slim.stages.propagate.incremental import IncrementalScores
from slim.stages.settings import PropagateSettings

TOKEN, NAMES, BUDGET, SIDE = "token-of-the-benchmark", ("cat", "dog"), 20, (500, 375)
ANSWERS, KILLS, THREADS = 10_000, 20, 6
SMALL, LARGE = 5_000, 200_000
WATCH = """
window.seen = {scores: 0, scoresAt: 0, drawn: 0};
const fetched = window.fetch, drawArrays = WebGLRenderingContext.prototype.drawArrays;
window.fetch = async (...what) => {
  const response = await fetched(...what);
  if (String(what[0]).includes("api/scores")) { seen.scores += 1; seen.scoresAt = performance.now(); }
  return response;
};
WebGLRenderingContext.prototype.drawArrays = function (...what) {
  drawArrays.apply(this, what);
  this.finish();
  seen.drawn = performance.now();
};
addEventListener("keydown", event => {
  const before = document.querySelector("#frame-photo img")?.src;
  seen.pressed = event.timeStamp;
  const look = () => {
    const now = document.querySelector("#frame-photo img");
    if (now && now.src !== before && now.complete && now.naturalWidth) seen.next = performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}, true);
"""


# ---------------------------------------------------------------- a server in its own process


def serve(folder: Path, port: int) -> None:
    """The server process: serve the run in a folder until it is killed."""
    arrays = np.load(folder / "arrays.npz")
    table = ImageTable(pd.read_csv(folder / "table.csv"), NAMES)
    pool = Pool(table, arrays["maps"], "benchmark")
    if "space" in arrays:
        scoring = IncrementalScores(arrays["components"], table.y, PropagateSettings(), NAMES)
        space = arrays["space"], arrays["components"]
        pool = Pool(table, arrays["maps"], "benchmark", arrays["probabilities"], *space, scoring)
    with Store(folder / "annotations.db") as store:
        session = Session(pool, arrays["queries"], store)
        with serving(session, "127.0.0.1", port, TOKEN) as (link, finished):
            print(link, flush=True)
            finished.wait()


class Server:
    """A server that can be killed, and restarted at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.link = folder, 0, ""

    def start(self) -> None:
        command = [sys.executable, __file__, "serve", str(self.folder), str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.link = self.process.stdout.readline().strip()
        self.port = int(self.link.split(":")[2].split("/")[0])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def made_run(n: int, *, embedded: bool) -> Iterator[Server]:
    """A run of n images, of which the queries have photos, served while the block runs."""
    folder, rng, y = Path(tempfile.mkdtemp()), np.random.default_rng(0), np.arange(n) % 2
    queries = np.concatenate([np.flatnonzero(y == label)[:: max(1, n // (2 * BUDGET))][:BUDGET] for label in (0, 1)])
    pd.DataFrame({"path": [str(folder / f"{i}.jpg") for i in range(n)], "y": y}).to_csv(
        folder / "table.csv", index=False
    )
    arrays = {"maps": rng.random((n, 7, 7), dtype=np.float32), "queries": queries}
    if embedded:
        centres = rng.normal(scale=6, size=(12, 2))
        arrays["space"] = (centres[rng.integers(12, size=n)] + rng.normal(size=(n, 2))).astype(np.float32)
        arrays["components"] = (rng.normal(size=(n, 20)) / np.sqrt(20)).astype(np.float32)
        arrays["probabilities"] = rng.dirichlet((1, 1), n).astype(np.float32)
        for index in queries:
            _photo(folder / f"{index}.jpg", rng)
    np.savez(folder / "arrays.npz", **arrays)
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


def _photo(path: Path, rng: np.random.Generator) -> None:
    ground = Image.fromarray(rng.integers(40, 220, (12, 16, 3), dtype=np.uint8)).resize(SIDE, Image.Resampling.BICUBIC)
    ImageDraw.Draw(ground).ellipse((160, 100, 340, 280), fill=tuple(rng.integers(0, 256, 3).tolist()))
    ground.filter(ImageFilter.GaussianBlur(1)).save(path, quality=90)


# ---------------------------------------------------------------- kills


def kills() -> None:
    """Clients post answers without a pause and retry, while the server is killed at random moments."""
    with made_run(ANSWERS, embedded=False) as server:
        took: list[float] = []
        killed: list[float] = []
        over = Event()
        Thread(target=_kill_at_random, args=(server, took, killed, over), daemon=True).start()
        with ThreadPoolExecutor(THREADS) as threads:
            tries = sum(threads.map(lambda start: _post_all(server, start, took), range(THREADS)))
        over.set()
        time.sleep(1)
        with Store(server.folder / "annotations.db") as store:
            history = store.history()
        lost = ANSWERS - history["index"].nunique()
        doubled = len(history) - history["index"].nunique()
        say("answers kept over kills", f"{len(history)} over {len(killed)}", "10,000 over 20")
        say("lost, doubled", f"{lost}, {doubled}", "0, 0")
        say("posts sent more than once", str(tries - ANSWERS), "")
        say("one post, without kills, ms", _quantiles(took), "")


def _kill_at_random(server: Server, took: list[float], killed: list[float], over: Event) -> None:
    """Kill and restart the server, each time after a random number of answers, in the middle of posts."""
    rng = random.Random(0)
    for number in range(KILLS):
        goal = ANSWERS * (number + rng.random()) / KILLS
        while len(took) < goal:
            if over.is_set():
                return
            time.sleep(rng.random() / 100)
        server.kill()
        killed.append(goal)
        server.start()


def _post_all(server: Server, start: int, took: list[float]) -> int:
    """One client: sends its share of the answers, each until it is saved, and returns the number of attempts."""
    tries = 0
    browser = httpx.Client(timeout=10)
    for index in range(start, ANSWERS, THREADS):
        post = {"key": f"key-{index}", "index": index, "answer": ("core", "spurious", "unsure")[index % 3]}
        body = {"annotator": f"client {start}", "posts": [post]}
        while True:
            tries += 1
            began = time.perf_counter()
            try:
                address = f"http://127.0.0.1:{server.port}/api/posts"
                answer = browser.post(address, json=body, params={"token": TOKEN})
                answer.raise_for_status()
            except httpx.HTTPError:
                time.sleep(0.05)
                continue
            took.append(1000 * (time.perf_counter() - began))
            break
    return tries


# ---------------------------------------------------------------- the page


@contextmanager
def opened(server: Server) -> Iterator[Any]:
    """The page in Chromium, opened for the first time."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("SLIM_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(120_000)
        page.add_init_script(WATCH)
        page.goto(server.link)
        page.fill("#name", "ann")
        page.keyboard.press("Enter")
        page.wait_for_selector("#frame-photo img")
        yield page
        browser.close()


def until(page: Any, condition: str) -> None:
    while not page.evaluate(condition):
        page.wait_for_timeout(10)


DRAWN = "seen.scores > {} && seen.drawn > seen.scoresAt"


def keys() -> None:
    """Latency from a key to the next image."""
    with made_run(SMALL, embedded=True) as server, opened(server) as page:
        until(page, DRAWN.format(0))
        page.wait_for_timeout(2000)
        took = []
        for step in range(2 * BUDGET - 1):
            page.keyboard.press("cs"[step % 2])
            until(page, "seen.next > seen.pressed")
            took.append(page.evaluate("seen.next - seen.pressed"))
            page.wait_for_timeout(400)
        say("key to next image, ms", _quantiles(took), "")


def scores() -> None:
    """Latency from a key until the new scores are drawn on the map."""
    for n, bar in ((SMALL, "1 s"), (LARGE, "5 s")):
        with made_run(n, embedded=True) as server, opened(server) as page:
            until(page, DRAWN.format(0))
            took = []
            for step in range(2 * BUDGET - 1):
                before = page.evaluate("seen.scores")
                page.keyboard.press("cs"[step % 2])
                until(page, DRAWN.format(before))
                took.append(page.evaluate("seen.drawn - seen.pressed"))
                page.wait_for_timeout(200)
            say(f"key to new scores drawn, {n:,} images, ms", _quantiles(took), bar)


def load() -> None:
    """Latency from opening the link to the first image and to the complete map."""
    with made_run(LARGE, embedded=True) as server:
        first, whole = [], []
        with opened(server) as page:
            for _ in range(5):
                began = time.perf_counter()
                page.goto(server.link, wait_until="commit")
                page.wait_for_selector("#frame-photo img")
                first.append(1000 * (time.perf_counter() - began))
                until(page, DRAWN.format(0))
                whole.append(1000 * (time.perf_counter() - began))
        say(f"link to first image, {LARGE:,} images, ms", _quantiles(first), "2 s")
        say(f"link to complete map, {LARGE:,} images, ms", _quantiles(whole), "")


def _quantiles(values: list[float]) -> str:
    ordered = sorted(values)
    return f"median {statistics.median(ordered):.0f}, p95 {ordered[int(0.95 * (len(ordered) - 1))]:.0f}"


def say(what: str, figure: str, bar: str) -> None:
    print(f"{what:<48} {figure:<26} {bar}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        parts = {part.__name__: part for part in (kills, keys, scores, load)}
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("parts", nargs="*", help="all of them by default")
        names = parser.parse_args().parts or list(parts)
        if not parts.keys() >= set(names):
            parser.error(f"Parts must be among {', '.join(parts)}. Got {', '.join(names)}. See --help.")
        say("", "measured", "bar")
        for name in names:
            parts[name]()
