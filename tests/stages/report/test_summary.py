"""The run in short: what was found, what is better and worse, and what it cost; and the recipe that makes it again."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from slim.runs.settings import RunSettings
from slim.stages import STAGES
from slim.stages.report.examples import moved
from slim.stages.report.page import render
from slim.stages.report.recipe import command, recipe_text
from slim.stages.report.records import ReportInput
from slim.stages.report.summary import summary
from slim.stages.retrain.reliance import Reliance

Make = Callable[..., ReportInput]
Rows = Callable[..., Any]


def test_summary_counts_groups_that_are_clearly_better_or_worse(report: Make, rows: Rows) -> None:
    said = dict(summary(report()))
    assert said["What got better"] == "1 of 4 groups; “cat, place=1” went from 40.0\u00a0% to 80.0\u00a0%."
    assert said["What got worse"] == "No group is clearly worse."
    said = dict(summary(report(rows=rows(0.8, None, 0.4))))
    assert said["What got better"] == "No group is clearly better."
    assert said["What got worse"].startswith("1 of 4 groups; “cat, place=1” went from 80.0")


def test_summary_claims_nothing_within_the_margin_of_error(report: Make, rows: Rows) -> None:
    said = dict(summary(report(rows=rows(0.75, None, 0.8))))
    assert said["What got better"] == "No group is clearly better."


@pytest.mark.parametrize(("other", "verdict"), [(0.2, "relies on the background"), (0.85, "hardly matters")])
def test_summary_says_whether_the_background_decides(other: float, verdict: str, report: Make) -> None:
    said = dict(summary(report(reliance=Reliance(600, 0.9, other))))
    assert verdict in said["What was found"]
    assert "90.0\u00a0%" in said["What was found"]


def test_summary_says_what_a_person_spent(report: Make) -> None:
    judgements = {**report().judgements, "seconds": 192.0, "places": 3, "annotator": "ann"}
    cost = dict(summary(report(judgements=judgements)))["What it cost"]
    assert cost.startswith("6 photographs judged in 3\u00a0min 12\u00a0s, 3 of them with a click on the object.")
    assert "judged (simulated from masks; no time recorded)" in dict(summary(report()))["What it cost"]


def test_summary_of_a_kept_model_compares_nothing(report: Make) -> None:
    assert [title for title, _ in summary(report(images="none"))] == ["What it cost"]


def test_recipe_makes_the_same_settings_again() -> None:
    changes = {"train": {"arch": 'odd "name"', "image_size": 96}, "curate": {"size": 60}, "retrain": {"mode": "full"}}
    settings = RunSettings().updated(changes)
    text = recipe_text({verb: settings[verb] for verb in STAGES})
    again = RunSettings().updated(tomllib.loads(text))
    assert [again[verb] for verb in STAGES] == [settings[verb] for verb in STAGES]
    assert recipe_text({verb: RunSettings()[verb] for verb in STAGES}) == ""


def test_recipe_keeps_a_setting_that_was_set_to_none() -> None:
    settings = RunSettings().updated({"train": {"weights": "none"}})
    assert RunSettings().updated(tomllib.loads(recipe_text({"train": settings["train"]})))["train"] == settings["train"]


def test_attention_has_moved_as_far_as_its_share_elsewhere() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.random((2, 5, 7, 7))
    distance = moved(before, after)
    np.testing.assert_allclose(distance, moved(3 * after, before))  # neither order nor scale matters
    assert ((distance > 0) & (distance < 1)).all()
    half = np.zeros((1, 2, 2))
    half[0, 0] = 1
    assert moved(half, np.ones((1, 2, 2))).tolist() == [0.5]


def test_page_shows_examples_whose_attention_moved(report: Make) -> None:
    whole = report()
    assert "moved most" not in render(whole)
    page = render(replace(whole, moved=[replace(whole.examples[0], moved=0.834)]))
    assert "Where the attention moved most" in page
    assert "83&nbsp;% moved" in page


def test_page_marks_where_the_object_was_said_to_be(report: Make) -> None:
    from slim.stages.judgements import Place

    whole = report()
    pages = [
        render(replace(whole, queries=[replace(whole.queries[0], place=place)]))
        for place in (None, Place(0.5, 0.5), Place(0.5, 0.5, 0.4, 0.4))
    ]
    assert len(set(pages)) == 3


def test_page_says_how_to_make_the_run_again(report: Make) -> None:
    page = render(report(recipe="[curate]\nsize = 60", command="slim run runs/again --data IMAGES --seed 3"))
    assert "[curate]\nsize = 60</pre>" in page
    assert "slim run runs/again --data IMAGES --seed 3</pre>" in page


def test_command_that_makes_a_run_again_reads_the_same_images() -> None:
    """The same attribute and masks, without which the fingerprint is another; no path of this machine."""
    own = {"source": "/home/me/birds", "root": None, "attribute": ["place", "day time"], "mask": "/home/me/coco.json"}
    again = "slim run runs/again --data IMAGES --attribute place --attribute 'day time' --mask coco.json"
    assert command(own, "", 3) == f"{again} --seed 3"
    assert command(own, "[curate]\nsize = 60", 3) == f"{again} --recipe recipe.toml --seed 3"
    benchmark = {"source": "waterbirds", "root": "/data/waterbirds", "attribute": None, "mask": None}
    assert command(benchmark, "", 0) == "slim run runs/again --data waterbirds --root IMAGES --seed 0"
    assert command({}, "", 0) == command({"source": None, "attribute": []}, "", 0)
