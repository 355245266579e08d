"""Answering in a real browser: by keyboard, by mouse, one image at a time and in the grid."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

Page = Any  # tests/stages/annotate/page/conftest.py: AnnotatorPage
Open = Callable[..., Page]
QUERIES = 16


def test_a_whole_session_by_keyboard(open_page: Open, annotator: Any) -> None:
    page = open_page()
    assert page.inner_text("#question") == "Does the model look at the cat itself?"
    page.answer("c1s0u")
    page.keyboard.press("Space")
    page.answer("cs" * 5)
    page.wait_for_selector("#done-title:visible")
    page.wait_saved()
    assert page.inner_text("#count") == "16 of 16"
    assert page.inner_text("#done-figures").split()[:6] == ["core", "7", "spurious", "7", "unsure", "2"]
    answers = [answer for _, answer, _ in annotator.rows()]
    assert answers == ["core", "core", "spurious", "spurious", "unsure", "unsure", *["core", "spurious"] * 5]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_until("document.querySelector('#done-title').textContent.startsWith('Done')")
    assert annotator.finished.is_set()
    assert len(annotator.judgements()) == QUERIES


def test_a_key_that_is_held_answers_once(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.keyboard.down("c")
    for _ in range(5):
        page.keyboard.down("c")
    page.keyboard.up("c")
    page.wait_saved()
    assert len(annotator.rows()) == 1


def test_undo_takes_back_and_shows_again(open_page: Open, annotator: Any) -> None:
    page = open_page()
    first = page.photo()
    page.answer("cs")
    page.keyboard.press("z")
    page.keyboard.press("z")
    assert page.photo() == first
    page.answer("u")
    page.wait_saved()
    assert [answer for _, answer, _ in annotator.rows()] == ["core", "spurious", "undone", "undone", "unsure"]
    assert page.inner_text("#count").startswith("1 of 16")


def test_arrows_look_back_and_an_answer_may_be_changed(open_page: Open, annotator: Any) -> None:
    page = open_page()
    first = page.photo()
    page.answer("cc")
    third = page.photo()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.photo() == first
    assert page.get_attribute(".answer.core", "aria-pressed") == "true"
    page.answer("s")
    assert page.photo() == third
    page.wait_saved()
    image = annotator.rows()[0][0]
    assert annotator.rows()[-1] == [image, "spurious", "ann"]


def test_skipped_images_come_again_at_the_end(open_page: Open) -> None:
    page = open_page()
    first = page.photo()
    page.keyboard.press("ArrowRight")
    page.answer("c" * (QUERIES - 1))
    assert page.photo() == first
    page.answer("c")
    page.wait_for_selector("#done-title:visible")


def test_flagged_photo_is_passed_over_with_its_note(open_page: Open, annotator: Any) -> None:
    page = open_page()
    first = page.photo()
    page.keyboard.press("f")
    page.keyboard.type("cs bad")  # letters of the note answer nothing
    page.keyboard.press("Enter")
    page.wait_until(f"document.querySelector('#frame-photo img')?.src !== {first!r}")
    page.wait_saved()
    assert annotator.rows() == []
    assert page.inner_text("#count").startswith("1 of 16")


def test_reload_in_the_middle_goes_on(open_page: Open) -> None:
    page = open_page()
    page.answer("ccs")
    now = page.photo()
    page.wait_saved()
    page.reload()
    assert page.photo() == now
    assert page.inner_text("#count").startswith("3 of 16")
    page.keyboard.press("z")
    page.wait_for_count("2 of 16")


def test_many_by_mouse_and_keys(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.keyboard.press("g")
    tiles = page.locator(".tile")
    tiles.nth(7).wait_for()
    tiles.nth(0).click()
    tiles.nth(2).click()
    tiles.nth(4).click(modifiers=["Shift"])  # from the third to the fifth
    tiles.nth(0).click()  # and the first back
    tiles.nth(4).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("u")
    page.wait_saved()
    page.keyboard.press("a")
    page.wait_saved()
    first_class = sorted({image for image, _, _ in annotator.rows()})
    last = {image: answer for image, answer, _ in annotator.rows()}
    assert [last[image] for image in first_class] == ["core"] * 2 + ["spurious"] * 3 + ["unsure"] + ["core"] * 2
    assert page.inner_text("#many-title") == "Where does the model look at something other than the sea dog?"


def test_many_by_dragging(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.keyboard.press("g")
    places = [page.locator(".tile").nth(i).bounding_box() for i in range(3)]
    page.mouse.move(places[0]["x"] + 40, places[0]["y"] + 40)
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(place["x"] + 40, place["y"] + 40, steps=4)
    page.mouse.up()
    page.wait_saved()
    assert [answer for _, answer, _ in annotator.rows()] == ["spurious"] * 3


def test_range_does_not_begin_in_another_class(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.keyboard.press("g")
    page.locator(".tile").nth(6).click()
    page.click("#many-class button:nth-child(2)")
    page.locator(".tile").nth(2).click(modifiers=["Shift"])
    page.locator(".tile").nth(4).click(modifiers=["Shift"])
    page.wait_saved()
    page.wait_until("document.querySelectorAll('.tile.spurious').length === 3")
    assert sorted(image for image, _, _ in annotator.rows()) == [5, 7, 9, 12]  # odd numbers are of the second class


def test_class_button_keeps_the_focus_by_keyboard(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.keyboard.press("g")
    page.locator("#many-class button").nth(1).focus()
    page.keyboard.press("Enter")
    page.wait_until("document.querySelector('#many-class button:nth-child(2)').ariaPressed === 'true'")
    assert page.evaluate("document.activeElement.dataset.class") == "1"
    page.locator("#many-class button").nth(0).click()  # a click does not, so that the space bar means unsure
    page.keyboard.press("Space")
    assert page.get_attribute("[data-brush=unsure]", "aria-pressed") == "true"


def test_photos_that_somebody_adds_leave_the_focus_where_it_is(open_page: Open, annotator: Any) -> None:
    ann, bob = open_page("ann"), open_page("bob")
    ann.keyboard.press("g")
    ann.locator(".tile").nth(3).focus()
    bob.locator("[data-more='0']").click()
    ann.wait_for_count("of 21")
    ann.wait_until("document.querySelectorAll('.tile').length === 13")
    assert ann.evaluate("document.activeElement.dataset.at") == "3"
    ann.locator("[data-more='0']").focus()
    bob.locator("[data-more='1']").click()
    ann.wait_for_count("of 26")
    assert ann.evaluate("document.activeElement.dataset.more") == "0"


LATENCY = """() => {
  window.latencies = [];
  const photo = () => document.querySelector("#frame-photo img");
  addEventListener("keydown", event => {
    const before = photo()?.src, start = event.timeStamp;
    const look = () => {
      const now = photo();
      const there = now && now.src !== before && now.complete && now.naturalWidth;
      if (there) requestAnimationFrame(() => latencies.push(performance.now() - start));
      else if (performance.now() - start < 2000) requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }, true);
}"""


def test_each_key_shows_the_next_image_and_how_soon_is_recorded(
    open_page: Open, record_property: Callable[[str, object], None]
) -> None:
    page = open_page()
    page.wait_prefetched()
    page.evaluate(LATENCY)
    for step in range(1, QUERIES):
        page.keyboard.press("c")
        page.wait_until(f"latencies.length === {step}")
        page.wait_prefetched()
    latencies = sorted(page.evaluate("latencies"))
    record_property("median_ms", statistics.median(latencies))
    record_property("p95_ms", latencies[int(0.95 * len(latencies))])
