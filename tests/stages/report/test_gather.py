"""What the report takes from the records: every mode's supervision, counts, examples and facts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slim.stages.annotate.settings import AnnotateSettings
from slim.stages.curate.curate import curate
from slim.stages.evaluate.evaluate import evaluate
from slim.stages.locate.object_maps import ObjectMaps, Trust
from slim.stages.report import examples as look
from slim.stages.report.findings import headline, metrics
from slim.stages.report.gather import report_input
from slim.stages.report.page import render
from slim.stages.report.records import ModelRow, Report, ReportInput, RunFacts
from slim.stages.report.report import report as write_report
from slim.stages.retrain.reliance import Reliance
from slim.stages.retrain.retrained import Retrained
from slim.stages.settings import (
    AttendSettings,
    CurateSettings,
    EmbedSettings,
    EvaluateSettings,
    LocateSettings,
    PropagateSettings,
    RetrainSettings,
)
from slim.training import TrainSettings

Make = Callable[..., Any]
CURATE = CurateSettings(size=8, core_clusters=1, environment_clusters=2, balance="environment")
EVALUATE = EvaluateSettings(precision="32-true")
LABELS = "class labels"
BOTH = "class labels of train and val"


def arguments(made: Any, *, shortcut: bool = True, **settings: Any) -> tuple[Any, ...]:
    """Everything that `report` takes, from other heads as the retrained models."""
    records: dict[str, Any] = {
        "train": TrainSettings(),
        "attend": AttendSettings(),
        "embed": EmbedSettings(pool=made.space.pool),
        "annotate": AnnotateSettings(),
        "propagate": PropagateSettings(),
        "locate": LocateSettings(),
        "curate": CURATE,
        "retrain": RetrainSettings(),
        "evaluate": EVALUATE,
        "report": None,
    } | settings
    subset = curate(made.data, made.reference, made.attention, made.space, made.scores, CURATE)
    subset = subset if shortcut else replace(subset, evidence=0.0)
    generator = torch.Generator().manual_seed(0)
    other, random = (
        made.reference.with_head(torch.randn((2, 12), generator=generator), torch.zeros(2)) for _ in range(2)
    )
    model = other if shortcut else made.reference
    wanted = records["retrain"].images
    images: Any = "none" if not shortcut else "subset" if wanted == "auto" else wanted
    reliance = Reliance(200, 0.9, 0.25)
    retrained = Retrained(model, random, np.arange(8), records["retrain"].mode, images=images, reliance=reliance)
    evaluations = evaluate(made.data, made.reference, made.attention, subset, retrained, EVALUATE)
    facts = RunFacts("noisy run", 3, records, {"train": 1.5, "attend": 0.5}, ["Look twice."])
    stages = (made.data, made.reference, made.attention, made.space, made.judgements, made.scores)
    maps = [np.zeros((len(made.data.split(name)), 64, 64), np.uint8) for name in ("train", "val")]
    objects = ObjectMaps(*maps, "answers", Trust(5, 4, 0.8, 0.38, 0.96, 0.25))
    return (*stages, objects, subset, retrained, evaluations, facts)


def gathered(made: Any, **options: Any) -> ReportInput:
    return report_input(*arguments(made, **options))


def rows_of(made: Any, **options: Any) -> dict[str, ModelRow]:
    return {row.key: row for row in gathered(made, **options).rows}


# Settings of train and retrain, the pool, and the supervision of the reference, the random subset and SLIM.
GROUPS = TrainSettings(select_by="worst-group")
EPOCH, TUNING, ANSWERS = "val group labels (choice of epoch)", "val group labels (tuning)", "7 judgements (ann)"
FULL, RECOMPOSED = RetrainSettings(mode="full"), RetrainSettings(images="recomposed")
SUPERVISION: dict[str, tuple[dict[str, Any], str, tuple[list[str], list[str], list[str]]]] = {
    "default": ({}, "train", ([LABELS], [BOTH], [BOTH, ANSWERS])),
    "subset alone": (
        {"retrain": RetrainSettings(use_val=False)},
        "train",
        ([LABELS], [LABELS], [LABELS, ANSWERS]),
    ),
    "pool of val": ({}, "val", ([LABELS], [BOTH], [BOTH, ANSWERS])),
    "full": ({"retrain": FULL}, "train", ([LABELS], [LABELS], [LABELS, ANSWERS])),
    "full on val": ({"retrain": FULL}, "val", ([LABELS], [BOTH], [BOTH, ANSWERS])),
    "tuned on groups": (
        {"retrain": RetrainSettings(tune_on="groups")},
        "train",
        ([LABELS], [LABELS, TUNING], [LABELS, ANSWERS, TUNING]),
    ),
    "strength set, so that nothing is tuned": (
        {"retrain": RetrainSettings(tune_on="groups", strength=1.0)},
        "train",
        ([LABELS], [LABELS], [LABELS, ANSWERS]),
    ),
    "full, which tunes nothing": (
        {"retrain": RetrainSettings(mode="full", tune_on="groups")},
        "train",
        ([LABELS], [LABELS], [LABELS, ANSWERS]),
    ),
    "recomposed": ({"retrain": RECOMPOSED}, "train", ([LABELS], [BOTH], [BOTH, ANSWERS])),
    "recomposed, val by groups for the baseline alone": (
        {"retrain": replace(RECOMPOSED, tune_on="groups")},
        "train",
        ([LABELS], [LABELS, TUNING], [LABELS, ANSWERS]),
    ),
    "recomposed by masks, without val": (
        {"retrain": replace(RECOMPOSED, use_val=False), "locate": LocateSettings("masks")},
        "train",
        ([LABELS], [LABELS], [LABELS, ANSWERS, "masks of train and val"]),
    ),
    "recomposed, full, the last epoch": (
        {"train": replace(GROUPS, checkpoint="model.pt"), "retrain": replace(RECOMPOSED, mode="full")},
        "train",
        ([LABELS], [LABELS, EPOCH], [LABELS, ANSWERS]),
    ),
    "epoch by groups": ({"train": GROUPS}, "train", ([LABELS, EPOCH], [BOTH, EPOCH], [BOTH, ANSWERS, EPOCH])),
    "epoch by groups, trained elsewhere": (
        {"train": replace(GROUPS, checkpoint="model.pt")},
        "train",
        ([LABELS], [BOTH], [BOTH, ANSWERS]),
    ),
    "epoch by groups in full retraining alone": (
        {"train": replace(GROUPS, checkpoint="model.pt"), "retrain": FULL},
        "train",
        ([LABELS], [LABELS, EPOCH], [LABELS, ANSWERS, EPOCH]),
    ),
}


def test_report_says_what_its_last_digits_hang_on(records: Make) -> None:
    mixed = {"train": TrainSettings(precision="bf16-mixed"), "evaluate": replace(EVALUATE, precision="32-true")}
    made = replace(gathered(records("train"), **mixed), title="arithmetic")
    threads = f"{torch.get_num_threads()} thread"
    assert made.arithmetic.startswith(threads)
    assert "bfloat16" in made.arithmetic
    assert "float32" in made.arithmetic
    assert f"(here {made.arithmetic})" in render(made)
    assert metrics(made)["arithmetic"] == made.arithmetic


@pytest.mark.parametrize("mode", SUPERVISION)
def test_supervision_names_all_labels_that_a_model_used(mode: str, records: Make) -> None:
    settings, pool, expected = SUPERVISION[mode]
    rows = rows_of(records(pool), **settings)
    models = ("reference", "random_subset", "retrained")
    assert [rows[key].supervision for key in models] == [" + ".join(parts) for parts in expected]


@pytest.mark.parametrize("retraining", [RetrainSettings(), RetrainSettings(tune_on="groups"), FULL])
def test_reference_that_was_kept_used_nothing_but_class_labels_and_judgements(
    retraining: RetrainSettings, records: Make
) -> None:
    rows = rows_of(records(), shortcut=False, retrain=retraining)
    assert rows["retrained"].supervision == f"{LABELS} + {ANSWERS}"
    assert rows["retrained"].train_images == rows["reference"].train_images == 40


@pytest.mark.parametrize(
    ("settings", "pool", "n"),
    [
        (RetrainSettings(), "train", 8 + 16),
        (RetrainSettings(use_val=False), "train", 8),
        (RetrainSettings(), "val", 8),
        (FULL, "train", 8),
    ],
)
def test_images_count_val_where_the_last_layer_is_fitted_to_it(
    settings: RetrainSettings, pool: str, n: int, records: Make
) -> None:
    report = gathered(records(pool), retrain=settings)
    rows = {row.key: row for row in report.rows}
    assert report.fits_val == (n > 8)
    assert [rows[key].train_images for key in ("reference", "random_subset", "retrained")] == [40, n, n]


@pytest.mark.parametrize(
    ("settings", "n"),
    [(RECOMPOSED, 40 + 16), (replace(RECOMPOSED, use_val=False), 40), (replace(RECOMPOSED, mode="full"), 40)],
)
def test_recomposed_images_are_those_of_the_whole_pool(settings: RetrainSettings, n: int, records: Make) -> None:
    report = gathered(records(), retrain=settings)
    assert {row.key: row.train_images for row in report.rows}["retrained"] == n
    assert report.images == "recomposed"
    assert "and recomposed images" in headline(report).detail
    assert gathered(records(), shortcut=False, retrain=settings).images == "none"


@pytest.mark.parametrize(("pool", "n"), [("train", 40), ("val", 16)])
def test_judgements_are_counted_among_the_pool(pool: str, n: int, records: Make) -> None:
    judgements = gathered(records(pool)).judgements
    counts = {"judged": 7, "core": 4, "spurious": 2, "unsure": 1, "seconds": 7.0, "places": 0}
    assert judgements == counts | {"pool": pool, "share_of_pool": 7 / n, "annotator": "ann"}


def test_attention_space_is_that_of_the_pool_with_judged_images_marked(records: Make) -> None:
    made = records("val")
    scatter = gathered(made).scatter
    assert scatter is not None
    assert len(scatter.coordinates) == len(scatter.y) == len(scatter.scores) == 16
    assert scatter.y[scatter.queries].tolist() == made.judgements.frame["y"].tolist()
    assert scatter.answers == made.judgements.frame["answer"].tolist()


def test_query_cards_show_the_judged_images_of_the_pool(records: Make) -> None:
    made = records("val")
    index = made.judgements.frame["index"].to_numpy()
    for card, i in zip(gathered(made).queries, index, strict=True):
        assert np.array_equal(np.asarray(card.photo), np.asarray(made.data.val.image(int(i))))
        assert np.array_equal(card.map, made.attention.val.maps[i])
        assert card.label == made.data.val.class_names[made.data.val.y[i]]


def test_examples_come_from_all_groups_with_the_maps_of_their_labels(records: Make) -> None:
    made = records()
    report = gathered(made)
    worst = min(report.rows[0].evaluation["groups"], key=lambda group: group["accuracy"])
    assert {example.group for example in report.examples} == set(made.data.test.group_names)
    assert report.examples[0].group == worst["name"]
    photos = [np.asarray(made.data.test.image(i)) for i in range(12)]
    for example in report.examples:
        (i,) = [i for i in range(12) if np.array_equal(photos[i], np.asarray(example.photo))]
        np.testing.assert_allclose(example.maps["reference"], made.attention.test.maps[i], atol=1e-2)
        assert example.label == made.data.test.class_names[made.data.test.y[i]]
        assert example.predictions["reference"][0] == f"class {made.attention.test.probabilities[i].argmax()}"


def passes(made: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[str]:
    """Which networks the examples of a report were shown to; the retrained model is the reference or another head."""
    seen: list[str] = []
    maps = look._label_maps
    monkeypatch.setattr(
        look,
        "_label_maps",
        lambda model, *rest: seen.append("reference" if model is made.reference else "retrained") or maps(model, *rest),
    )
    gathered(made, **options)
    return seen


def test_examples_take_the_reference_models_maps_where_they_are_for_the_labels(
    records: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The photographs are not looked at once more: once for the examples, and once for those that moved."""
    made = records()
    assert passes(made, monkeypatch) == ["retrained"] * 2
    assert passes(made, monkeypatch, attend=AttendSettings(explain="predicted")) == ["reference", "retrained"] * 2


def test_nothing_is_looked_at_again_where_the_reference_model_was_kept(
    records: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = records()
    assert passes(made, monkeypatch, shortcut=False) == []
    assert gathered(made, shortcut=False).moved == []


def test_report_makes_the_run_again_with_the_same_attribute(records: Make) -> None:
    made = records()
    made = replace(made, data=replace(made.data, source={"source": "/birds", "attribute": "place"}))
    assert gathered(made).command == "slim run runs/again --data IMAGES --attribute place --recipe recipe.toml --seed 3"


def test_groups_training_counts_sum_to_the_training_images(records: Make) -> None:
    data = gathered(records()).data
    assert [group["train"] for group in data.groups] == [10, 10, 10, 10]
    assert data.splits == {"train": 40, "val": 16, "test": 12}


@pytest.mark.parametrize("columns", [{}, {"attribute": False, "masks": False}], ids=["groups", "plain"])
def test_report_says_the_same_on_the_page_and_in_its_metrics(
    columns: dict[str, bool], records: Make, tmp_path: Path
) -> None:
    *stages, facts = arguments(records(**columns))
    report = write_report(*stages, facts=facts)
    metrics = report.metrics
    assert (metrics["title"], metrics["seed"], metrics["judgements"], metrics["subset_size"]) == ("noisy run", 3, 7, 8)
    assert metrics["warnings"][0] == "Look twice."
    assert metrics["stages"] == [{"stage": "train", "seconds": 1.5}, {"stage": "attend", "seconds": 0.5}]
    assert metrics["settings"]["curate"]["size"] == 8
    assert "report" not in metrics["settings"]
    assert metrics["headline"] == str(report)
    for words in ("noisy run", metrics["headline"], metrics["retrained"]["supervision"], "Look twice."):
        assert words in report.page
    for key, evaluation in (("reference", stages[-1].reference), ("retrained", stages[-1].retrained)):
        assert metrics[key]["worst_group_accuracy"] == evaluation.worst_group_accuracy
    report.save(tmp_path / "10-report")
    names = sorted(file.name for file in (tmp_path / "10-report").iterdir())
    assert names == ["metrics.json", "record.json", "report.html"]
    assert json.loads((tmp_path / "10-report" / "metrics.json").read_text()) == metrics
    loaded = Report.load(tmp_path / "10-report")
    assert (loaded.metrics, loaded.page) == (metrics, report.page)


def test_report_of_a_kept_reference_says_so(records: Make) -> None:
    *stages, facts = arguments(records(), shortcut=False)
    report = write_report(*stages, facts=facts)
    assert report.metrics["verdict"] == "kept"
    assert "SLIM found no shortcut and kept the reference model" in str(report)
    assert "the subset was not used to retrain the model" in report.page
    assert "nothing was retrained on such images" in report.page


def test_report_of_recomposed_retraining_says_what_it_used(records: Make) -> None:
    row = rows_of(records(), retrain=replace(RECOMPOSED, tune_on="groups"))["retrained"]
    assert (row.train_images, row.supervision.split(" + ")[0]) == (40, LABELS)
    assert "tuning" not in row.supervision
    *stages, facts = arguments(records(), retrain=RetrainSettings(images="recomposed"))
    page = write_report(*stages, facts=facts).page
    assert "The model was retrained on such images in place of the subset" in page
    assert re.search(
        "right about 90.0.% of 200 such images with backgrounds of their own class, and about 25.0.%", page
    )
    assert "4 of 5 maps made without the place that was pointed at contain that place" in page


def test_report_says_whether_val_was_used_as_it_is(records: Make) -> None:
    *stages, facts = arguments(records(), retrain=RetrainSettings(images="recomposed"))
    position = next(i for i, record in enumerate(stages) if isinstance(record, Retrained))
    said = []
    for uses_val in (False, True):
        stages[position] = replace(stages[position], uses_val=uses_val)
        said.append("The validation images were also used unchanged" in write_report(*stages, facts=facts).page)
    assert said == [False, True]
