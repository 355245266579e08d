"""Pointing at the object in a real browser: by mouse, by keyboard and by touch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Page = Any  # tests/stages/annotate/page/conftest.py: AnnotatorPage
Open = Callable[..., Page]
PHONE = {"viewport": {"width": 390, "height": 700}, "has_touch": True, "is_mobile": True}
SHAPES = {
    "normal": {},
    "letterboxed": {"viewport": {"width": 1100, "height": 560}},
    "sharp": {"device_scale_factor": 2},
}


def near(x: float, y: float, width: float = 0.0, height: float = 0.0) -> Any:
    """A place to within a pixel or two."""
    return pytest.approx([x, y, width, height], abs=0.01)


def marks(page: Page, selector: str) -> list[list[float]]:
    """Centre of each mark in an element, relative to the photo there."""
    script = """selector => [...document.querySelectorAll(`${selector} .place`)].map(mark => {
      const a = mark.getBoundingClientRect(), b = mark.parentElement.getBoundingClientRect();
      return [(a.x + a.width / 2 - b.x) / b.width, (a.y + a.height / 2 - b.y) / b.height];
    })"""
    return list(page.evaluate(script, selector))


def swipe(page: Page, steps: list[list[tuple[float, float]]]) -> None:
    """Move fingers over the screen: where each of them is at each step."""
    session = page.context.new_cdp_session(page._tab)
    before = 0
    for fingers in steps:
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(fingers)]
        kind = "touchMove" if len(points) == before else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        before = len(points)
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("panel", ["#frame-photo", "#frame-map", "#frame-spot"])
def test_click_answers_spurious_with_the_place_and_goes_on(
    open_page: Open, annotator: Any, panel: str, shape: str
) -> None:
    page = open_page(**SHAPES[shape])
    first = page.photo()
    page.point(0.9, 0.25, panel)
    assert page.photo() != first
    page.wait_saved()
    assert annotator.rows() == [[0, "spurious", "ann"]]
    assert annotator.places() == {0: near(0.9, 0.25)}
    assert marks(page, "#panels") == []
    page.keyboard.press("ArrowLeft")
    assert marks(page, panel) == [pytest.approx([0.9, 0.25], abs=0.01)]


def test_click_beside_the_photo_answers_nothing(open_page: Open, annotator: Any) -> None:
    page = open_page(**SHAPES["letterboxed"])
    frame = page.locator("#frame-photo").bounding_box()
    page.mouse.click(frame["x"] + 4, frame["y"] + frame["height"] / 2)
    page.answer("c")
    page.wait_saved()
    assert annotator.rows() == [[0, "core", "ann"]]


def test_double_click_answers_one_image(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.wait_prefetched()
    page.mouse.dblclick(*page.spot((0.5, 0.5)))
    page.wait_saved()
    assert len(annotator.rows()) == 1


def test_drag_gives_a_box_and_a_short_one_is_a_click(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.drag((0.7, 0.8), (0.3, 0.2), "#frame-map")
    assert page.locator("#frame-map .draft .box").count() == 1
    page.mouse.up()
    page.wait_for_count("1 of 16")
    page.wait_for_timeout(400)  # longer than a double click
    page.drag((0.5, 0.5), (0.51, 0.5), "#frame-map")
    page.mouse.up()
    page.wait_for_timeout(400)
    page.drag((0.9, 0.9), (0.8, 0.7), "#frame-map")
    page.mouse.move(2000, 2000)  # as far as the photo goes
    page.mouse.up()
    page.wait_saved()
    assert annotator.places() == {0: near(0.5, 0.5, 0.4, 0.6), 2: near(0.5, 0.5), 4: near(0.95, 0.95, 0.1, 0.1)}


def test_escape_and_the_right_button_answer_nothing(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.drag((0.2, 0.2), (0.6, 0.6))
    page.keyboard.press("Escape")
    page.mouse.up()
    assert page.locator(".draft").count() == 0
    page.mouse.click(*page.spot((0.5, 0.5)), button="right")
    page.answer("u")
    page.wait_saved()
    assert annotator.rows() == [[0, "unsure", "ann"]]


def test_press_on_one_photo_does_not_answer_the_next(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.wait_prefetched()
    page.mouse.move(*page.spot((0.5, 0.5)))
    page.mouse.down()
    page.keyboard.press("c")
    page.mouse.up()
    page.wait_saved()
    assert annotator.rows() == [[0, "core", "ann"]]


def test_undo_takes_the_place_back_and_a_reload_keeps_it(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.point(0.2, 0.7)
    page.wait_saved()
    page.reload()
    page.wait_for_selector("#frame-photo img")
    dot = page.locator("[data-at='0']")
    assert dot.get_attribute("aria-label") == "1, cat, spurious, object marked"
    page.keyboard.press("ArrowLeft")
    assert marks(page, "#frame-photo") == [pytest.approx([0.2, 0.7], abs=0.01)]
    page.keyboard.press("z")
    assert marks(page, "#panels") == []
    page.wait_saved()
    assert annotator.places() == {}
    assert dot.get_attribute("aria-label") == "1, cat, no answer"


def test_answer_by_key_afterwards_has_no_place(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.point(0.2, 0.7)
    page.keyboard.press("ArrowLeft")
    page.answer("s")
    page.keyboard.press("ArrowLeft")
    assert marks(page, "#panels") == []
    page.wait_saved()
    assert annotator.places() == {}


def test_place_waits_for_the_connection_like_its_answer(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.wait_prefetched()
    page.context.set_offline(True)
    page.point(0.6, 0.3)
    page.wait_for_selector("#saved[data-state=off]")
    page.context.set_offline(False)
    again = page.new_tab()
    again.wait_saved()
    again.keyboard.press("ArrowLeft")
    assert marks(again, "#frame-photo") == [pytest.approx([0.6, 0.3], abs=0.01)]
    assert annotator.places() == {0: near(0.6, 0.3)}


def test_cross_hair_moves_by_arrows_and_says_where_it_is(open_page: Open, annotator: Any) -> None:
    page = open_page()
    first = page.photo()
    says = "document.activeElement.getAttribute('aria-valuetext')"
    page.keyboard.press("x")
    assert page.evaluate(says) == "50 % from the left, 50 % from the top"
    for key in ("ArrowRight", "Shift+ArrowRight", "Shift+ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    assert page.evaluate(says) == "62 % from the left, 42 % from the top"
    assert page.inner_text("#pointing").startswith("← → ↑ ↓ move the cross-hair")
    page.keyboard.press("Escape")
    assert page.locator(".cross").count() == 0
    assert page.photo() == first
    page.focus("#point")
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Enter")
    assert page.photo() != first
    assert page.evaluate("document.activeElement.id") == "point"
    page.wait_saved()
    assert annotator.places() == {0: near(0.4, 0.5)}


def test_cross_hair_stays_on_the_photo_and_other_keys_answer(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.keyboard.press("x")
    for _ in range(6):
        page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Enter")
    page.keyboard.press("x")
    page.keyboard.press("c")
    assert page.locator(".cross").count() == 0
    page.wait_saved()
    assert [answer for _, answer, _ in annotator.rows()] == ["spurious", "core"]
    assert annotator.places() == {0: near(0.5, 0)}


def test_tap_answers_and_scrolling_or_zooming_does_not(open_page: Open, annotator: Any) -> None:
    page = open_page(**PHONE)
    x, y = page.spot((0.5, 0.5), "#frame-map")
    swipe(page, [[(x, y - step)] for step in range(0, 150, 10)])
    page.wait_until("scrollY > 50")
    page.evaluate("scrollTo(0, 0)")
    swipe(page, [[(x - step, y)] for step in range(0, 100, 10)])  # where there is nothing to scroll
    swipe(page, [[(x, y)], *[[(x - step, y), (x + step, y)] for step in range(20, 80, 4)]])
    page.wait_until("visualViewport.scale > 1.05")
    page.wait_for_timeout(500)  # until the view rests
    x, y = page.spot((0.3, 0.6), "#frame-map")
    left, top = page.evaluate("[visualViewport.offsetLeft, visualViewport.offsetTop]")
    assert annotator.rows() == []
    page.touchscreen.tap(x - left, y - top)
    page.wait_for_count("1 of 16")
    page.wait_saved()
    assert annotator.places() == {0: near(0.3, 0.6)}


def test_grid_points_while_that_is_what_a_mark_means(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.keyboard.press("g")
    page.click("[data-brush=point]")
    page.point(0.25, 0.5, ".tile[data-at='1']")
    page.point(0.75, 0.5, ".tile[data-at='2']")
    page.wait_for_timeout(400)
    page.point(0.5, 0.75, ".tile[data-at='2']")  # again: moved, and not taken back
    assert marks(page, ".tile[data-at='2']") == [pytest.approx([0.5, 0.75], abs=0.02)]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Enter")
    label = page.get_attribute(".tile[data-at='3']", "aria-label")
    assert label.endswith("spurious, object at 40 % from the left, 50 % from the top")
    page.keyboard.press("z")
    page.wait_saved()
    assert annotator.places() == {2: near(0.25, 0.5), 4: near(0.5, 0.75)}
    page.keyboard.press("s")
    page.locator(".tile").nth(1).click()  # a mark again, which takes this one back
    page.wait_saved()
    assert 2 not in annotator.places()


def test_grid_marks_by_a_tap_and_not_by_scrolling(open_page: Open, annotator: Any) -> None:
    page = open_page(**PHONE)
    page.tap("#view-grid")
    page.wait_for_selector(".tile[data-at='7'] .field")
    x, y = page.spot((0.5, 0.5), ".tile[data-at='7']")
    swipe(page, [[(x, y - step)] for step in range(0, 60, 10)])
    page.wait_until("scrollY > 0")
    page.tap(".tile[data-at='4']")
    page.tap("[data-brush=point]")
    page.touchscreen.tap(*page.spot((0.5, 0.25), ".tile[data-at='6']"))
    page.wait_for_count("2 of 16")
    page.wait_saved()
    assert [image for image, *_ in annotator.rows()] == [8, 12]
    assert annotator.places() == {12: near(0.5, 0.25)}


def test_disagreement_shows_everybodys_place_and_is_settled_by_a_click(disagreeing: Open, annotator: Any) -> None:
    ann, bob = disagreeing()
    bob.keyboard.press("ArrowLeft")
    bob.keyboard.press("ArrowLeft")
    bob.point(0.2, 0.4)
    bob.wait_saved()
    ann.keyboard.press("d")
    case = ann.locator(".case").first
    case.locator(".place").nth(1).wait_for()
    assert case.locator(".place b").all_inner_texts() == ["bob", "bob"]  # on the photo and on the map
    assert "object at 20 % from the left, 40 % from the top" in case.locator(".votes").inner_text()
    ann.point(0.6, 0.5, ".case:first-child .frame:first-child")
    ann.wait_saved()
    image = annotator.rows()[1][0]
    assert annotator.settled() == [[image, "spurious", "ann"]]
    assert annotator.places(settles=True) == {image: near(0.6, 0.5)}
    ann.wait_until("document.querySelector('.case .state').textContent.startsWith('Settled by ann')")
    assert case.locator(".frame").first.locator(".place b").all_inner_texts() == ["bob", "settled"]
    ann.keyboard.press("x")  # on the next one
    ann.keyboard.press("Enter")
    ann.wait_saved()
    assert len(annotator.places(settles=True)) == 2
    ann.keyboard.press("z")
    ann.wait_saved()
    assert annotator.places(settles=True) == {image: near(0.6, 0.5)}
