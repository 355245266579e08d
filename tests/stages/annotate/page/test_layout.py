"""How the page looks: on a phone, at any width, in light and dark, and for assistive technology."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Page = Any  # tests/stages/annotate/page/conftest.py: AnnotatorPage
Open = Callable[..., Page]


def test_introduction_is_sharp_and_fits(open_page: Open) -> None:
    widths = "[...document.querySelectorAll('.examples img')].map(image => [image.clientWidth, image.naturalWidth])"
    overflow = (
        "(e => [e.scrollWidth - e.clientWidth, e.scrollHeight - e.clientHeight])(document.getElementById('intro'))"
    )
    laptop = {"viewport": {"width": 1366, "height": 768}}
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    for options in (laptop, phone):
        page = open_page(**options)
        page.click("#help")
        page.wait_until("[...document.querySelectorAll('.examples img')].every(image => image.complete)")
        assert [2 * shown <= there for shown, there in page.evaluate(widths)] == [True] * 4
        assert page.evaluate(overflow) == [0, 0]


def test_phone_width_fits_and_works_by_touch(open_page: Open, annotator: Any) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for answer in ("core", "spurious"):
        button = page.locator(f".answer.{answer}")
        assert button.bounding_box()["height"] >= 44
        button.tap()
    page.wait_saved()
    assert [answer for _, answer, _ in annotator.rows()] == ["core", "spurious"]
    page.click("#view-grid")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_phone_shows_what_was_done_and_picked_wherever_it_was_scrolled_to(open_page: Open) -> None:
    page = open_page(viewport={"width": 390, "height": 700}, has_touch=True, is_mobile=True)
    inside = (
        "id => (box => box.top >= 0 && box.bottom <= innerHeight)(document.getElementById(id).getBoundingClientRect())"
    )
    assert page.inner_text("#count") == "0 of 16"
    page.locator("#stop").scroll_into_view_if_needed()
    page.locator("#stop").tap()
    assert page.evaluate(inside, "done-title")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.locator("[data-at='3']").dispatch_event("click")
    page.wait_for_selector("#frame-photo img")
    assert page.evaluate(inside, "question")


def test_captions_are_whole_at_any_width(open_page: Open) -> None:
    page = open_page()
    cut = "[...document.querySelectorAll('.panels figcaption')].filter(one => one.scrollWidth > one.clientWidth).length"
    for width in (1440, 1280, 1000, 750, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(cut) == 0, width


def test_marks_stay_on_their_place_at_any_width(open_page: Open) -> None:
    page = open_page()
    page.drag((0.1, 0.2), (0.5, 0.4))
    page.mouse.up()
    page.keyboard.press("ArrowLeft")
    corner = "(box => [box.x, box.y])(document.querySelector('#frame-photo .place').getBoundingClientRect())"
    for width in (1440, 1280, 1000, 750, 390):
        page.set_viewport_size({"width": width, "height": 560})
        assert page.evaluate(corner) == pytest.approx(page.spot((0.1, 0.2)), abs=1), width
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_nothing_moves_from_one_image_to_the_next(open_page: Open) -> None:
    page = open_page()
    places = """["panels", "answers", "strip", "plot"].map(id => {
      const box = document.getElementById(id).getBoundingClientRect();
      return [box.x, box.y, box.width, box.height].map(Math.round);
    })"""
    before = page.evaluate(places)
    for key in "csu" * 3:
        page.answer(key)
        assert page.evaluate(places) == before


def test_every_control_has_a_name_and_dialogs_give_the_focus_back(open_page: Open) -> None:
    page = open_page()
    unnamed = """[...document.querySelectorAll("button, input, select, canvas[role=img], progress")]
      .filter(e => e.offsetParent)
      .filter(e => !(e.getAttribute("aria-label") || e.labels?.[0]?.textContent || e.textContent || "").trim())
      .map(e => e.outerHTML)"""
    assert page.evaluate(unnamed) == []
    page.focus("#help")
    page.keyboard.press("Enter")
    page.wait_for_selector("#intro[open]")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "help"


def _axe_findings(page: Page) -> list[str]:
    """What axe-core finds serious or critical on the page as it is, in light and in dark."""
    run = """async () => (await axe.run()).violations.filter(v => ["serious", "critical"].includes(v.impact))
      .map(v => `${v.id}: ${v.nodes.map(n => n.target.join(" ")).join(", ")}`)"""
    findings: list[str] = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # no colour in the middle of a transition
        findings += page.evaluate(run)
    return findings


@pytest.fixture
def axe() -> str:
    """The source of axe-core."""
    reason = "axe is not installed: pip install axe-playwright-python"
    package = pytest.importorskip("axe_playwright_python", reason=reason)
    return next(Path(package.__file__).parent.rglob("axe.min.js")).read_text()


def test_axe_finds_nothing_serious_in_any_state(open_page: Open, axe: str) -> None:
    page = open_page()
    page.evaluate(axe)
    page.answer("cs")
    page.point(0.4, 0.6)
    page.wait_saved()
    assert _axe_findings(page) == []
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("x")
    assert _axe_findings(page) == []
    page.keyboard.press("g")
    page.wait_for_selector(".tile .field")
    page.keyboard.press("u")
    assert _axe_findings(page) == []
    page.locator(".tile").first.focus()
    page.keyboard.press("x")
    page.wait_for_selector(".over .cross")
    assert _axe_findings(page) == []
    page.keyboard.press("g")
    page.click("#stop")
    assert _axe_findings(page) == []
    page.click("#help")
    assert _axe_findings(page) == []


def test_axe_finds_nothing_serious_where_people_disagree(disagreeing: Open, axe: str) -> None:
    ann, _ = disagreeing()
    ann.evaluate(axe)
    ann.keyboard.press("d")
    ann.locator(".case .field").nth(3).wait_for()
    assert _axe_findings(ann) == []
    ann.point(0.5, 0.5, ".case:first-child .frame:first-child")
    ann.wait_saved()
    assert _axe_findings(ann) == []
