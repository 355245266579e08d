"""What a model relies on is named, and what is only associated with the class is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slim.errors import DataError, SettingsError
from slim.stages.explain.concepts import find_concepts
from slim.stages.explain.effects import Effect
from slim.stages.explain.explain import explain
from slim.stages.explain.explanation import Errors, Explanation
from slim.stages.explain.page import page, tables
from slim.stages.settings import ExplainSettings

pytestmark = pytest.mark.usefixtures("small_and_quiet")

FEW = ExplainSettings(clusters=6, images=40)
World = Callable[[float], tuple]
Found = Callable[[float], Explanation]


def test_a_sticker_that_the_model_goes_by_is_named_and_the_objects_are_not(explained: Found) -> None:
    found = explained(2.0)
    (sticker,) = found.misleading
    assert (sticker.class_name, round(sticker.own, 1), round(sticker.others, 1)) == ("first", 0.9, 0.1)
    assert sticker.area == pytest.approx(0.5 * 9 / 256, abs=0.002)
    swapped = sticker.misleads["swapped"]
    assert swapped is not None
    assert (swapped.before, swapped.without, swapped.control) == (0.0, 1.0, 0.0)
    assert sticker.errors.accuracy_with == 0.0
    assert sticker.errors.accuracy_without == 1.0
    assert len(found.concepts) > 1


def test_a_sticker_that_the_model_ignores_is_not_named(explained: Found) -> None:
    found = explained(0.0)
    assert found.misleading == ()
    assert any(0 < one.area < 0.03 for one in found.concepts)  # it was measured all the same


def test_the_object_is_needed_by_its_own_class(explained: Found) -> None:
    found = explained(0.0)
    largest = max((one for one in found.concepts if one.area < 0.1), key=lambda one: one.area)
    erased = largest.needs["erased"]
    assert erased is not None
    assert erased.control == 1.0
    assert erased.without < 0.9


def test_the_same_seed_finds_the_same(stickers: World, explained: Found) -> None:
    again, found = explain(*stickers(2.0), FEW), explained(2.0)
    assert again.concepts == found.concepts
    assert np.array_equal(again.pictures, found.pictures)


def test_an_explanation_comes_back_from_its_folder_with_its_names(explained: Found, tmp_path: Path) -> None:
    found = explained(2.0)
    number = found.misleading[0].number
    found = found.named({number: "red sticker"})
    found.save(tmp_path / "explanation")
    loaded = Explanation.load(tmp_path / "explanation")
    assert (loaded.concepts, loaded.properties, loaded.names) == (found.concepts, found.properties, found.names)
    assert loaded.summary().startswith("misleading: red sticker")
    assert loaded.named({number: ""}).names == {}


def test_a_name_for_a_concept_that_is_not_there_is_refused(explained: Found) -> None:
    with pytest.raises(SettingsError, match="Got 99"):
        explained(2.0).named({99: "sticker"})


def test_a_name_is_escaped_on_the_page(explained: Found) -> None:
    found = explained(2.0)
    html = page(found.named({found.misleading[0].number: "<b>sticker</b>"}), "stickers")
    assert "&lt;b&gt;sticker" in html
    assert "<b>sticker" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert len(tables(found)) == 1 + bool(found.properties)


def test_pictures_are_described_and_the_verdict_is_readable_in_dark_mode(explained: Found) -> None:
    found = explained(2.0)
    html = page(found, "stickers")
    assert 'alt=""' not in html
    assert f'alt="Close-up of {found.name(found.misleading[0])}"' in html
    known = set(re.findall(r"(--[a-z]+): #", html.partition("prefers-color-scheme: dark")[2].partition("</style>")[0]))
    assert set(re.findall(r"var\((--[a-z]+)\)", html)) <= known
    assert ".misleads .verdict { color: var(" in html


def test_an_explanation_without_concepts_says_why_nothing_misleads(explained: Found) -> None:
    found = explained(2.0)
    none = found.pictures[:0], found.extremes[:0]
    found = replace(found, concepts=(), properties=(), pictures=none[0], extremes=none[1])
    assert f"none of {found.n_concepts} kinds of places is associated with a class" in found.summary()
    assert "None of them is associated with a class, so there was nothing to erase" in page(found, "stickers")


def test_a_notebook_shows_concepts_and_their_pictures(explained: Found) -> None:
    found = explained(2.0)
    html = found._repr_html_()
    assert found.name(found.misleading[0]) in html
    assert html.count("data:image/") >= found.pictures.any((3, 4, 5)).sum()
    assert set(re.findall(r"var\((--[a-z]+)\)", html)) <= set(re.findall(r"(--[a-z]+): ", html))


def test_attention_without_places_is_refused(stickers: World) -> None:
    data, model, attention = stickers(2.0)
    none = replace(attention.val, places=attention.val.places[:0])
    with pytest.raises(DataError, match="all 64 val images. Got 0"):
        explain(data, model, replace(attention, val=none), FEW)


def test_clusters_that_images_of_a_class_show_together_are_one_concept() -> None:
    rng = np.random.default_rng(0)
    n, y = 120, np.arange(120) % 2
    there = rng.random(n) < np.where(y == 0, 0.9, 0.2)  # leaves and moss: in a forest, of either class
    kinds = rng.integers(3, 5, (n, 8, 8))
    kinds[there, :3], kinds[there, 3:5], kinds[y == 1, 7] = 0, 1, 2
    places = (100 * np.eye(5, dtype=np.int64)[kinds]).astype(np.int8)
    concepts = find_concepts(places, np.ones((n, 8, 8), np.float32), y, 5, 0)
    leaves, moss, other = (concepts.cells(places[there])[0, row, 0] for row in (0, 3, 6))
    assert leaves == moss != other
    assert concepts.cells(places[y == 1])[0, 7, 0] != leaves


def test_a_change_that_the_control_shares_is_not_shown() -> None:
    assert Effect(60, 0.4, 0.9, 0.4, 0.5, 0.3, 0.7).is_shown(1)
    assert not Effect(60, 0.9, 0.9, 0.4, 0.5, 0.3, 0.7).is_shown(1)  # nothing was repaired: the control did harm
    assert not Effect(60, 0.4, 0.9, 0.8, 0.1, -0.1, 0.3).is_shown(1)


def test_few_images_are_no_proof_of_errors() -> None:
    right = np.array([False] * 4 + [True] * 50)
    assert not Errors.measured(right, ~right, 3.0).are_shown
    assert Errors.measured(np.repeat([False, True], 50), np.repeat([True, False], 50), 3.0).are_shown
