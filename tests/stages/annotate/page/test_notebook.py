"""`slim.annotate` in a real kernel: the page is shown, answered as it does itself, and ends the cell."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import httpx
import pytest

from slim.data import ImageTable

SETUP = """
import numpy as np, pandas as pd, slim
from dataclasses import replace
from slim.data import ImageTable
table = ImageTable(pd.read_csv({table!r}), ("cat", "dog"))
n = len(table)
features = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
split = slim.SplitAttention(np.random.rand(n, 2, 4), *[features] * 4, np.full((n, 2), 0.5))
splits = ("train", "val", "test")
data = slim.Dataset(*[replace(table, split=name) for name in splits], fingerprint="0123456789abcdef", name="pets")
attention = slim.Attention(split, split, split)
space = slim.Space(features[:, :2], features[:, 1:], features, "train")
settings = slim.AnnotateSettings(budget=1)
"""
PASSED = "slim.annotate(data, attention, space, settings, annotator=slim.BrowserAnnotator())"
CHOSEN = "slim.annotate(data, attention, space, settings)"


@pytest.fixture(scope="module")
def kernel() -> Iterator[Any]:
    """A client of a kernel."""
    client_module = pytest.importorskip("jupyter_client", reason="no kernel is installed: pip install ipykernel")
    pytest.importorskip("ipykernel", reason="no kernel is installed: pip install ipykernel")
    manager, client = client_module.manager.start_new_kernel(kernel_name="python3")
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("call", [PASSED, CHOSEN], ids=["passed", "chosen without masks"])
def test_annotate_in_a_notebook_shows_the_page_and_gives_the_judgements(
    kernel: Any, call: str, pool: ImageTable, tmp_path: Path
) -> None:
    pool.frame[["path", "y"]].to_csv(tmp_path / "table.csv", index=False)
    kernel.execute(SETUP.format(table=str(tmp_path / "table.csv")) + call)
    frame = _next(kernel, "display_data")["data"]["text/html"]
    link = re.search(r'src="(http://127\.0\.0\.1:\d+/\?token=[^"]+)"', frame)[1]  # type: ignore[index]
    _answer(link)
    assert _next(kernel, "execute_result")["data"]["text/plain"] == "Judgements(2: 1 core, 1 spurious, 0 unsure)"


def _answer(link: str) -> None:
    """What the page does in its frame, where it has no cookie: each request bears the token."""
    home, _, token = link.partition("?token=")
    with httpx.Client(base_url=home, params={"token": token}) as browser:
        assert "frame-ancestors" not in browser.get("/").headers["content-security-policy"]
        queue = browser.get("/api/session").json()["queue"]
        posts = [
            {"key": answer, "index": card["index"], "answer": answer, "seconds": 1.0}
            for card, answer in zip(queue, ("core", "spurious"), strict=True)
        ]
        assert browser.post("/api/posts", json={"annotator": "ann", "posts": posts}).json()["new"] == 2
        browser.post("/api/finish", json={}).raise_for_status()


def _next(client: Any, kind: str) -> Any:
    """The next message of a kind that the cell sends; its error, where it fails, fails the test."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            message = client.get_iopub_msg(timeout=5)
        except Empty:
            continue
        if message["msg_type"] == "error":
            pytest.fail("\n".join(message["content"]["traceback"]))
        if message["msg_type"] == kind:
            return message["content"]
    pytest.fail(f"no {kind} came")
