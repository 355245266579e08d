"""The findings say what the numbers say, and the metrics are plain JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slim.errors import ArtifactError
from slim.stages.report.findings import headline, metrics
from slim.stages.report.records import ModelRow, ReportInput

Make = Callable[..., ReportInput]
Rows = Callable[..., list[ModelRow]]


def test_metrics_have_every_key_a_script_reads(report: Make, training_shares: Mapping[str, float]) -> None:
    values = metrics(report())
    assert {"judgements", "judgement_answers", "trust", "seed", "version", "warnings", "headline"} <= set(values)
    assert (values["judgements"], values["train_images"], values["subset_size"]) == (6, 1000, 120)
    for key in ("reference", "random_subset", "retrained"):
        assert values[key]["inside_fraction"] == 0.6
        assert values[key]["adjusted_average_accuracy"] == 0.93
        assert [group["name"] for group in values[key]["groups"]] == list(training_shares)
        assert (values[key]["train_images"], values[key]["supervision"]) == (120, "class labels")
    assert values["retrained"]["worst_group_accuracy"] == 0.8


def test_metrics_hold_none_where_a_number_is_undefined(report: Make) -> None:
    values = metrics(report())
    assert values["trust"][1]["auc"] is None
    json.dumps(values, allow_nan=False)


def test_metrics_turn_numpy_values_into_json(report: Make) -> None:
    values = metrics(
        report(
            judgements={"judged": np.int64(6), "pool": "train", "share_of_pool": np.float32(np.nan)},
            settings={"a": {"b": Path("c")}},
        )
    )
    assert values["judgements"] == 6
    assert values["judgement_answers"]["share_of_pool"] is None
    assert values["settings"] == {"a": {"b": "c"}}


def test_metrics_of_a_model_that_was_not_evaluated_are_none(report: Make, rows: Rows) -> None:
    assert metrics(report(rows=rows(random_subset=None)))["random_subset"] is None


def test_metrics_without_masks_have_no_inside_fraction(report: Make, rows: Rows) -> None:
    assert metrics(report(rows=rows(masks=False)))["retrained"]["inside_fraction"] is None


@pytest.mark.parametrize(
    ("worst", "half_width", "verdict", "words"),
    [
        ((0.4, 0.5, 0.8), 0.05, "helped", "SLIM raised worst-group accuracy from 40.0 % to 80.0 %."),
        ((0.4, 0.75, 0.8), 0.05, "near_random", "its lead over a random subset is within the margin of error"),
        ((0.75, 0.7, 0.8), 0.05, "within_error", "SLIM’s gain is within the margin of error"),
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
    worst: tuple[float, float, float], half_width: float, verdict: str, words: str, report: Make, rows: Rows
) -> None:
    result = headline(report(rows=rows(*worst, half_width=half_width)))
    assert result.verdict == verdict
    assert words in result.text.replace("\u00a0", " ")


def test_headline_names_the_error_where_intervals_overlap(report: Make, rows: Rows) -> None:
    detail = headline(report(rows=rows(0.75, 0.5, 0.8))).detail.replace("\u00a0", " ")
    assert (
        "The difference from the reference model is within the margin of error: the 95 % intervals overlap." in detail
    )
    assert "The difference from a random subset of the same size (50.0 %) is larger than the margin of error." in detail


def test_headline_without_an_interval_claims_no_difference(report: Make, rows: Rows) -> None:
    unknown = rows(0.4, None, 0.8)
    bare = {**unknown[0].evaluation, "groups": []}
    assert headline(report(rows=[replace(unknown[0], evaluation=bare), unknown[1]])).verdict == "within_error"


@given(reference=st.floats(0, 1), by_chance=st.floats(0, 1), retrained=st.floats(0, 1), half_width=st.floats(0, 0.3))
def test_headline_claims_a_gain_only_beyond_the_error(
    reference: float, by_chance: float, retrained: float, half_width: float, report: Make, rows: Rows
) -> None:
    result = headline(
        report(rows=rows(reference, by_chance, retrained, half_width=half_width), examples=[], queries=[])
    )
    assert ("SLIM raised" in result.text) == (result.verdict in {"helped", "near_random"})
    if "SLIM raised" in result.text:
        assert retrained > by_chance
        assert max(0.0, retrained - half_width) > min(1.0, reference + half_width)


def test_report_needs_the_two_models_that_it_compares(report: Make, rows: Rows) -> None:
    with pytest.raises(ArtifactError, match="Got rows for: reference"):
        report(rows=rows()[:1])
