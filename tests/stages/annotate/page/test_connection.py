"""Lost connections, killed servers and several tabs: no answer is lost or doubled, and every tab follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

Page = Any  # tests/stages/annotate/page/conftest.py: AnnotatorPage
Open = Callable[..., Page]
QUERIES = 16


def test_server_killed_in_the_middle_loses_nothing(open_page: Open, killable: Any) -> None:
    page = open_page(link=killable.link)
    page.answer("cc")
    page.wait_saved()
    page.wait_prefetched()
    killable.kill()
    page.answer("su")
    page.wait_for_selector("#saved[data-state=off]")
    assert page.inner_text("#saved") == "No connection: 2 answers stored in this browser"
    killable.start()
    page.wait_saved()
    page.answer("c")
    page.wait_saved()
    assert [answer for _, answer, _ in killable.rows()] == ["core", "core", "spurious", "unsure", "core"]
    page.wait_until("document.querySelector('.class').innerText.includes('3 core, 1 spurious')")


def test_offline_and_closed_the_answers_are_sent_later(open_page: Open, annotator: Any) -> None:
    page = open_page()
    page.wait_prefetched()
    page.context.set_offline(True)
    page.answer("cs")
    page.wait_for_selector("#saved[data-state=off]")
    assert annotator.rows() == []
    page.close()
    page.context.set_offline(False)
    again = page.new_tab()
    again.wait_saved()
    again.wait_for_count("2 of 16")
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
    page.answer("c")
    page.wait_for_selector("#saved[data-state=off]")
    page.wait_saved()
    assert lost[0].json()["new"] == 1
    assert len(annotator.rows()) == 1


def test_photo_that_a_lost_connection_holds_back_comes_by_itself(open_page: Open) -> None:
    page = open_page()
    for what in ("photo", "map", "spotlight"):
        page.route(f"**/{what}/*", lambda route: route.abort())
    page.click("[data-at='12']")
    page.wait_for_selector("#frame-map.lost")
    assert page.notice("map") == "No connection. The photo will load when it is back."
    page.unroute_all()
    page.wait_for_selector("#frame-photo img")
    assert page.locator("#frame-map.lost").count() == 0


def test_two_browsers_at_once_lose_and_double_nothing(open_page: Open, annotator: Any) -> None:
    ann, bob = open_page("ann"), open_page("bob")
    for key in "csuc" * 4:
        ann.answer(key)
        bob.answer("c")
    ann.wait_saved()
    bob.wait_saved()
    rows = annotator.rows()
    assert len(rows) == 2 * QUERIES
    assert [answer for _, answer, who in rows if who == "bob"] == ["core"] * QUERIES
    ann.wait_for_selector("#together:visible")
    assert "Krippendorff" in ann.inner_text("#together")


def test_second_tab_of_the_same_person_follows(open_page: Open, annotator: Any) -> None:
    page = open_page()
    other = page.new_tab()
    first = page.photo()
    assert other.photo() == first
    page.answer("cs")
    other.wait_for_count("2 of 16")
    assert other.photo() == page.photo() != first
    page.keyboard.press("z")
    other.wait_for_count("1 of 16")


def test_photos_added_in_one_tab_appear_in_another(open_page: Open) -> None:
    page = open_page()
    other = page.new_tab()
    page.click("[data-more='0']")
    other.wait_for_count("of 21")


def test_many_tabs_at_once_all_work(open_page: Open, annotator: Any) -> None:
    page = open_page()
    tabs = [page.new_tab() for _ in range(6)]
    tabs[-1].answer("c")
    tabs[-1].wait_saved()
    for tab in (page, *tabs):
        tab.wait_for_count("1 of 16")


def _hide(page: Page, *, hidden: bool) -> None:
    """Bring the tab to the background, or back."""
    script = """hidden => {
      Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(script, hidden)


def test_time_in_the_background_is_not_counted_though_another_tab_answers_meanwhile(
    open_page: Open, annotator: Any
) -> None:
    page = open_page()
    other = page.new_tab()
    _hide(page, hidden=True)
    page.wait_for_timeout(1000)
    other.answer("c")  # which shows the next photo in both tabs
    page.wait_for_count("1 of 16")
    _hide(page, hidden=False)
    with page.expect_request("**/api/posts") as request:
        page.answer("s")
    [post] = request.value.post_data_json["posts"]
    assert 0 <= post["seconds"] < 1
    page.wait_saved()
    assert [answer for _, answer, _ in annotator.rows()] == ["core", "spurious"]


def test_answer_that_the_server_refuses_is_set_aside_and_blocks_no_other(open_page: Open, annotator: Any) -> None:
    page = open_page()
    first = page.photo()
    page.wait_prefetched()
    page.context.set_offline(True)
    page.answer("csu")
    page.evaluate("""() => {
      const key = Object.keys(localStorage).filter(key => key.includes(":ann:")).sort()[0];
      localStorage.setItem(key, localStorage.getItem(key).replace('"core"', '"right"'));
    }""")
    page.context.set_offline(False)
    page.wait_for_selector("#trouble[open]")
    assert page.inner_text("#trouble-title") == "An answer was refused and set aside"
    assert "Got 'right'" in page.inner_text("#trouble-text")
    page.keyboard.press("Escape")
    page.wait_saved()
    page.wait_for_count("2 of 16")  # the refused one does not count
    assert [answer for _, answer, _ in annotator.rows()] == ["spurious", "unsure"]
    page.reload()
    assert page.photo() == first
    page.answer("c")
    page.wait_saved()
    assert [answer for _, answer, _ in annotator.rows()] == ["spurious", "unsure", "core"]


def _leave_an_answer(page: Page, name: str) -> None:
    """Let an answer wait in the browser under a name, as a tab leaves it that is closed while offline."""
    script = """name => {
      const post = {key: "left", index: 2, answer: "unsure", seconds: 1};
      const run = new URL(document.querySelector("#frame-photo img").src).searchParams.get("v");
      localStorage.setItem(`slim:${run}:${name}:000000000000001-000000-left`, JSON.stringify(post));
    }"""
    page.evaluate(script, name)


def test_answers_that_wait_under_another_name_are_sent_too(open_page: Open, annotator: Any) -> None:
    page = open_page()
    _leave_an_answer(page, "bob")
    page.answer("c")
    page.wait_until("Object.keys(localStorage).length === 1")  # one's own name
    assert sorted(annotator.rows()) == [[0, "core", "ann"], [2, "unsure", "bob"]]


def test_answers_that_wait_under_a_name_that_is_refused_go_under_the_present_one(
    open_page: Open, annotator: Any
) -> None:
    page = open_page()
    _leave_an_answer(page, "a\x07")
    page.reload()
    page.wait_for_count("1 of 16")
    page.wait_saved()
    assert annotator.rows() == [[2, "unsure", "ann"]]
    assert page.evaluate("Object.keys(localStorage).length") == 1


def test_name_that_is_refused_is_asked_for_again(open_page: Open, annotator: Any) -> None:
    page = open_page("علی\u200cرضا")
    page.answer("c")
    page.click("#who")
    page.fill("#name", "b\x07")
    page.keyboard.press("Enter")
    page.wait_for_selector("#trouble[open]")
    assert page.inner_text("#trouble-title") == "This name cannot be used"
    page.keyboard.press("Escape")
    page.fill("#name", "bob")
    page.keyboard.press("Enter")
    page.wait_until("document.querySelector('#who').textContent === 'bob'")
    page.answer("s")
    page.wait_saved()
    assert [row[1:] for row in annotator.rows()] == [["core", "علی\u200cرضا"], ["spurious", "bob"]]


@pytest.fixture
def other_site(annotator: Any) -> Iterator[str]:
    """A page of another site, which has the link."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f'<a href="{annotator.link}">Help me judge these</a>'.encode())

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


def test_link_opens_the_page_from_another_site(browser: Any, other_site: str) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(other_site)
        page.click("a")
        page.wait_for_selector("#intro[open]")
