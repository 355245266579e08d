"""Comparison: every row, going on where it stopped, and the statistics."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result

import slim
from slim.attention import AttendSettings, attend
from slim.comparison import ROWS, compare, comparison_table, summarize
from slim.comparison.rows import Bench, summed
from slim.comparison.table import markdown
from slim.pipeline import open_run

pytestmark = [
    pytest.mark.usefixtures("small_and_quiet"),
    pytest.mark.filterwarnings("ignore::slim.errors.SlimWarning"),  # so small a run is not to be trusted
]


@pytest.fixture
def bench(finished_run: Path) -> Bench:
    return Bench(open_run(finished_run))


@pytest.mark.parametrize("key", [key for key, row in ROWS.items() if row.subset is not None])
def test_every_subset_has_the_size_of_slims_and_each_class(key: str, bench: Bench) -> None:
    subset = ROWS[key].subset
    assert subset is not None
    chosen = subset(bench)
    assert len(chosen.index) == bench.size
    assert set(bench.y[chosen.index]) == {0, 1}
    assert chosen.judgements == (8 if key == "published" or key == "slim" or "noise" in key else 0)


def test_slims_row_is_the_subset_that_the_run_curates(bench: Bench, finished_run: Path) -> None:
    subset = ROWS["slim"].subset
    assert subset is not None
    curated = slim.Subset.load(finished_run / "6-curation")
    assert sorted(subset(bench).index) == sorted(curated.index)


def test_features_pooled_by_sum_follow_from_those_pooled_by_mean(bench: Bench) -> None:
    p = bench.pipeline
    expected = attend(p.classifier, p.data.train, AttendSettings(pooling="sum"))
    found = summed(p.attention("train"))
    for name in ("core", "environment"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-3, atol=1e-4)


def test_a_comparison_goes_on_where_it_stopped_and_its_tables_agree(
    squares: Callable[..., Path],
    tmp_path: Path,
    tiny: dict[str, dict[str, Any]],
    tiny_options: list[str],
    slim_command: Callable[..., Result],
) -> None:
    folder, data = tmp_path / "compared", squares()
    first = compare(folder, seeds=[0, 1], rows=["erm", "random"], data=data, settings=tiny)
    assert first[["row", "seed"]].to_numpy().tolist() == [["erm", 0], ["random", 0], ["erm", 1], ["random", 1]]
    untouched = {path: os.stat(path).st_mtime_ns for path in folder.glob("seed-*/rows/*.json")}
    assert len(untouched) == 4
    result = slim_command("compare", folder, "--data", data, "--seeds", 2, *tiny_options, "--json")
    assert result.exit_code == 0
    assert {path: os.stat(path).st_mtime_ns for path in untouched} == untouched
    rows = json.loads(result.stdout)["rows"]
    assert {row["row"] for row in rows} == set(ROWS)
    lines = pd.read_csv(folder / "results.csv")
    assert len(lines) == 2 * len(ROWS)
    for row in rows:
        values = lines[lines["row"] == row["row"]]["worst_group_accuracy"]
        assert row["worst_group_accuracy"] == pytest.approx(values.mean())
    assert (folder / "results.md").read_text().count("\n| ") == len(ROWS)
    assert ROWS["dfr"].title in (folder / "results.svg").read_text()
    labels = {row["row"]: row["group_labels"] for row in rows}
    assert (labels["slim"], labels["dfr"], labels["group-dro"]) == ("none", "val", "train + val")


def test_another_setting_makes_the_rows_again(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    finished_run.rename(tmp_path / "c" / "seed-0")
    compare(tmp_path / "c", seeds=[0], rows=["random"])
    path = tmp_path / "c/seed-0/rows/random.last-layer.json"
    assert json.loads(path.read_text())["train_images"] == 12
    compare(tmp_path / "c", seeds=[0], rows=["random"], settings={"curate": {"size": 16}})
    assert json.loads(path.read_text())["train_images"] == 16


def test_full_retraining_is_a_row_of_its_own(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    finished_run.rename(tmp_path / "c" / "seed-0")
    settings = {"retrain": {"epochs": 1}}
    found = compare(tmp_path / "c", seeds=[0], rows=["erm", "random"], modes=["last-layer", "full"], settings=settings)
    assert found[["row", "mode"]].to_numpy().tolist() == [
        ["erm", "reference"],
        ["random", "last-layer"],
        ["random", "full"],
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rows": ["mine"]}, "A row must be one of erm, .*Got mine"),
        ({"modes": ["half"]}, "A mode must be one of last-layer, full. Got half"),
        ({"seeds": []}, "needs a seed"),
    ],
)
def test_what_does_not_exist_is_refused(wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(slim.SettingsError, match=message):
        compare(tmp_path, **wrong)


def test_rows_with_group_labels_need_an_attribute(
    squares: Callable[..., Path], tmp_path: Path, tiny: dict[str, dict[str, Any]]
) -> None:
    with pytest.raises(slim.SettingsError, match="uses group labels"):
        compare(tmp_path / "c", seeds=[0], rows=["dfr"], data=squares(drop=["place"]), settings=tiny)


def test_a_comparison_never_asks_a_person(
    squares: Callable[..., Path], tmp_path: Path, tiny: dict[str, dict[str, Any]]
) -> None:
    data = squares(drop=["mask", "box"])
    with pytest.raises(slim.SettingsError, match="from masks, boxes or a file"):
        compare(tmp_path / "c", seeds=[0], rows=["slim"], data=data, settings=tiny)


def lines(**values: list[float]) -> pd.DataFrame:
    rows = [
        {
            "row": row,
            "title": row,
            "mode": "reference" if row == "erm" else "last-layer",
            "group_labels": "none",
            "seed": seed,
            "worst_group_accuracy": value,
            **dict.fromkeys(("average_accuracy", "adjusted_average_accuracy", "seconds"), 0.5),
            **dict.fromkeys(("inside_fraction", "inside_fraction_uniform", "aiou", "aiou_uniform")),
            "minority_share": None,
            "judgements": 0,
            "train_images": 10,
        }
        for row, numbers in values.items()
        for seed, value in enumerate(numbers)
    ]
    return pd.DataFrame(rows)


def test_intervals_and_paired_tests_are_those_of_the_textbook() -> None:
    summary = summarize(lines(erm=[0.1, 0.2, 0.3], random=[0.1, 0.1, 0.1], slim=[0.4, 0.6, 0.5])).set_index("row")
    own = summary.loc["slim"]
    assert own["worst_group_accuracy"] == pytest.approx(0.5)
    assert (own["low"], own["high"]) == pytest.approx((0.5 - 0.24841, 0.5 + 0.24841), abs=1e-4)  # t(0.975; 2) = 4.3027
    assert own["over_erm"] == pytest.approx(0.3)
    assert own["p_erm"] == pytest.approx(0.0352, abs=1e-3)  # t = 0.3 / (0.1 / sqrt 3), two degrees of freedom
    assert np.isnan(summary.loc["erm", "p_erm"])


def test_tables_without_masks_and_of_one_seed_have_gaps_and_no_nan() -> None:
    summary = summarize(lines(erm=[0.1], random=[0.2]))
    text = markdown(summary)
    assert "nan" not in text
    assert comparison_table(summary).row_count == 2
