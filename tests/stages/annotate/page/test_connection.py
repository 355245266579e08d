"""Lost connections, killed servers and several tabs: no answer is lost or doubled, and every tab follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
