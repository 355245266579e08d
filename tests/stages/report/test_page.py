"""The page makes no request, escapes every text, and holds together when parts are missing."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slim.stages.report.figure import draw_space
from slim.stages.report.findings import metrics
from slim.stages.report.page import render
from slim.stages.report.records import DataSummary, ModelRow, QueryCard
from slim.stages.report.views import MAX_POINTS, THUMBNAIL

Make = Callable[..., Any]
Rows = Callable[..., list[ModelRow]]


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is None:
            self.text += " ".join(data.split()) + " "


def sources(page: str) -> list[str]:
    return [str(attributes["src"]) for tag, attributes in Tags(page).tags if tag == "img"]


def test_page_is_the_same_for_the_same_input(report: Make) -> None:
    assert render(report()) == render(report())


def test_page_requests_nothing(report: Make) -> None:
    page = render(report())
    parsed = Tags(page)
    loaded = [
        attributes[name]
        for _, attributes in parsed.tags
        for name in ("src", "href", "srcset", "data", "poster", "action", "background")
        if attributes.get(name)
    ]
    assert loaded
    assert all(str(address).startswith(("data:", "#")) for address in loaded)
    style = "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for tag, a in parsed.tags if tag == "meta" and "http-equiv" in a)
    assert str(policy).startswith("default-src 'none'")
    assert "http" not in str(policy)


def test_page_escapes_every_text(report: Make, rows: Rows) -> None:
    nasty = "<b>x</b></script><script>alert(1)</script>"
    plain = report()
    broken = replace(
        plain,
        title=nasty,
        data=replace(plain.data, name=nasty, class_names=(nasty, "dog"), attribute_names=(nasty, "place=1")),
        rows=[replace(row, title=nasty, supervision=nasty) for row in rows(shares={nasty: 0.5, "dog": 0.5})],
        judgements={**plain.judgements, "annotator": nasty},
        trust=[{**plain.trust[0], "class_name": nasty, "verdict": nasty}],
        subset=[{**plain.subset[0], "class": nasty}],
        examples=[replace(plain.examples[0], label=nasty, group=nasty)],
        queries=[replace(plain.queries[0], label=nasty, answer='"><i>')],
        stages=[{"stage": nasty, "seconds": 1.0}],
        settings={nasty: {nasty: nasty}},
        warnings=[nasty],
    )
    page = render(broken)
    assert "<script>alert" not in page
    assert "<b>x" not in page
    assert '"><i>' not in page
    assert page.count("&lt;b&gt;x&lt;/b&gt;") > 10


def test_page_embeds_photographs_small(report: Make) -> None:
    images = sources(render(report(scatter=None)))
    assert len(images) == 3 + 14
    for source in images:
        image = Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))))
        assert image.size == (THUMBNAIL, THUMBNAIL * 3 // 4)


def test_page_colours_a_photograph_where_the_model_looks(report: Make) -> None:
    grey = Image.new("RGB", (160, 160), (128, 128, 128))
    left = np.zeros((8, 8))
    left[:, :4] = 1
    page = render(report(examples=[], scatter=None, queries=[QueryCard(grey, left, "cat", "core")]))
    (source,) = sources(page)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))), dtype=float)
    assert image[:, :40].mean() > 150
    assert image[:, -40:] == pytest.approx(128, abs=2)  # clear where it does not look


def test_page_leaves_photographs_and_maps_as_they_were(report: Make, photograph: Make) -> None:
    photo, attention_map = photograph(0), np.full((7, 7), 0.5)
    before = photo.copy()
    render(report(queries=[QueryCard(photo, attention_map, "cat", "core")]))
    assert photo.size == before.size
    assert np.array_equal(np.asarray(photo), np.asarray(before))
    assert (attention_map == 0.5).all()


def test_page_puts_the_rarest_group_first(report: Make, training_shares: Mapping[str, float]) -> None:
    text = Tags(render(report(examples=[]))).text
    text = text[text.index("Accuracy by group") :]
    places = [text.index(name) for name in sorted(training_shares, key=training_shares.__getitem__)]
    assert places == sorted(places)


def test_page_marks_right_and_wrong_predictions(report: Make) -> None:
    marks = [a["aria-label"] for tag, a in Tags(render(report())).tags if a.get("class") == "mark"]
    assert marks == ["wrong", "right"]


def test_page_warns_before_the_numbers_are_trusted(report: Make, rows: Rows) -> None:
    several = rows()
    one_class = {**several[2].evaluation, "predicts_one_class": True, "missing_groups": ["dog, place=0"]}
    broken = report(rows=[*several[:2], replace(several[2], evaluation=one_class)], warnings=["Look twice."])
    text = Tags(render(broken)).text
    for notice in ("Look twice.", "Retrained model predicts one class for every test image", "dog, place=0. The true"):
        assert notice in text
    assert text.index("Look twice.") < text.index("Supervision and results")
    assert metrics(broken)["warnings"][0] == "Look twice."


def test_page_without_warnings_has_no_warning_box(report: Make) -> None:
    assert "Read this before" not in render(report())


def test_page_without_masks_says_that_attention_cannot_be_measured(report: Make, rows: Rows) -> None:
    text = Tags(render(report(rows=rows(masks=False)))).text
    assert "the attention cannot be measured" in text
    assert "uniform map" not in text


def test_page_without_attributes_says_what_the_groups_are(report: Make, scatter: Make, rows: Rows) -> None:
    classes = [f"species number {i} with a long name" for i in range(5)]
    shares: dict[str, float | None] = {f"{name}, cell {cell}": None for name in classes for cell in range(3)}
    few = DataSummary("birds", {"train": 500, "test": 200}, classes)
    points = replace(scatter(), a=None)
    text = Tags(render(report(data=few, rows=rows(masks=False, shares=shares), scatter=points))).text
    assert "label × curated cell" in text
    assert "Adjusted" not in text.split("Terms used on this page")[0]
    assert "Spurious attribute" not in text
    assert all(name in text for name in shares)


def test_page_shows_a_group_without_test_images(report: Make, rows: Rows) -> None:
    several = rows()
    groups = [dict(group) for group in several[0].evaluation["groups"]]
    groups[0].update(n=0, correct=0, accuracy=float("nan"), low=float("nan"), high=float("nan"))
    broken = [replace(row, evaluation={**row.evaluation, "groups": groups}) for row in several]
    assert "nan" not in Tags(render(report(rows=broken))).text


def test_page_holds_together_with_nothing_to_show(report: Make, rows: Rows) -> None:
    bare = report(
        rows=rows(random_subset=None),
        examples=[],
        queries=[],
        scatter=None,
        subset=[],
        trust=[],
        stages=[],
        settings={},
    )
    page = render(bare)
    assert "There are no photographs to show." in page
    assert "The attention space" not in Tags(page).text
    assert len(page) < 200_000


def test_page_samples_a_large_attention_space_and_says_so(report: Make, scatter: Make) -> None:
    page = render(report(scatter=scatter(MAX_POINTS + 500)))
    assert "Shown: 20,000 of 20,500 images" in Tags(page).text
    assert "20,000 training images by attention score, label and spurious attribute, with 6 judged images" in page


def test_page_has_no_script_and_forbids_any(report: Make) -> None:
    page = render(report())
    assert "<script" not in page
    assert "script-src" not in page
    assert "default-src 'none'" in page


def test_space_is_drawn_with_a_panel_for_each_way_to_colour_it(scatter: Make) -> None:
    with_attribute = draw_space(scatter(), np.arange(60))
    without = draw_space(replace(scatter(), a=None), np.arange(60))
    assert with_attribute.width > without.width > without.height
    unmarked = draw_space(replace(scatter(), a=None, queries=np.arange(0), answers=[]), np.arange(60))
    black = [int((np.asarray(picture.convert("L")) < 30).sum()) for picture in (without, unmarked)]
    assert black[0] > black[1] + 100


def test_names_in_any_script_are_in_the_legend_and_draw_no_warning(report: Make) -> None:
    data = DataSummary("pets", {"train": 60, "test": 20}, ("\u72ac", "\u0643\u0644\u0628"), ("$a$", "\U0001f415"))
    text = Tags(render(report(data=data))).text
    assert all(name in text for name in (*data.class_names, *data.attribute_names))


def test_page_says_times_as_people_do(report: Make) -> None:
    text = Tags(render(report())).text
    assert "1 min 35 s" in text
    assert "1 h 6 min" in text


def test_page_gives_every_image_a_text_and_every_section_a_heading(report: Make) -> None:
    tags = Tags(render(report())).tags
    identifiers = {attributes.get("id") for _, attributes in tags}
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
    assert all(attributes["aria-labelledby"] in identifiers for tag, attributes in tags if tag == "section")
    assert sum(tag == "h1" for tag, _ in tags) == 1


def test_page_describes_the_method_that_was_used(report: Make) -> None:
    regression, spreading = (Tags(render(report(method=method))).text for method in ("regression", "spreading"))
    assert "One logistic regression on all judgements" in regression
    assert "neighbours" not in regression
    assert "label spreading carries the judgements from the marked points to their neighbours" in spreading
    assert "regression" not in spreading


def test_page_says_what_was_retrained(report: Make, rows: Rows) -> None:
    last_layer, full = (Tags(render(report(retrained=mode))).text for mode in ("last-layer", "full"))
    assert "refits the last layer of the reference model to a subset of the training images;" in last_layer
    assert "training images together with all validation images;" in Tags(render(report(fits_val=True))).text
    assert "Images fitted to" in last_layer
    assert "trains the whole network again" in full
    assert "Images trained on" in full
    recomposed = Tags(render(report(images="recomposed"))).text
    assert "SLIM was retrained on recomposed images of the whole training split" in recomposed
    assert "used in the same way" not in recomposed
    assert "recomposed" not in last_layer
    assert "random subset of the same size" not in Tags(render(report(rows=rows(random_subset=None)))).text


def test_page_names_the_pool(report: Make) -> None:
    judgements = {**report().judgements, "pool": "val", "share_of_pool": 0.06}
    text = Tags(render(report(judgements=judgements))).text
    assert "6 images, 6.0 % of the validation images, were judged" in text.replace("\u00a0", " ")
    assert "one of the validation images" in text
    assert "(6.0 % of the validation images)" in text.replace("\u00a0", " ")
    assert "of the training images" not in text.split("Terms used on this page")[0]


def test_page_says_that_images_repeat_only_where_they_do(report: Make) -> None:
    repeated = [{**report().subset[0], "available": 3}]
    assert "repeat" not in Tags(render(report())).text
    assert "Where more images were chosen than were available, images repeat." in render(report(subset=repeated))
