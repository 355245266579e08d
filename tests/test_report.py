"""The report says what the numbers say, asks the network for nothing, and holds together when parts are missing."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from slim.errors import ArtifactError
from slim.report import (
    MAX_POINTS,
    THUMBNAIL,
    DataSummary,
    Example,
    ModelKey,
    ModelRow,
    QueryCard,
    ReportInput,
    Scatter,
    headline,
    metrics,
    table,
    write_report,
)

TITLES: dict[ModelKey, str] = {
    "reference": "Reference model",
    "random_subset": "Random subset",
    "retrained": "Retrained model",
}
SHARES = {"cat, place=0": 0.47, "cat, place=1": 0.03, "dog, place=0": 0.02, "dog, place=1": 0.48}


def attention(value: float) -> dict[str, Any]:
    names = ("inside_fraction", "iou", "aiou", "energy_inside", "pointing_game")
    return {name: {"value": value, "uniform": 0.25, "n": 40} for name in names}


def evaluation(
    worst: float, half_width: float = 0.05, *, masks: bool = True, shares: Mapping[str, float | None] = SHARES
) -> dict[str, Any]:
    """An evaluation whose first rare group is the worst one."""
    names = list(shares)
    accuracy = {name: max(0.95, worst) for name in names} | {names[1]: worst}
    groups = [
        {
            "name": name,
            "n": 100,
            "correct": round(100 * accuracy[name]),
            "accuracy": accuracy[name],
            "low": max(0.0, accuracy[name] - half_width),
            "high": min(1.0, accuracy[name] + half_width),
            "training_share": shares[name],
        }
        for name in names
    ]
    return {
        "worst_group_accuracy": worst,
        "worst_group": names[1],
        "average_accuracy": 0.9,
        "adjusted_average_accuracy": 0.93 if None not in shares.values() else None,
        "group_mean_accuracy": 0.88,
        "groups": groups,
        "groups_are": "label x attribute" if None not in shares.values() else "label x curated cell",
        "missing_groups": [],
        "attention": attention(0.6) if masks else None,
        "predicts_one_class": False,
    }


def rows(
    reference: float = 0.4, random_subset: float | None = 0.5, retrained: float = 0.8, **options: Any
) -> list[ModelRow]:
    worst: dict[ModelKey, float | None] = {
        "reference": reference,
        "random_subset": random_subset,
        "retrained": retrained,
    }
    return [
        ModelRow(key, TITLES[key], "class labels", 120, evaluation(value, **options))
        for key, value in worst.items()
        if value is not None
    ]


def photograph(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def scatter(n: int = 60) -> Scatter:
    rng = np.random.default_rng(0)
    queries = np.arange(0, 6)
    answers = ["core", "spurious", "unsure"] * 2
    return Scatter(
        rng.normal(size=(n, 2)), rng.integers(0, 2, n), rng.random(n), queries, answers, rng.integers(0, 2, n)
    )


def report(**changes: Any) -> ReportInput:
    """A whole report of two classes and two attributes."""
    rng = np.random.default_rng(0)
    maps: dict[ModelKey, np.ndarray] = {"reference": rng.random((7, 7)), "retrained": rng.random((7, 7))}
    example = Example(
        photograph(0), maps, "cat", {"reference": ("dog", 0.8), "retrained": ("cat", 0.9)}, "cat, place=1"
    )
    groups = [{"name": name, "train": round(1000 * share)} for name, share in SHARES.items()]
    whole = ReportInput(
        title="a run",
        data=DataSummary(
            "pets", {"train": 1000, "val": 100, "test": 400}, ("cat", "dog"), ("place=0", "place=1"), groups
        ),
        rows=rows(),
        judgements={
            "asked": 6,
            "core": 2,
            "spurious": 2,
            "unsure": 2,
            "share_of_train": 0.006,
            "annotator": "simulated from masks",
        },
        subset_size=120,
        seed=3,
        version="0.1.0",
        created="2024-10-01",
        trust=[
            {
                "class_name": name,
                "auc": auc,
                "low": auc,
                "high": auc,
                "verdict": "above chance",
                "n_core": 1,
                "n_spurious": 1,
                "n_unsure": 1,
            }
            for name, auc in (("cat", 0.8), ("dog", float("nan")))
        ],
        scatter=scatter(),
        subset=[
            {"class": "cat", "core_cluster": i, "environment_cluster": j, "available": 30, "share": 0.25, "size": 7}
            for i, j in ((0, 0), (0, 1), (1, 1))
        ],
        examples=[example],
        queries=[QueryCard(photograph(i), rng.random((7, 7)), "dog", "spurious") for i in range(14)],
        stages=[{"stage": "train", "seconds": 95.0}, {"stage": "embed", "seconds": 4000.0}],
        settings={"train": {"learning_rate": 0.001, "momentum": None}},
    )
    return replace(whole, **changes)


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


def page_of(folder: Path, given_report: ReportInput) -> str:
    return write_report(folder, given_report).read_text(encoding="utf-8")


def sources(page: str) -> list[str]:
    return [str(attributes["src"]) for tag, attributes in Tags(page).tags if tag == "img"]


def test_metrics_have_every_key_a_script_reads() -> None:
    values = metrics(report())
    assert {"judgements", "judgement_answers", "trust", "seed", "version", "warnings", "headline"} <= set(values)
    assert (values["judgements"], values["train_images"], values["subset_size"]) == (6, 1000, 120)
    for key in ("reference", "random_subset", "retrained"):
        assert values[key]["inside_fraction"] == 0.6
        assert values[key]["adjusted_average_accuracy"] == 0.93
        assert [group["name"] for group in values[key]["groups"]] == list(SHARES)
        assert (values[key]["train_images"], values[key]["supervision"]) == (120, "class labels")
    assert values["retrained"]["worst_group_accuracy"] == 0.8


def test_metrics_hold_none_where_a_number_is_undefined() -> None:
    values = metrics(report())
    assert values["trust"][1]["auc"] is None
    json.dumps(values, allow_nan=False)


def test_metrics_turn_numpy_values_into_json() -> None:
    values = metrics(
        report(
            judgements={"asked": np.int64(6), "share_of_train": np.float32(np.nan)}, settings={"a": {"b": Path("c")}}
        )
    )
    assert values["judgements"] == 6
    assert values["judgement_answers"]["share_of_train"] is None
    assert values["settings"] == {"a": {"b": "c"}}


def test_metrics_of_a_model_that_was_not_evaluated_are_none() -> None:
    assert metrics(report(rows=rows(random_subset=None)))["random_subset"] is None


def test_metrics_without_masks_have_no_inside_fraction() -> None:
    assert metrics(report(rows=rows(masks=False)))["retrained"]["inside_fraction"] is None


@pytest.mark.parametrize(
    ("worst", "half_width", "verdict", "words"),
    [
        ((0.4, 0.5, 0.8), 0.05, "helped", "SLIM raised worst-group accuracy from 40.0 % to 80.0 %."),
        ((0.4, 0.75, 0.8), 0.05, "near_random", "its lead over a random subset is within the error"),
        ((0.75, 0.7, 0.8), 0.05, "within_error", "SLIM’s gain is within the error"),
        ((0.4, 0.85, 0.8), 0.05, "no_better_than_random", "SLIM did not help here: a random subset"),
        (
            (0.8, 0.5, 0.7),
            0.01,
            "did_not_help",
            "SLIM did not help here: worst-group accuracy went from 80.0 % to 70.0 %",
        ),
        ((0.8, 0.5, 0.8), 0.05, "did_not_help", "SLIM did not help here"),
    ],
)
def test_headline_says_what_the_numbers_say(
    worst: tuple[float, float, float], half_width: float, verdict: str, words: str
) -> None:
    found = headline(report(rows=rows(*worst, half_width=half_width)))
    assert found.verdict == verdict
    assert words in found.text.replace("\u00a0", " ")


def test_headline_names_the_error_where_intervals_overlap() -> None:
    detail = headline(report(rows=rows(0.75, 0.5, 0.8))).detail.replace("\u00a0", " ")
    assert "The difference from the reference model is within the error: the 95 % intervals overlap." in detail
    assert "The difference from a random subset of the same size (50.0 %) is larger than the error." in detail


def test_headline_without_an_interval_claims_no_difference() -> None:
    unknown = rows(0.4, None, 0.8)
    bare = {**unknown[0].evaluation, "groups": []}
    assert headline(report(rows=[replace(unknown[0], evaluation=bare), unknown[1]])).verdict == "within_error"


@given(*[st.floats(0, 1)] * 3, st.floats(0, 0.3))
def test_headline_claims_a_gain_only_beyond_the_error(
    reference: float, by_chance: float, retrained: float, half_width: float
) -> None:
    found = headline(report(rows=rows(reference, by_chance, retrained, half_width=half_width), examples=[], queries=[]))
    assert ("SLIM raised" in found.text) == (found.verdict in {"helped", "near_random"})
    if "SLIM raised" in found.text:
        assert retrained > by_chance
        assert max(0.0, retrained - half_width) > min(1.0, reference + half_width)


def test_report_needs_the_two_models_that_it_compares() -> None:
    with pytest.raises(ArtifactError, match="Got rows for: reference"):
        report(rows=rows()[:1])


def test_write_report_leaves_two_whole_files(tmp_path: Path) -> None:
    given_report = report()
    path = write_report(tmp_path / "8-report", given_report)
    assert sorted(file.name for file in path.parent.iterdir()) == ["metrics.json", "report.html"]
    assert json.loads((path.parent / "metrics.json").read_text()) == metrics(given_report)


def test_page_is_the_same_for_the_same_input(tmp_path: Path) -> None:
    assert page_of(tmp_path / "one", report()) == page_of(tmp_path / "two", report())


def test_page_requests_nothing(tmp_path: Path) -> None:
    page = page_of(tmp_path, report())
    found = Tags(page)
    loaded = [
        attributes[name]
        for _, attributes in found.tags
        for name in ("src", "href", "srcset", "data", "poster", "action", "background")
        if attributes.get(name)
    ]
    assert loaded
    assert all(str(address).startswith(("data:", "#")) for address in loaded)
    style = "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for tag, a in found.tags if tag == "meta" and "http-equiv" in a)
    assert str(policy).startswith("default-src 'none'")
    assert "http" not in str(policy)


def test_page_escapes_every_text(tmp_path: Path) -> None:
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
    page = page_of(tmp_path, broken)
    assert "<script>alert" not in page
    assert "<b>x" not in page
    assert '"><i>' not in page
    assert page.count("&lt;b&gt;x&lt;/b&gt;") > 10


def test_page_embeds_photographs_small(tmp_path: Path) -> None:
    images = sources(page_of(tmp_path, report()))
    assert len(images) == 3 + 14
    for source in images:
        image = Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))))
        assert image.size == (THUMBNAIL, THUMBNAIL * 3 // 4)


def test_page_colours_a_photograph_where_the_model_looks(tmp_path: Path) -> None:
    grey = Image.new("RGB", (160, 160), (128, 128, 128))
    left = np.zeros((8, 8))
    left[:, :4] = 1
    page = page_of(tmp_path, report(examples=[], queries=[QueryCard(grey, left, "cat", "core")]))
    (source,) = sources(page)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))), dtype=float)
    assert image[:, :40].mean() > 150
    assert image[:, -40:] == pytest.approx(128, abs=2)  # clear where it does not look


def test_page_leaves_photographs_and_maps_as_they_were(tmp_path: Path) -> None:
    photo, attention_map = photograph(0), np.full((7, 7), 0.5)
    before = photo.copy()
    write_report(tmp_path, report(queries=[QueryCard(photo, attention_map, "cat", "core")]))
    assert photo.size == before.size
    assert np.array_equal(np.asarray(photo), np.asarray(before))
    assert (attention_map == 0.5).all()


def test_page_puts_the_rarest_group_first(tmp_path: Path) -> None:
    text = Tags(page_of(tmp_path, report(examples=[]))).text
    text = text[text.index("Accuracy of every group") :]
    places = [text.index(name) for name in sorted(SHARES, key=SHARES.__getitem__)]
    assert places == sorted(places)


def test_page_marks_right_and_wrong_predictions(tmp_path: Path) -> None:
    marks = [a["aria-label"] for tag, a in Tags(page_of(tmp_path, report())).tags if a.get("class") == "mark"]
    assert marks == ["wrong", "right"]


def test_page_warns_before_the_numbers_are_trusted(tmp_path: Path) -> None:
    several = rows()
    one_class = {**several[2].evaluation, "predicts_one_class": True, "missing_groups": ["dog, place=0"]}
    broken = report(rows=[*several[:2], replace(several[2], evaluation=one_class)], warnings=["Look twice."])
    text = Tags(page_of(tmp_path, broken)).text
    for notice in ("Look twice.", "Retrained model predicts one class for every test image", "dog, place=0. The true"):
        assert notice in text
    assert text.index("Look twice.") < text.index("What each model was told")
    assert metrics(broken)["warnings"][0] == "Look twice."


def test_page_without_warnings_has_no_warning_box(tmp_path: Path) -> None:
    assert "Read this before" not in page_of(tmp_path, report())


def test_page_without_masks_says_that_attention_cannot_be_measured(tmp_path: Path) -> None:
    text = Tags(page_of(tmp_path, report(rows=rows(masks=False)))).text
    assert "the attention cannot be measured" in text
    assert "uniform map" not in text


def test_page_without_attributes_says_what_the_groups_are(tmp_path: Path) -> None:
    classes = [f"species number {i} with a long name" for i in range(5)]
    shares: dict[str, float | None] = {f"{name}, cell {cell}": None for name in classes for cell in range(3)}
    few = DataSummary("birds", {"train": 500, "test": 200}, classes)
    points = replace(scatter(), a=None)
    text = Tags(page_of(tmp_path, report(data=few, rows=rows(masks=False, shares=shares), scatter=points))).text
    assert "label × curated cell" in text
    assert "Adjusted" not in text.split("What the words on this page mean")[0]
    assert "Spurious attribute" not in text
    assert all(name in text for name in shares)


def test_page_shows_a_group_without_test_images(tmp_path: Path) -> None:
    several = rows()
    groups = [dict(group) for group in several[0].evaluation["groups"]]
    groups[0].update(n=0, correct=0, accuracy=float("nan"), low=float("nan"), high=float("nan"))
    broken = [replace(row, evaluation={**row.evaluation, "groups": groups}) for row in several]
    assert "nan" not in Tags(page_of(tmp_path, report(rows=broken))).text


def test_page_holds_together_with_nothing_to_show(tmp_path: Path) -> None:
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
    page = page_of(tmp_path, bare)
    assert "This run kept no photographs to show." in page
    assert "The attention space" not in Tags(page).text
    assert len(page) < 200_000, "without a scatter plot there is no need for Plotly"


def test_page_samples_a_large_attention_space_and_says_so(tmp_path: Path) -> None:
    page = page_of(tmp_path, report(scatter=scatter(MAX_POINTS + 500)))
    match = re.search(r'id="space-data">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    data = json.loads(match.group(1))
    assert len(data["x"]) == len(data["score"]) == MAX_POINTS
    assert len(data["query_x"]) == len(data["answer"]) == 6
    assert "Shown: 20,000 of 20,500 images" in Tags(page).text


def test_page_says_times_as_people_do(tmp_path: Path) -> None:
    text = Tags(page_of(tmp_path, report())).text
    assert "1 min 35 s" in text
    assert "1 h 6 min" in text


def test_page_gives_every_image_a_text_and_every_section_a_heading(tmp_path: Path) -> None:
    tags = Tags(page_of(tmp_path, report())).tags
    identifiers = {attributes.get("id") for _, attributes in tags}
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
    assert all(attributes["aria-labelledby"] in identifiers for tag, attributes in tags if tag == "section")
    assert sum(tag == "h1" for tag, _ in tags) == 1


def rendered(given_rows: list[ModelRow]) -> str:
    console = Console(width=100, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(table(given_rows))
    return capture.get().replace("\u00a0", " ")


def test_table_shows_intervals_and_the_uniform_map() -> None:
    text = rendered(rows())
    for words in ("Retrained model", "80.0 %", "(75.0–85.0 %)", "90.0 %", "0.60", "(uniform 0.25)", "class labels"):
        assert words in text


def test_table_without_masks_has_no_inside_fraction() -> None:
    assert "fraction" not in rendered(rows(masks=False))


def test_table_prints_brackets_as_they_are() -> None:
    assert "[red]labels" in rendered([replace(row, supervision="[red]labels") for row in rows()])
