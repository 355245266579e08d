"""The photo, its map and the attended region in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Page = Any  # tests/stages/annotate/page/conftest.py: AnnotatorPage
Open = Callable[..., Page]


def test_photo_that_cannot_be_read_says_so_once_and_may_be_flagged(open_page: Open) -> None:
    page = open_page()
    page.route("**/photo/*", lambda route: route.fulfill(status=404, json={"error": "no such file"}))
    page.click("[data-at='12']")  # far enough not to be loaded yet
    page.wait_for_selector("#frame-map.broken")
    notices = [page.notice(name) for name in ("photo", "map", "spot")]
    assert notices == ["", "This photo cannot be read. Flag it (F), or skip it.", ""]
    page.keyboard.press("f")
    page.keyboard.press("Enter")
    page.wait_for_count("1 of 16")


def test_flat_map_is_explained(open_page: Open) -> None:
    page = open_page()
    page.click("[data-at='12']")
    page.wait_for_selector("#frame-spot.flat")
    assert "The attention map is flat" in page.notice("spot")
    page.click("[data-at='0']")
    page.wait_for_selector("#frame-spot:not(.flat) .layer")


def test_hold_h_hides_the_map(open_page: Open) -> None:
    page = open_page()
    layer = page.locator("#frame-map .layer")
    page.keyboard.down("h")
    assert layer.evaluate("e => getComputedStyle(e).visibility") == "hidden"
    page.keyboard.up("h")
    assert layer.evaluate("e => getComputedStyle(e).visibility") == "visible"


def test_sliders_change_the_opacity_and_the_attended_region(open_page: Open) -> None:
    page = open_page()
    opacity = "getComputedStyle(document.querySelector('#frame-map .layer')).opacity"
    assert page.evaluate(opacity) == "0.75"
    page.focus("#opacity")
    page.keyboard.press("Home")
    assert page.evaluate(opacity) == "0"
    page.focus("#threshold")
    for key in ("ArrowRight", "ArrowRight", "Home"):  # the last one counts, however fast they come
        page.keyboard.press(key)
    for frame in ("map", "spot"):
        page.wait_until(f"document.querySelector('#frame-{frame} .layer').src.endsWith('threshold=5')")
    page.answer("c")
    page.wait_until("document.querySelector('#frame-spot .layer')?.src.endsWith('threshold=5')")


def test_layer_lies_exactly_over_the_photo(open_page: Open) -> None:
    page = open_page()
    ratios = "[...document.querySelectorAll('#frame-map img')].map(image => image.naturalWidth / image.naturalHeight)"
    below, above = page.evaluate(ratios)
    assert abs(below - above) < 0.01
    page.wait_until("document.querySelector('#scale')?.naturalWidth === 128")
