"""What SLIM takes for the object: found after each answer, served as outlines, and shown under the photo."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from starlette.testclient import TestClient

from slim import SplitAttention
from slim.data import ImageTable
from slim.errors import DataError
from slim.stages.annotate.page.app import build_app
from slim.stages.annotate.page.outlines import DRAWN, LEAST_SURE, Outlines
from slim.stages.annotate.page.session import Pool, Session
from slim.stages.annotate.store import Store
from slim.stages.embed import Space
from slim.stages.judgements import answers_that_count

Page = Any  # tests/stages/annotate/page/conftest.py: AnnotatorPage
Wait = Callable[[Session], None]
TOKEN, HOME = "secret-of-the-test", "http://127.0.0.1:8000"
N = 80


@pytest.fixture
def places() -> np.ndarray:
    """Eighty images with the object in one quarter, marked by a feature, less and less from image to image."""
    rng = np.random.default_rng(0)
    places = rng.integers(-8, 9, (N, 16, 16, 4), dtype=np.int8)
    for i in range(N):
        places[i, ..., 0][quarter(i)] += np.int8(100 - i)
    return places


def quarter(i: int) -> np.ndarray:
    """(16, 16) where the object is in an image: in a quarter of it, off the border."""
    inside = np.zeros((16, 16), bool)
    row, column = divmod(i % 4, 2)
    inside[8 * row + 1 : 8 * row + 7, 8 * column + 1 : 8 * column + 7] = True
    return inside


@pytest.fixture
def outlines(places: np.ndarray) -> Outlines:
    return Outlines(places, np.zeros((N, 7, 7), np.float32))


def clicks(*index: int, answer: str = "spurious") -> pd.DataFrame:
    """Answers with clicks on the middle of the object."""
    rows = [(i, answer, "ann", 1.0, 0.25 + 0.5 * (i % 2), 0.25 + 0.5 * (i % 4 // 2), 0.0, 0.0) for i in index]
    columns = ["index", "answer", "annotator", "seconds", "place_x", "place_y", "place_width", "place_height"]
    frame = pd.DataFrame(rows, columns=columns)
    return answers_that_count(frame, frame.iloc[:0])


def test_outlines_follow_the_clicks(outlines: Outlines) -> None:
    outlines.update(clicks(0, 1, 2, 3))
    for image in (20, 41):
        assert ((outlines.scores(image)[0] > 0) == quarter(image)).mean() > 0.9


def shown_by(outlines: Outlines) -> list[int]:
    """The photos on the page."""
    return [*outlines.found.drawn, *outlines.found.least_sure]


def test_photos_shown_are_without_an_answer_and_in_half_of_them_nothing_stands_out(outlines: Outlines) -> None:
    outlines.update(clicks(0, 1, 2, 3))
    known = outlines.found.drawn[0]
    outlines.update(clicks(0, 1, 2, 79, known), {78})
    found = outlines.found
    assert (len(found.drawn), len(found.least_sure)) == (DRAWN, LEAST_SURE)
    assert not set(shown_by(outlines)) & {0, 1, 2, 79, known, 78}
    assert len(set(shown_by(outlines))) == DRAWN + LEAST_SURE
    assert min(found.least_sure) >= 66
    assert min(found.drawn) < 60


def test_photos_shown_stay_in_their_places_until_they_are_answered(outlines: Outlines) -> None:
    outlines.update(clicks(0, 1, 2, 3))
    before, version = shown_by(outlines), outlines.found.version
    outlines.update(clicks(0, 1, 2, 3))
    assert shown_by(outlines) == before
    assert outlines.found.version != version
    for position in (1, DRAWN + 1):
        answered = before[position]
        outlines.update(clicks(0, 1, 2, 3, answered))
        now = shown_by(outlines)
        assert answered not in now
        assert len(set(now)) == DRAWN + LEAST_SURE
        assert sum(one == other for one, other in zip(now, before, strict=True)) >= DRAWN + LEAST_SURE - 2
        outlines.update(clicks(0, 1, 2, 3))
        before = shown_by(outlines)


def test_least_sure_are_those_in_which_the_least_stands_out_and_they_stay_while_they_are_among_a_tenth(
    outlines: Outlines, places: np.ndarray
) -> None:
    outlines.update(clicks(0, 1, 2, 3))
    found = outlines.found
    assert found.localizer is not None
    scores = found.localizer.scores(places)
    contrast = scores.max((1, 2)) - np.median(scores, (1, 2))
    order = [int(image) for image in np.argsort(contrast) if image not in {0, 1, 2, 3, *found.drawn}]
    assert found.least_sure == tuple(order[:3])
    outlines.found = replace(found, least_sure=(order[6], order[7], order[0]))  # of 73, seven are a tenth
    outlines.update(clicks(0, 1, 2, 3))
    assert outlines.found.least_sure == (order[6], order[1], order[0])
    own, cut = outlines.scores(41)
    np.testing.assert_allclose(own, scores[41], rtol=1e-5, atol=1e-5)
    assert cut == found.localizer.cut


def test_nothing_is_outlined_before_it_is_computed(outlines: Outlines) -> None:
    with pytest.raises(DataError, match="Got no computation yet"):
        outlines.scores(0)


def test_strip_has_the_note_of_the_progress(outlines: Outlines) -> None:
    outlines.update(clicks(*range(9)))
    assert outlines.found.progress.staying is None
    outlines.update(clicks(*range(10)))
    assert outlines.found.progress.staying is not None


@pytest.mark.parametrize("answers", [(), (0, 1)])
def test_object_is_supposed_where_no_answer_says_what_it_is(outlines: Outlines, answers: tuple[int, ...]) -> None:
    rows = clicks(*answers)
    rows[["place_x", "place_y", "place_width", "place_height"]] = np.nan
    outlines.update(rows)
    assert len(shown_by(outlines)) == DRAWN + LEAST_SURE
    assert np.isfinite(outlines.scores(5)[0]).all()


def test_large_pools_are_compared_in_part_and_small_ones_shown_whole(places: np.ndarray) -> None:
    few = Outlines(places[:4], np.zeros((4, 7, 7), np.float32))
    few.update(clicks(0))
    assert sorted(shown_by(few)) == [1, 2, 3]
    many = Outlines(np.broadcast_to(places[:1], (12_000, 16, 16, 4)), np.zeros((12_000, 7, 7), np.float32))
    many.update(clicks(0))
    assert {image % 3 for image in many.found.least_sure} == {0}


@pytest.fixture
def outlined(shown: Pool, store: Store) -> Iterator[Session]:
    """A session about eight images whose places are known."""
    places = np.zeros((8, 16, 16, 2), np.int8)
    places[:, :, 8:, 0] = 90
    session = Session(replace(shown, places=places), np.array([0, 1, 4, 5]), store)
    yield session
    session.close()


def test_summary_names_the_photos_and_each_is_served_with_its_outline(
    outlined: Session, wait_until_scored: Wait
) -> None:
    with TestClient(build_app(outlined, TOKEN), base_url=HOME) as client:
        client.get("/", params={"token": TOKEN})
        wait_until_scored(outlined)
        before = client.get("/api/summary").json()["outlines"]
        here = {"x": 0.8, "y": 0.5, "width": 0, "height": 0}
        assert [card["caption"] for card in before["cards"]] == ["drawn at random"] * 3 + ["least sure"] * 3
        post = {"key": "a", "index": before["cards"][0]["index"], "answer": "spurious", "place": here}
        client.post("/api/posts", json={"annotator": "ann", "posts": [post]})
        wait_until_scored(outlined)
        now = client.get("/api/summary").json()["outlines"]
        assert now["version"] != before["version"]
        assert post["index"] not in [card["index"] for card in now["cards"]]
        picture = client.get(f"/outline/{now['cards'][0]['index']}", params={"version": now["version"]})
        assert picture.headers["content-type"] == "image/jpeg"
        pixels = np.asarray(Image.open(io.BytesIO(picture.content)).convert("L"), int)
        assert pixels.shape == (320, 320)
        assert pixels[160, 40] < pixels[160, 280] < pixels[160, 140:180].max()
        assert client.get("/outline/8").status_code == 404


def test_flagged_photos_are_not_shown(outlined: Session, wait_until_scored: Wait) -> None:
    wait_until_scored(outlined)
    assert outlined.outlines is not None
    flagged = outlined.outlines.found.drawn[0]
    with TestClient(build_app(outlined, TOKEN), base_url=HOME) as client:
        client.get("/", params={"token": TOKEN})
        post = {"key": "f", "index": flagged, "answer": "flag", "note": "blurred"}
        client.post("/api/posts", json={"annotator": "ann", "posts": [post]})
        wait_until_scored(outlined)
    assert flagged not in shown_by(outlined.outlines)


def test_pool_without_places_has_no_outlines(client: Any, session: Session) -> None:
    assert session.summary()["outlines"] is None
    assert client.get("/outline/0").status_code == 404


def test_places_of_a_run_reach_the_pool_without_a_copy(inputs: Any, pool: ImageTable) -> None:
    _, attention, space = inputs()
    split: SplitAttention = attention.train
    assert isinstance(space, Space)
    assert Pool.of_run(pool, split, space).places is None
    places = np.zeros((8, 16, 16, 2), np.int8)
    assert Pool.of_run(pool, replace(split, places=places), space).places is places


def test_photo_picked_under_the_card_is_the_next_question(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.wait_until("document.querySelectorAll('#outlined img').length === 6")
    page.wait_until("[...document.querySelectorAll('#outlined img')].every(one => one.complete && one.naturalWidth)")
    assert page.locator("#outlines").is_visible()
    before = page.get_attribute("#outlined img >> nth=1", "src")
    index = page.get_attribute("#outlined button >> nth=1", "data-index")
    page.focus("#outlined button >> nth=1")
    page.keyboard.press("Enter")
    page.wait_until(f"/photo.{index}\\?/.test(document.querySelector('#frame-photo img')?.src)")
    page.point(0.5, 0.5)
    page.wait_until(f"![...document.querySelectorAll('#outlined button')].some(one => one.dataset.index === '{index}')")
    assert page.get_attribute("#outlined img >> nth=1", "src") != before
    page.wait_saved()
    assert page.locator("#outlined button").count() == 6
