"""A real browser on a real server, which tests may kill and start again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from slim.annotation import Store

N, BUDGET = 60, 8

SERVER = """
import sys
from pathlib import Path
import numpy as np
import pandas as pd
from slim.annotation import Pool, Store
from slim.annotation.browser import judgements_of, serving
from slim.annotation.session import Session
from slim.datasets import ImageTable
from slim.live import LiveSpreading
from slim.propagation import PropagateSettings

folder, port = Path(sys.argv[1]), int(sys.argv[2])
table = ImageTable(pd.read_csv(folder / "table.csv"), ("cat", "sea dog"))
arrays = np.load(folder / "arrays.npz")
spreading = LiveSpreading(arrays["space"], table.y, PropagateSettings(), table.class_names)
environment = np.eye(4)[np.arange(len(table)) % 3] + 0.01 * arrays["space"][:, :1]
space = arrays["space"]
pool = Pool(table, arrays["maps"], "pets", arrays["probabilities"], space, space, spreading, environment)
with Store(folder / "annotations.db") as store:
    session = Session(pool, arrays["queries"], store)
    with serving(session, "127.0.0.1", port, "token-of-the-test") as (link, finished):
        print(link, flush=True)
        finished.wait()
    session.close()
    judgements_of(session).save(folder)
"""


class Annotator:
    """The server in a process of its own, always at the same address once it has one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.link = ""
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-c", SERVER, str(self.folder), str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.link = self.process.stdout.readline().strip()
        self.port = int(self.link.split(":")[2].split("/")[0])

    def kill(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def rows(self) -> list[list[object]]:
        """Everything ever recorded: image, answer, annotator."""
        with Store(self.folder / "annotations.db") as store:
            return store.history()[["index", "answer", "annotator"]].values.tolist()

    def settled(self) -> list[list[object]]:
        """What people differed about and settled: image, answer, annotator."""
        with Store(self.folder / "annotations.db") as store:
            return store.settled()[["index", "answer", "annotator"]].values.tolist()


def _photo(path: Path, rng: np.random.Generator, y: int) -> None:
    """A disc or a square on a noisy ground, with the file's own notes."""
    image = Image.fromarray(rng.integers(90, 190, (150, 200, 3), dtype=np.uint8))
    draw = ImageDraw.Draw(image)
    (draw.ellipse if y else draw.rectangle)((70, 45, 130, 105), fill=tuple(rng.integers(0, 256, 3).tolist()))
    image.save(path, quality=90)


@pytest.fixture(scope="session")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("annotator")
    rng = np.random.default_rng(0)
    y = np.arange(N) % 2
    paths = [str(folder / f"{i}.jpg") for i in range(N)]
    for path, label in zip(paths, y, strict=True):
        _photo(Path(path), rng, int(label))
    pd.DataFrame({"path": paths, "y": y}).to_csv(folder / "table.csv", index=False)
    queries = np.concatenate([np.flatnonzero(y == label)[:BUDGET] for label in (0, 1)])
    np.savez(
        folder / "arrays.npz",
        space=rng.normal(size=(N, 2)).astype(np.float32) + 6 * y[:, None].astype(np.float32),
        maps=rng.random((N, 7, 7)).astype(np.float32),
        probabilities=rng.dirichlet((1, 1), N).astype(np.float32),
        queries=queries,
    )
    return folder


@pytest.fixture
def annotator(_run: Path, tmp_path: Path) -> Iterator[Annotator]:
    """A server that has begun, with no answer yet."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("table.csv", "arrays.npz"):
        shutil.copy(_run / name, folder / name)
    server = Annotator(folder)
    server.start()
    yield server
    if server.process is not None and server.process.poll() is None:
        server.kill()


def _chromium() -> str | None:
    """The browser that the machine has."""
    return os.environ.get("SLIM_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Chromium, or a skipped test where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    path = _chromium()
    if path is None:
        pytest.skip("Chromium is not installed: apt-get install chromium, or name it in SLIM_CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        # A machine without a graphics card draws WebGL on its processor.
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()
