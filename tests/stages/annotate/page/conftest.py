"""The page's application without a server, behind one in this process or in one to kill, and in a real browser."""

from __future__ import annotations

import os
import runpy
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe, get_context
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from starlette.testclient import TestClient

from slim.data import ImageTable
from slim.stages.annotate.page.app import build_app
from slim.stages.annotate.page.session import Pool, Session
from slim.stages.annotate.people import judgements_of_people
from slim.stages.annotate.store import Store
from slim.stages.judgements import PLACE_COLUMNS, Judgements
from slim.stages.propagate.incremental import IncrementalScores
from slim.stages.settings import PropagateSettings

N, BUDGET, FLAT = 60, 8, 9  # images, queries per class, and the query whose map is flat
TOKEN = "secret-of-the-test"
HOME = "http://127.0.0.1:8000"
PATIENCE = 60  # seconds until the page counts as stuck: on a machine with ten other jobs, a test took 45 in all
SERVE = str(Path(__file__).with_name("serve_run.py"))

# ---------------------------------------------------------------- the application, without a server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "annotations.db") as store:
        yield store


@pytest.fixture
def shown(pool: ImageTable) -> Pool:
    """All eight images, the four of each class on a line, right halves core."""
    rng = np.random.default_rng(0)
    plane = np.stack([np.arange(8) % 4, np.zeros(8)], axis=1).astype(np.float32)
    probabilities = rng.dirichlet((1, 1), 8).astype(np.float32)
    scoring = IncrementalScores(plane, pool.y, PropagateSettings(), pool.class_names)
    maps = rng.random((8, 2, 4)).astype(np.float32)
    return Pool(pool, maps, "pets & <co>", probabilities, plane, plane, scoring)


@pytest.fixture
def session(shown: Pool, store: Store) -> Iterator[Session]:
    session = Session(shown, np.array([0, 1, 4, 5]), store)
    yield session
    session.close()


class Client(TestClient):
    """A browser that sends answers."""

    def post_answers(self, *posts: dict[str, object], annotator: str = "ann") -> httpx.Response:
        return self.post("/api/posts", json={"annotator": annotator, "posts": list(posts)})


@pytest.fixture
def client(session: Session) -> Iterator[Client]:
    """A browser that has opened the link."""
    with Client(build_app(session, TOKEN, name="ann"), base_url=HOME) as client:
        assert client.get("/", params={"token": TOKEN}).status_code == 200
        yield client


@pytest.fixture
def wait_until_scored() -> Callable[[Session], None]:
    """Waits until the scores include every answer, and the trend of earlier ones is replayed."""

    def wait(session: Session) -> None:
        deadline = monotonic() + PATIENCE
        while not (session.current() and session._idle):
            assert monotonic() < deadline
            sleep(0.01)

    return wait


# ---------------------------------------------------------------- a real server


@dataclass
class Annotator:
    """A run that is served."""

    run: Path
    database: Path
    link: str = ""

    def rows(self) -> list[list[object]]:
        """Everything ever recorded: image, answer, annotator."""
        with Store(self.database) as store:
            return store.history()[["index", "answer", "annotator"]].values.tolist()

    def places(self, *, settles: bool = False) -> dict[object, list[float]]:
        """Where the present answers, or those that settle a disagreement, say that the object is: by image."""
        with Store(self.database) as store:
            rows = (store.settled() if settles else store.answers()).dropna(subset=list(PLACE_COLUMNS))
            return dict(zip(rows["index"], rows[list(PLACE_COLUMNS)].values.tolist(), strict=True))

    def settled(self) -> list[list[object]]:
        """Disagreements that were settled: image, answer, annotator."""
        with Store(self.database) as store:
            return store.settled()[["index", "answer", "annotator"]].values.tolist()


@dataclass
class LocalAnnotator(Annotator):
    """Served by this process."""

    session: Session | None = None
    finished: Event | None = None

    def judgements(self) -> Judgements:
        """What the stage returns."""
        assert self.session is not None
        return judgements_of_people(self.session.store, self.session.pool.table, self.session.queue())


class KillableAnnotator(Annotator):
    """Served by a process of its own, always at the same address once it has one."""

    process: Any = None

    def start(self) -> None:
        context = get_context("forkserver")  # imports everything once, however often a server starts
        context.set_forkserver_preload(["slim.stages.annotate.page.server", "slim.stages.propagate.incremental"])
        here, there = Pipe()
        port = int(self.link.split(":")[2].split("/")[0]) if self.link else 0
        names = {"run": self.run, "database": self.database, "port": port, "parent": there}
        self.process = context.Process(target=runpy.run_path, args=(SERVE, names, "__main__"))
        self.process.start()
        assert here.poll(PATIENCE)
        self.link = here.recv()
        here.close()
        there.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def _photo(path: Path, rng: np.random.Generator, y: int) -> None:
    """A disc or a square on noise."""
    image = Image.fromarray(rng.integers(90, 190, (150, 200, 3), dtype=np.uint8))
    draw = ImageDraw.Draw(image)
    (draw.ellipse if y else draw.rectangle)((70, 45, 130, 105), fill=tuple(rng.integers(0, 256, 3).tolist()))
    image.save(path, quality=90)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty photos of two classes, their maps, places and attention space."""
    folder = tmp_path_factory.mktemp("annotator")
    rng = np.random.default_rng(0)
    y = np.arange(N) % 2
    paths = [str(folder / f"{i}.jpg") for i in range(N)]
    for path, label in zip(paths, y, strict=True):
        _photo(Path(path), rng, int(label))
    pd.DataFrame({"path": paths, "y": y}).to_csv(folder / "table.csv", index=False)
    maps = rng.random((N, 7, 7)).astype(np.float32)
    maps[FLAT] = 0.5
    places = rng.integers(-9, 10, (N, 16, 16, 3), dtype=np.int8)
    places[:, 5:11, 6:10, 0] = 90  # where the photos have the object
    np.savez(
        folder / "arrays.npz",
        space=rng.normal(size=(N, 2)).astype(np.float32) + 6 * y[:, None].astype(np.float32),
        maps=maps,
        probabilities=rng.dirichlet((1, 1), N).astype(np.float32),
        places=places,
        queries=np.concatenate([np.flatnonzero(y == label)[:BUDGET] for label in (0, 1)]),
    )
    return folder


@pytest.fixture
def annotator(run_folder: Path, tmp_path: Path) -> Iterator[LocalAnnotator]:
    """A server with no answer yet."""
    database = tmp_path / "annotations.db"
    with runpy.run_path(SERVE)["served"](run_folder, database) as (link, finished, session):
        yield LocalAnnotator(run_folder, database, link, session, finished)


@pytest.fixture
def killable(run_folder: Path, tmp_path: Path) -> Iterator[KillableAnnotator]:
    """The same in a process of its own."""
    annotator = KillableAnnotator(run_folder, tmp_path / "annotations.db")
    annotator.start()
    yield annotator
    annotator.kill()


# ---------------------------------------------------------------- the page in a real browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, or a skipped test where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    path = os.environ.get("SLIM_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("Chromium is not installed: apt-get install chromium, or set SLIM_CHROMIUM to its path")
    with sync_api.sync_playwright() as playwright:
        # A machine without a graphics card draws WebGL on its processor.
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


class AnnotatorPage:
    """The page in a tab, and what a person does there; everything else is Playwright's page."""

    def __init__(self, tab: Any, link: str) -> None:
        self._tab = tab
        self._link = link

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tab, name)

    def introduce(self, name: str) -> None:
        """Open the page for the first time, and enter a name."""
        self.goto(self._link)
        self.wait_for_selector("#intro[open]")
        self.fill("#name", name)
        self.keyboard.press("Enter")
        self.wait_for_selector("#frame-photo img")

    def new_tab(self) -> AnnotatorPage:
        """Another tab of the same person."""
        page = AnnotatorPage(self.context.new_page(), self._link)
        page.goto(self._link)
        page.wait_for_selector("#frame-photo img")
        return page

    def answer(self, keys: str) -> None:
        """Answer image after image, each once it is there."""
        for key in keys:
            self.wait_for_selector("#frame-photo img")
            self.keyboard.press(key)

    def spot(self, place: tuple[float, float], panel: str = "#frame-photo") -> tuple[float, float]:
        """The point on the screen that lies at a place of the photo in a panel."""
        self.wait_for_selector(f"{panel} .field")
        script = """panel => {
          const [image, frame] = [document.querySelector(`${panel} img`), document.querySelector(panel)];
          const {naturalWidth: w, naturalHeight: h} = image, box = frame.getBoundingClientRect();
          const scale = Math.min(box.width / w, box.height / h);
          return [box.x + (box.width - w * scale) / 2, box.y + (box.height - h * scale) / 2, w * scale, h * scale];
        }"""
        left, top, width, height = self.evaluate(script, panel)
        return left + place[0] * width, top + place[1] * height

    def point(self, x: float, y: float, panel: str = "#frame-photo") -> None:
        """Click on a place of the photo in a panel."""
        self.mouse.click(*self.spot((x, y), panel))

    def drag(self, start: tuple[float, float], end: tuple[float, float], panel: str = "#frame-photo") -> None:
        """Drag from one place of the photo in a panel to another, and hold the button."""
        self.mouse.move(*self.spot(start, panel))
        self.mouse.down()
        self.mouse.move(*self.spot(end, panel), steps=4)

    def photo(self) -> str:
        """The address of the photo that is shown."""
        self.wait_for_selector("#frame-photo img")
        return str(self.evaluate("document.querySelector('#frame-photo img').src"))

    def notice(self, frame: str) -> str:
        """What a frame says in place of a picture, or over it."""
        script = "frame => getComputedStyle(document.querySelector(`#frame-${frame}`), '::after').content"
        return str(self.evaluate(script, frame)).strip('"')

    def wait_until(self, condition: str) -> None:
        """Wait until a condition in JavaScript holds; Playwright's own way needs eval, which the policy forbids."""
        deadline = monotonic() + PATIENCE
        while not self.evaluate(condition):
            assert monotonic() < deadline, condition
            self.wait_for_timeout(20)

    def wait_for_count(self, text: str) -> None:
        """Wait until the number of answered queries reads so."""
        self.wait_until(f"document.querySelector('#count').textContent.includes({text!r})")

    def wait_saved(self) -> None:
        self.wait_for_selector("#saved[data-state=ok]", state="attached")  # phones do not show it

    def wait_prefetched(self) -> None:
        """Wait until nothing has been loaded for a while, requests for news excepted."""
        loaded = "performance.getEntriesByType('resource').filter(one => !one.name.includes('api/summary')).length"
        before, now = -1, self.evaluate(loaded)
        while before != now:
            self.wait_for_timeout(150)
            before, now = now, self.evaluate(loaded)


@pytest.fixture
def open_page(browser: Any, annotator: LocalAnnotator) -> Iterator[Callable[..., AnnotatorPage]]:
    """Opens the page as somebody, in a browser profile of their own; fails on errors that the page did not expect."""
    contexts, errors = [], []

    def make(name: str = "ann", link: str = "", **options: Any) -> AnnotatorPage:
        link = link or annotator.link
        own = (link.partition("?")[0], "data:", "blob:")
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(1000 * PATIENCE)
        tab = context.new_page()
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", lambda line: errors.append(line.text) if "Content Security" in line.text else None)
        tab.on("request", lambda request: None if request.url.startswith(own) else errors.append(request.url))
        page = AnnotatorPage(tab, link)
        page.introduce(name)
        return page

    yield make
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def disagreeing(open_page: Callable[..., AnnotatorPage]) -> Callable[..., tuple[AnnotatorPage, AnnotatorPage]]:
    """Opens the page as Ann and Bob, who disagree about the second and the third photo of the first class."""

    def make(**options: Any) -> tuple[AnnotatorPage, AnnotatorPage]:
        ann, bob = open_page("ann", **options), open_page("bob", **options)
        ann.answer("ccc")
        bob.answer("csu")
        ann.wait_saved()
        bob.wait_saved()
        ann.wait_for_selector("#view-settle:visible")
        ann.wait_until("document.querySelector('#differing').textContent === '2'")
        return ann, bob

    return make
