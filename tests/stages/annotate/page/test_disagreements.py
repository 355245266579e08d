"""Several people who disagree, and settle it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Page = Any  # tests/stages/annotate/page/conftest.py: AnnotatorPage
Open = Callable[..., Page]


def test_differences_are_listed_and_settled_by_keyboard(disagreeing: Open, annotator: Any) -> None:
    ann, bob = disagreeing()
    ann.keyboard.press("d")
    cases = ann.locator(".case")
    cases.nth(1).wait_for()
    cases.nth(0).locator(".pair .layer").wait_for()
    assert cases.nth(0).locator(".votes").inner_text().split() == ["ann", "core", "bob", "spurious"]
    assert cases.nth(1).locator(".votes").inner_text().split() == ["ann", "core", "bob", "unsure"]
    ann.keyboard.press("s")
    ann.keyboard.press("u")
    ann.wait_saved()
    assert ann.inner_text("#settle-title") == "All disagreements are settled"
    ann.wait_until("document.querySelector('#together').textContent.includes('2 photos (2 settled)')")
    bob.wait_until("document.querySelector('#differing').textContent === ''")
    ann.keyboard.press("z")
    ann.wait_saved()
    bob.wait_until("document.querySelector('#differing').textContent === '1'")
    second = [image for image, _, who in annotator.rows() if who == "ann"][1]  # Bob's answers may come between hers
    assert annotator.settled() == [[second, "spurious", "ann"]]
    assert len(annotator.rows()) == 9  # everybody's own, and the three that settle or take it back
    ann.keyboard.press("d")
    assert ann.inner_text("#count").startswith("3 of 16")  # which are no answers of one's own


def test_differences_move_by_arrows_and_settle_by_mouse(disagreeing: Open, annotator: Any) -> None:
    ann, _ = disagreeing()
    ann.click("#view-settle")
    ann.locator(".case").nth(1).wait_for()
    ann.keyboard.press("ArrowDown")
    ann.wait_until("document.activeElement === document.querySelectorAll('.case')[1]")
    ann.keyboard.press("c")
    ann.locator(".case").nth(0).locator("[data-settle=unsure]").click()
    ann.wait_saved()
    assert sorted(answer for _, answer, _ in annotator.settled()) == ["core", "unsure"]
    ann.locator(".case").nth(0).locator("[data-settle=unsure]").click()  # again takes it back
    ann.wait_saved()
    assert [answer for _, answer, _ in annotator.settled()] == ["core"]


def _with_differences_on_their_way(disagreeing: Open) -> tuple[Page, list[Any]]:
    """Ann's list of disagreements, and the requests that ask for it anew, which wait for an answer."""
    ann, bob = disagreeing()
    ann.click("#view-settle")
    ann.locator(".case").nth(1).wait_for()
    held: list[Any] = []
    ann.route("**/api/differences*", lambda route: held.append(route))
    bob.keyboard.press("c")  # news, for which ann's page asks anew
    while not held:
        ann.wait_for_timeout(20)
    return ann, held


def test_differences_that_come_late_do_not_take_the_focus_back(disagreeing: Open) -> None:
    ann, held = _with_differences_on_their_way(disagreeing)
    ann.keyboard.press("ArrowDown")
    ann.evaluate("document.querySelector('.case').dataset.before = '1'")
    for route in held:
        route.continue_()
    ann.wait_until("!document.querySelector('.case').dataset.before")  # drawn anew
    assert ann.evaluate("document.activeElement === document.querySelectorAll('.case')[1]")


def test_differences_that_come_in_leave_the_focus_on_its_button(disagreeing: Open, annotator: Any) -> None:
    ann, held = _with_differences_on_their_way(disagreeing)
    ann.locator(".case").nth(1).locator("[data-settle=core]").focus()
    ann.evaluate("document.querySelector('.case').dataset.before = '1'")
    for route in held:
        route.continue_()
    ann.wait_until("!document.querySelector('.case').dataset.before")  # drawn anew
    ann.keyboard.press("Space")  # which presses the button, and is not the key for unsure
    ann.wait_saved()
    assert [answer for _, answer, _ in annotator.settled()] == ["core"]


def test_differences_that_come_late_do_not_hide_what_was_settled_meanwhile(disagreeing: Open, annotator: Any) -> None:
    ann, held = _with_differences_on_their_way(disagreeing)
    late = held[0].fetch()  # as it was before she settles
    button = ann.locator(".case").nth(0).locator("[data-settle=unsure]")
    button.click()
    held[0].fulfill(response=late)
    ann.wait_saved()
    while len(held) < 2:  # it has been dropped, and the list is loaded again
        ann.wait_for_timeout(20)
    assert button.get_attribute("aria-pressed") == "true"
    for route in held[1:]:
        route.continue_()
    ann.unroute_all()
    button.click()  # so that this takes it back
    ann.wait_saved()
    assert annotator.settled() == []


def test_settled_answer_that_nobody_gives_any_more_can_be_seen_and_taken_back(
    disagreeing: Open, annotator: Any
) -> None:
    ann, bob = disagreeing()
    ann.keyboard.press("d")
    ann.locator(".case").nth(1).wait_for()
    ann.keyboard.press("s")
    ann.wait_saved()
    bob.click("[data-at='1']")
    bob.keyboard.press("c")
    bob.wait_saved()
    first = ann.locator(".case").nth(0)
    ann.wait_until("document.querySelector('.case .votes').innerText.split(/\\s+/).join() === 'ann,core,bob,core'")
    assert first.locator(".state").inner_text() == "Settled by ann"
    first.locator("[data-settle=spurious]").click()
    ann.wait_saved()
    ann.wait_until("document.querySelectorAll('.case').length === 1")
    assert annotator.settled() == []
