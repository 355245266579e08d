"""Draw the screenshots of the documentation and the sample report from a finished demo: ``slim demo runs/demo`` first.

``python docs/draw_screenshots.py runs/demo`` needs playwright and a Chromium, as the tests of the page do.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import slim
from slim.stages.annotate.annotate import annotation_pool
from slim.stages.annotate.page.server import serving
from slim.stages.annotate.page.session import Session
from slim.stages.annotate.store import MEMORY, Post, Store
from slim.stages.judgements import PLACE_COLUMNS

DOCS = Path(__file__).parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def main(folder: str) -> None:
    run = slim.open_run(folder)
    report = run.stage_folder("report") / "report.html"
    shutil.copyfile(report, DOCS / "sample-report.html")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page(viewport={"width": 1280, "height": 2350})
        page.goto(report.absolute().as_uri())
        keep(page, "report", width=900)
        draw_looks(run)
        with Store(MEMORY) as store:
            draw_annotator(browser, run, store)
        browser.close()


def draw_looks(run: slim.Run) -> None:
    """Photo, attention, overlay and mask of four images that the reference model errs about."""
    found = slim.look(run.load("train"), run.data.test[::10])
    picture = slim.Looks([one for one in found if one.is_right is False][:4]).image()
    picture.thumbnail((1400, 1400))
    picture.save(DOCS / "look.webp", quality=80, method=6)


def draw_annotator(browser: Any, run: slim.Run, store: Store) -> None:
    """The page, after the run's answers by Ada and some by Grace, who thinks otherwise of three."""
    attention, space, judgements = (run.load(verb) for verb in ("attend", "embed", "annotate"))
    frame = judgements.frame
    queries = slim.select_queries(run.data, attention, space, run.settings["annotate"], seed=run.settings.seed)
    session = Session(annotation_pool(run.data, attention, space), queries.index, store)
    posts: dict[str, list[Post]] = {"Ada": [], "Grace": []}
    for i, (index, row) in enumerate(zip(frame["index"].tolist(), frame.itertuples(index=False), strict=True)):
        place = slim.Place.from_columns(*(getattr(row, name) for name in PLACE_COLUMNS))
        posts["Ada"].append(Post(f"ada-{i}", index, row.answer, 2.0, place=place))
        if i < 8:
            posts["Grace"].append(Post(f"grace-{i}", index, "unsure" if i in (1, 4, 6) else row.answer, 2.0))
    for name, own in posts.items():
        session.keep(own, name)
    with serving(session, "127.0.0.1", 0, "token") as (link, _):
        page = browser.new_page(viewport={"width": 1440, "height": 980})
        page.goto(link)
        page.wait_for_selector("dialog[open] input")
        page.fill("dialog[open] input", "Ada")
        keep(page.locator("dialog[open]"), "annotate-intro", width=900)
        page.press("dialog[open] input", "Enter")
        clicked = frame["index"][frame["place_x"].notna()].iloc[2]
        page.click(f"[data-at='{queries.index.tolist().index(clicked)}']")
        page.wait_for_selector("#view-settle:not([hidden])", timeout=90_000)  # scores come from the server
        page.wait_for_timeout(2000)
        page.evaluate("scrollTo(0, 0)")
        keep(page, "annotate")
        page.set_viewport_size({"width": 390, "height": 844})
        page.wait_for_timeout(1000)
        keep(page, "annotate-phone")
        page.set_viewport_size({"width": 1440, "height": 980})
        page.wait_for_timeout(1000)
        for view, name in (("settle", "annotate-settle"), ("grid", "annotate-many")):
            page.click(f"#view-{view}")
            page.wait_for_timeout(2500)
            keep(page, name)
    session.close()


def keep(shown: Any, name: str, width: int | None = None) -> None:
    """Save what is shown as a small file."""
    picture = Image.open(io.BytesIO(shown.screenshot()))
    if width is not None and picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    picture.save(DOCS / f"{name}.webp", quality=80, method=6)


if __name__ == "__main__":
    main(sys.argv[1])
