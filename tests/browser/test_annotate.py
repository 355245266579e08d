"""A person at the page, in a real browser: whole sessions, and whatever may go wrong in the middle of one."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from slim.annotation import Judgements

Page = Any  # of Playwright, which need not be installed
Open = Callable[..., Page]
QUERIES = 16

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


@pytest.fixture
def open_page(browser: Any, annotator: Any) -> Iterator[Open]:
    """Opens the page as somebody, in a browser profile of his own; fails on errors that the page did not expect."""
    contexts, errors = [], []

    def make(name: str = "ann", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "Content Security" in line.text else None)
        page.on("request", lambda request: errors.append(request.url) if not _own(request.url, annotator) else None)
        page.goto(annotator.link)
        page.wait_for_selector("#intro[open]")
        page.fill("#name", name)
        page.keyboard.press("Enter")
        page.wait_for_selector("#frame-photo img")
        return page

    yield make
    for context in contexts:
        context.close()
    assert errors == []


def _own(url: str, annotator: Any) -> bool:
    """Whether a request stays on the annotator's server."""
    return url.startswith((f"http://127.0.0.1:{annotator.port}/", "data:", "blob:"))


def shown(page: Page) -> str:
    """The address of the photo that is shown."""
    page.wait_for_selector("#frame-photo img")
    return str(page.evaluate("document.querySelector('#frame-photo img').src"))


def until(page: Page, condition: str) -> None:
    """Wait until a condition in JavaScript holds; Playwright's own way needs eval, which the policy forbids."""
    deadline = monotonic() + 20
    while not page.evaluate(condition):
        assert monotonic() < deadline, condition
        page.wait_for_timeout(50)


def press(page: Page, keys: str) -> None:
    """Answer image after image, each once it is there."""
    for key in keys:
        page.wait_for_selector("#frame-photo img")
        page.keyboard.press(key)


def saved(page: Page) -> None:
    page.wait_for_selector("#saved[data-state=ok]", state="attached")  # phones do not show it


def test_introduction_is_sharp_and_fits(browser: Any, annotator: Any) -> None:
    laptop = {"viewport": {"width": 1366, "height": 768}}
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    for options in (laptop, phone):
        page = browser.new_page(**options)
        page.goto(annotator.link)
        page.wait_for_selector("#intro[open]")
        until(page, "[...document.querySelectorAll('.examples img')].every(image => image.complete)")
        widths = "[...document.querySelectorAll('.examples img')].map(i => [i.clientWidth, i.naturalWidth])"
        assert [2 * shown <= there for shown, there in page.evaluate(widths)] == [True] * 4
        sizes = (
            "(e => [e.scrollWidth - e.clientWidth, e.scrollHeight - e.clientHeight])(document.getElementById('intro'))"
        )
        assert page.evaluate(sizes) == [0, 0]
        page.close()


def test_a_whole_session_by_keyboard(open_page: Open, annotator: Any) -> None:
    page = open_page()
    assert page.inner_text("#question") == "Does the model look at the cat itself?"
    press(page, "c1s0u")
    page.keyboard.press("Space")
    press(page, "cs" * 5)
    page.wait_for_selector("#done-title:visible")
    saved(page)
    assert page.inner_text("#count") == "16 of 16"
    assert page.inner_text("#done-figures").split()[:6] == ["core", "7", "spurious", "7", "unsure", "2"]
    answers = [answer for _, answer, _ in annotator.rows()]
    assert answers == ["core", "core", "spurious", "spurious", "unsure", "unsure", *["core", "spurious"] * 5]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#done-title').textContent.startsWith('Done')")
    annotator.process.wait(20)
    annotator.process.stdout.close()
    assert len(Judgements.load(annotator.folder)) == QUERIES


def test_a_key_that_is_held_answers_once(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.keyboard.down("c")
    for _ in range(5):
        page.keyboard.down("c")
    page.keyboard.up("c")
    saved(page)
    assert len(annotator.rows()) == 1


def test_undo_takes_back_and_shows_again(open_page: Open, annotator: Any) -> None:
    page = open_page()
    first = shown(page)
    press(page, "cs")
    page.keyboard.press("z")
    page.keyboard.press("z")
    assert shown(page) == first
    press(page, "u")
    saved(page)
    assert [answer for _, answer, _ in annotator.rows()] == ["core", "spurious", "undone", "undone", "unsure"]
    assert page.inner_text("#count").startswith("1 of 16")


def test_arrows_look_back_and_an_answer_may_be_changed(open_page: Open, annotator: Any) -> None:
    page = open_page()
    first = shown(page)
    press(page, "cc")
    third = shown(page)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert shown(page) == first
    assert page.get_attribute(".answer.core", "aria-pressed") == "true"
    press(page, "s")
    assert shown(page) == third
    saved(page)
    image = annotator.rows()[0][0]
    assert annotator.rows()[-1] == [image, "spurious", "ann"]


def test_skipped_images_come_again_at_the_end(open_page: Open) -> None:
    page = open_page()
    first = shown(page)
    page.keyboard.press("ArrowRight")
    press(page, "c" * (QUERIES - 1))
    assert shown(page) == first
    press(page, "c")
    page.wait_for_selector("#done-title:visible")


def test_flagged_photo_is_passed_over_with_its_note(open_page: Open, annotator: Any) -> None:
    page = open_page()
    first = shown(page)
    page.keyboard.press("f")
    page.keyboard.type("cs bad")  # letters of the note answer nothing
    page.keyboard.press("Enter")
    until(page, f"document.querySelector('#frame-photo img')?.src !== {first!r}")
    saved(page)
    assert annotator.rows() == []
    assert page.inner_text("#count").startswith("1 of 16")


SAYS = "name => getComputedStyle(document.querySelector(`#frame-${name}`), '::after').content"


def test_photo_that_cannot_be_read_says_so_once_and_may_be_flagged(open_page: Open) -> None:
    page = open_page()
    page.route("**/photo/*", lambda route: route.fulfill(status=404, json={"error": "no such file"}))
    page.click("[data-at='12']")  # far enough not to be loaded yet
    page.wait_for_selector("#frame-map.broken")
    said = [page.evaluate(SAYS, name) for name in ("photo", "map", "spot")]
    assert said == ['""', '"This photo cannot be read. Flag it (F), or skip it."', '""']
    page.keyboard.press("f")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#count').textContent.startsWith('1 of 16')")


def test_photo_that_a_lost_connection_holds_back_comes_by_itself(open_page: Open) -> None:
    page = open_page()
    for what in ("photo", "map"):
        page.route(f"**/{what}/*", lambda route: route.abort())
    page.click("[data-at='12']")
    page.wait_for_selector("#frame-map.lost")
    assert page.evaluate(SAYS, "map") == '"No connection. The photo comes when it is back."'
    page.unroute_all()
    page.wait_for_selector("#frame-photo img")
    assert page.locator("#frame-map.lost").count() == 0


def test_flat_map_is_explained(open_page: Open) -> None:
    page = open_page()
    page.route("**/map/*", lambda route: route.fulfill(body=bytes(49)))
    page.click("[data-at='12']")
    page.wait_for_selector("#frame-spot.flat")
    assert "looks nowhere" in page.evaluate(SAYS, "spot")
    page.unroute_all()
    page.click("[data-at='0']")
    page.wait_for_selector("#frame-spot:not(.flat) canvas")


def test_hold_h_hides_the_map(open_page: Open) -> None:
    page = open_page()
    layer = page.locator("#frame-map canvas")
    page.keyboard.down("h")
    assert layer.evaluate("e => getComputedStyle(e).visibility") == "hidden"
    page.keyboard.up("h")
    assert layer.evaluate("e => getComputedStyle(e).visibility") == "visible"


def test_sliders_redraw_the_layers(open_page: Open) -> None:
    page = open_page()
    pixels = "id => document.querySelector(id + ' canvas').toDataURL()"
    for slider, frame in (("#opacity", "#frame-map"), ("#threshold", "#frame-spot")):
        before = page.evaluate(pixels, frame)
        page.focus(slider)
        page.keyboard.press("Home")
        assert page.evaluate(pixels, frame) != before


def test_reload_in_the_middle_goes_on(open_page: Open) -> None:
    page = open_page()
    press(page, "ccs")
    now = shown(page)
    saved(page)
    page.reload()
    assert shown(page) == now
    assert page.inner_text("#count").startswith("3 of 16")
    page.keyboard.press("z")
    until(page, "document.querySelector('#count').textContent.startsWith('2 of 16')")


def test_server_killed_in_the_middle_loses_nothing(open_page: Open, annotator: Any) -> None:
    page = open_page()
    press(page, "cc")
    saved(page)
    annotator.kill()
    press(page, "su")
    page.wait_for_selector("#saved[data-state=off]")
    assert page.inner_text("#saved") == "No connection: 2 kept in this browser"
    annotator.start()
    saved(page)
    press(page, "c")
    saved(page)
    assert [answer for _, answer, _ in annotator.rows()] == ["core", "core", "spurious", "unsure", "core"]


def test_offline_and_closed_the_answers_are_sent_later(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.wait_for_timeout(500)
    page.context.set_offline(True)
    press(page, "cs")
    page.wait_for_selector("#saved[data-state=off]")
    assert annotator.rows() == []
    page.close()
    page.context.set_offline(False)
    again = page.context.new_page()
    again.goto(annotator.link)
    again.wait_for_selector("#frame-photo img")
    saved(again)
    until(again, "document.querySelector('#count').textContent.startsWith('2 of 16')")
    assert [answer for _, answer, _ in annotator.rows()] == ["core", "spurious"]


def test_an_answer_whose_receipt_is_lost_is_kept_once(open_page: Open, annotator: Any) -> None:
    page = open_page()
    lost = []

    def lose(route: Any) -> None:
        if not lost:
            lost.append(route.fetch())  # the server has it, and the page never hears so
            route.abort()
        else:
            route.continue_()

    page.route("**/api/posts", lose)
    press(page, "c")
    page.wait_for_selector("#saved[data-state=off]")
    saved(page)
    assert lost[0].json()["new"] == 1
    assert len(annotator.rows()) == 1


def test_two_browsers_at_once_lose_and_double_nothing(open_page: Open, annotator: Any) -> None:
    ann, bob = open_page("ann"), open_page("bob")
    for key in "csuc" * 4:
        press(ann, key)
        press(bob, "c")
    saved(ann)
    saved(bob)
    rows = annotator.rows()
    assert len(rows) == 2 * QUERIES
    assert [answer for _, answer, who in rows if who == "bob"] == ["core"] * QUERIES
    ann.wait_for_selector("#together:visible")
    assert "Krippendorff" in ann.inner_text("#together")


def differ(open_page: Open) -> tuple[Page, Page]:
    """Ann and Bob, who differ about the second and the third photo of the first class."""
    ann, bob = open_page("ann"), open_page("bob")
    press(ann, "ccc")
    press(bob, "csu")
    saved(ann)
    saved(bob)
    ann.wait_for_selector("#view-settle:visible")
    until(ann, "document.querySelector('#differing').textContent === '2'")
    return ann, bob


def test_differences_are_listed_and_settled_by_keyboard(open_page: Open, annotator: Any) -> None:
    ann, bob = differ(open_page)
    ann.keyboard.press("d")
    cases = ann.locator(".case")
    cases.nth(1).wait_for()
    cases.nth(0).locator(".pair canvas").wait_for()
    assert cases.nth(0).locator(".votes").inner_text().split() == ["ann", "core", "bob", "spurious"]
    assert cases.nth(1).locator(".votes").inner_text().split() == ["ann", "core", "bob", "unsure"]
    ann.keyboard.press("s")
    ann.keyboard.press("u")
    saved(ann)
    assert ann.inner_text("#settle-title") == "All differences are settled"
    until(ann, "document.querySelector('#together').textContent.includes('2 of these are settled')")
    until(bob, "document.querySelector('#differing').textContent === ''")
    ann.keyboard.press("z")
    saved(ann)
    until(bob, "document.querySelector('#differing').textContent === '1'")
    assert annotator.settled() == [[annotator.rows()[1][0], "spurious", "ann"]]
    assert len(annotator.rows()) == 9  # everybody's own, and the three that settle or take it back
    ann.keyboard.press("d")
    assert ann.inner_text("#count").startswith("3 of 16")  # which are no answers of one's own


def test_differences_move_by_arrows_and_settle_by_mouse(open_page: Open, annotator: Any) -> None:
    ann, _ = differ(open_page)
    ann.click("#view-settle")
    ann.locator(".case").nth(1).wait_for()
    ann.keyboard.press("ArrowDown")
    until(ann, "document.activeElement === document.querySelectorAll('.case')[1]")
    ann.keyboard.press("c")
    ann.locator(".case").nth(0).locator("[data-settle=unsure]").click()
    saved(ann)
    assert sorted(answer for _, answer, _ in annotator.settled()) == ["core", "unsure"]
    ann.locator(".case").nth(0).locator("[data-settle=unsure]").click()  # again takes it back
    saved(ann)
    assert [answer for _, answer, _ in annotator.settled()] == ["core"]


def test_differences_that_come_late_do_not_hide_what_was_settled_meanwhile(open_page: Open, annotator: Any) -> None:
    ann, bob = differ(open_page)
    ann.click("#view-settle")
    ann.locator(".case").nth(1).wait_for()
    held: list[Any] = []
    ann.route("**/api/differences*", lambda route: held.append(route))
    bob.keyboard.press("c")  # news, for which ann's page asks anew
    while not held:
        ann.wait_for_timeout(20)
    late = held[0].fetch()  # as it was before she settles
    button = ann.locator(".case").nth(0).locator("[data-settle=unsure]")
    button.click()
    held[0].fulfill(response=late)
    saved(ann)
    ann.wait_for_timeout(300)
    assert button.get_attribute("aria-pressed") == "true"
    for route in held[1:]:
        route.continue_()
    ann.unroute_all()
    button.click()  # so that this takes it back
    saved(ann)
    assert annotator.settled() == []


def test_second_tab_of_the_same_person_follows(open_page: Open, annotator: Any) -> None:
    page = open_page()
    other = page.context.new_page()
    other.goto(annotator.link)
    other.wait_for_selector("#frame-photo img")
    first = shown(page)
    assert shown(other) == first
    press(page, "cs")
    until(other, "document.querySelector('#count').textContent.startsWith('2 of 16')")
    assert shown(other) == shown(page) != first
    page.keyboard.press("z")
    until(other, "document.querySelector('#count').textContent.startsWith('1 of 16')")


def test_many_tabs_at_once_all_work(open_page: Open, annotator: Any) -> None:
    page = open_page()
    tabs = [page.context.new_page() for _ in range(6)]
    for tab in tabs:
        tab.goto(annotator.link)
        tab.wait_for_selector("#frame-photo img", timeout=20_000)
    press(tabs[-1], "c")
    saved(tabs[-1])
    for tab in (page, *tabs):
        until(tab, "document.querySelector('#count').textContent.startsWith('1 of 16')")


def test_map_by_environment_names_its_clusters(open_page: Open) -> None:
    page = open_page()
    until(page, "document.querySelector('#colour').options.length === 5")
    page.select_option("#colour", "environment")
    until(page, "document.querySelector('#legend').textContent.includes('photos')")
    assert page.inner_text("#legend").split("\n") == ["1: 20 photos", "2: 20 photos", "3: 20 photos"]


def test_scores_and_trust_follow_the_answers(open_page: Open) -> None:
    page = open_page()
    assert page.inner_text(".class >> nth=0").splitlines()[-1] == "No answer about cat yet."
    press(page, "cs" * 4)
    until(page, "/AUC\\s+[01]\\.\\d\\d/.test(document.querySelector('.class').innerText)")


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
    saved(page)
    page.keyboard.press("a")
    saved(page)
    first_class = sorted({image for image, _, _ in annotator.rows()})
    last = {image: answer for image, answer, _ in annotator.rows()}
    assert [last[image] for image in first_class] == ["core"] * 2 + ["spurious"] * 3 + ["unsure"] + ["core"] * 2
    assert page.inner_text("#many-title") == "On which photos does the model look beside the sea dog?"


def test_many_by_dragging(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.keyboard.press("g")
    places = [page.locator(".tile").nth(i).bounding_box() for i in range(3)]
    page.mouse.move(places[0]["x"] + 40, places[0]["y"] + 40)
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(place["x"] + 40, place["y"] + 40, steps=4)
    page.mouse.up()
    saved(page)
    assert [answer for _, answer, _ in annotator.rows()] == ["spurious"] * 3


def test_more_of_a_class_click_and_lasso_add_to_the_queue(open_page: Open) -> None:
    page = open_page()
    page.click("[data-more='0']")
    until(page, "document.querySelector('#count').textContent.includes('of 21')")
    page.click("#lasso")
    box = page.locator("#marks").bounding_box()
    x, y, width, height = box["x"], box["y"], box["width"], box["height"]
    page.mouse.move(x + 2, y + 2)
    page.mouse.down()
    for corner in ((width - 2, 2), (width - 2, height - 2), (2, height - 2), (2, 4)):
        page.mouse.move(x + corner[0], y + corner[1], steps=3)
    page.mouse.up()
    until(page, "document.querySelector('#count').textContent.includes('of 33')")
    page.reload()
    until(page, "document.querySelector('#count').textContent.includes('of 33')")


def test_hover_over_a_point_shows_its_photo(open_page: Open) -> None:
    page = open_page()
    until(page, "document.querySelector('#legend').textContent !== ''")
    box = page.locator("#marks").bounding_box()
    for step in range(20):  # along a diagonal, on which the points lie
        page.mouse.move(box["x"] + box["width"] * step / 20, box["y"] + box["height"] * (1 - step / 20))
        if page.locator("#peek").is_visible():
            break
    page.wait_for_selector("#peek img")


def test_phone_width_fits_and_works_by_touch(open_page: Open, annotator: Any) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for answer in ("core", "spurious"):
        button = page.locator(f".answer.{answer}")
        assert button.bounding_box()["height"] >= 44
        button.tap()
    saved(page)
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


@pytest.mark.parametrize("width", [1440, 1280, 1000, 750, 390])
def test_captions_are_whole_at_any_width(open_page: Open, width: int) -> None:
    page = open_page(viewport={"width": width, "height": 800})
    cut = "[...document.querySelectorAll('.panels figcaption')].filter(one => one.scrollWidth > one.clientWidth).length"
    assert page.evaluate(cut) == 0


def test_nothing_moves_from_one_image_to_the_next(open_page: Open) -> None:
    page = open_page()
    places = """["panels", "answers", "strip", "plot"].map(id => {
      const box = document.getElementById(id).getBoundingClientRect();
      return [box.x, box.y, box.width, box.height].map(Math.round);
    })"""
    before = page.evaluate(places)
    for key in "csu" * 3:
        press(page, key)
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


def test_each_key_shows_the_next_image_and_how_soon_is_recorded(
    open_page: Open, record_property: Callable[[str, object], None]
) -> None:
    page = open_page()
    page.wait_for_timeout(1500)
    page.evaluate(LATENCY)
    for _ in range(QUERIES - 1):
        page.keyboard.press("c")
        page.wait_for_timeout(250)
    latencies = sorted(page.evaluate("latencies"))
    assert len(latencies) == QUERIES - 1
    record_property("median_ms", statistics.median(latencies))
    record_property("p95_ms", latencies[int(0.95 * len(latencies))])


def _axe_findings(page: Page, source: str) -> list[str]:
    """What axe-core finds serious or critical on the page as it is."""
    page.evaluate(source)
    run = """async () => (await axe.run()).violations.filter(v => ["serious", "critical"].includes(v.impact))
      .map(v => `${v.id}: ${v.nodes.map(n => n.target.join(" ")).join(", ")}`)"""
    found: list[str] = page.evaluate(run)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_any_state(open_page: Open, scheme: str) -> None:
    reason = "axe is not installed: pip install axe-playwright-python"
    package = pytest.importorskip("axe_playwright_python", reason=reason)
    source = next(Path(package.__file__).parent.rglob("axe.min.js")).read_text()
    page = open_page(color_scheme=scheme)
    press(page, "css")
    saved(page)
    assert _axe_findings(page, source) == []
    page.keyboard.press("g")
    page.wait_for_selector(".tile img")
    page.keyboard.press("u")
    assert _axe_findings(page, source) == []
    page.keyboard.press("g")
    page.click("#stop")
    assert _axe_findings(page, source) == []
    page.click("#help")
    assert _axe_findings(page, source) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_where_people_differ(open_page: Open, scheme: str) -> None:
    package = pytest.importorskip(
        "axe_playwright_python", reason="axe is not installed: pip install axe-playwright-python"
    )
    source = next(Path(package.__file__).parent.rglob("axe.min.js")).read_text()
    ann, _ = differ(lambda name: open_page(name, color_scheme=scheme))
    ann.keyboard.press("d")
    ann.locator(".case canvas").nth(1).wait_for()
    assert _axe_findings(ann, source) == []
    ann.keyboard.press("s")
    saved(ann)
    assert _axe_findings(ann, source) == []
