"""The map of all photos beside the queries: scores, clusters, and photos picked on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Page = Any  # tests/stages/annotate/page/conftest.py: AnnotatorPage
Open = Callable[..., Page]


def test_map_by_environment_names_its_clusters(open_page: Open) -> None:
    page = open_page()
    page.wait_until("document.querySelector('#colour').options.length === 5")
    page.select_option("#colour", "environment")
    page.wait_until("document.querySelector('#legend').textContent.includes('photos')")
    assert page.inner_text("#legend").split("\n") == ["1: 20 photos", "2: 20 photos", "3: 20 photos"]


def test_scores_and_trust_follow_the_answers(open_page: Open) -> None:
    page = open_page()
    assert page.inner_text(".class >> nth=0").splitlines()[-1] == "No answers for cat yet."
    page.answer("cs" * 4)
    page.wait_until("/AUC\\s+[01]\\.\\d\\d/.test(document.querySelector('.class').innerText)")


def test_more_of_a_class_click_and_lasso_add_to_the_queue(open_page: Open) -> None:
    page = open_page()
    page.click("[data-more='0']")
    page.wait_for_count("of 21")
    page.click("#lasso")
    box = page.locator("#marks").bounding_box()
    x, y, width, height = box["x"], box["y"], box["width"], box["height"]
    page.mouse.move(x + 2, y + 2)
    page.mouse.down()
    for corner in ((width - 2, 2), (width - 2, height - 2), (2, height - 2), (2, 4)):
        page.mouse.move(x + corner[0], y + corner[1], steps=3)
    page.mouse.up()
    page.wait_for_count("of 33")
    page.reload()
    page.wait_for_count("of 33")


def test_added_photo_is_shown_even_if_the_queue_has_it_before_the_response(open_page: Open) -> None:
    page = open_page()
    held: list[Any] = []
    page.route("**/api/more*", lambda route: held.append((route, route.fetch())))
    page.click("[data-more='0']")
    page.wait_for_count("of 21")
    route, response = held[0]
    route.fulfill(response=response)
    page.wait_until("document.querySelector('#strip [aria-current=true]').dataset.at === '16'")


def test_hover_over_a_point_shows_its_photo(open_page: Open) -> None:
    page = open_page()
    page.wait_until("document.querySelector('#legend').textContent !== ''")
    box = page.locator("#marks").bounding_box()
    for step in range(20):  # along a diagonal, on which the points lie
        page.mouse.move(box["x"] + box["width"] * step / 20, box["y"] + box["height"] * (1 - step / 20))
        if page.locator("#peek").is_visible():
            break
    page.wait_for_selector("#peek img")
