"""Comparison: every row, going on where it stopped, and the statistics."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import Result

import slim
from slim.attention import AttendSettings, attend
from slim.comparison import (
    DEFAULT_ROWS,
    ROWS,
    compare,
    comparison_table,
    cost,
    cost_curve,
    cost_table,
    networks,
    summarize,
    summarize_cost,
)
from slim.comparison.networks import group_dro_network, jtt_network
from slim.comparison.rows import Bench, fit_chosen, summed, true_answers
from slim.comparison.table import against_markdown, markdown, slim_against
from slim.pipeline import open_run
from slim.propagation import CORE, ClassTrust, Scores

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
    asks = key in ("published", "slim", "slim-subset") or "noise" in key
    asked = len(bench.y) if key == "slim-all-judged" else 8
    assert chosen.judgements == (asked if asks or key == "slim-all-judged" else 0)


def test_with_every_image_judged_none_is_kept_before_one_that_looks_at_the_core(bench: Bench) -> None:
    row = ROWS["slim-all-judged"].subset
    assert row is not None
    chosen, core = row(bench), true_answers(bench) == CORE
    assert core.any()
    cell = 2 * bench.y + chosen.cells
    for one in np.unique(cell):
        kept, left = (core[(cell == one) & (chosen.tune_among == stays)] for stays in (True, False))
        assert kept.all() or not left.any()


def test_slims_row_is_the_subset_that_the_run_curates(bench: Bench, finished_run: Path) -> None:
    subset = ROWS["slim"].subset
    assert subset is not None
    curated = slim.Subset.load(finished_run / "6-curation")
    assert sorted(subset(bench).index) == sorted(curated.index)


def test_only_the_rows_that_say_so_fit_to_val(bench: Bench) -> None:
    found = {key: row.subset(bench).fits_val for key, row in ROWS.items() if row.subset is not None}
    joined = {key for key, fits in found.items() if fits}
    alone = {"slim-subset", "random", "class-balanced", "cluster-balanced", "group-balanced", "published"}
    assert joined == found.keys() - alone


def test_a_subset_alone_counts_core_and_environment_clusters_together(bench: Bench) -> None:
    together, alone = (row.subset(bench) for key in ("slim", "slim-subset") if (row := ROWS[key]).subset is not None)
    pairs = {(int(one), int(other)) for one, other in zip(alone.cells, together.cells, strict=True)}
    assert len(pairs) == len(set(alone.cells.tolist())) > len(set(together.cells.tolist()))


def test_where_no_shortcut_was_found_the_row_is_the_reference(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slim.curation.SHORTCUT", 2.0)
    subset = ROWS["slim"].subset
    assert subset is not None
    chosen = subset(bench)
    assert not chosen.shortcut
    assert fit_chosen(bench, chosen) is None


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
    assert {row["row"] for row in rows} == set(DEFAULT_ROWS)
    lines = pd.read_csv(folder / "results.csv")
    assert len(lines) == 2 * len(DEFAULT_ROWS)
    for row in rows:
        values = lines[lines["row"] == row["row"]]["worst_group_accuracy"]
        assert row["worst_group_accuracy"] == pytest.approx(values.mean())
    text, against = (folder / "results.md").read_text(), json.loads(result.stdout)["slim_against"]
    assert text.count("\n| ") == len(DEFAULT_ROWS) + 1 + len(against)
    opponents = {"erm", "random", "class-balanced", "cluster-balanced", "published", "group-balanced", "dfr"}
    assert {line["row"] for line in against} == opponents | {"val", "cluster-balanced-val", "slim-unjudged"}
    summary = pd.read_csv(folder / "summary.csv").set_index("row")
    for line in against:
        difference = summary.loc["slim", "worst_group_accuracy"] - summary.loc[line["row"], "worst_group_accuracy"]
        assert line["difference"] == pytest.approx(difference)
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


def test_tables_keep_the_rows_of_earlier_calls_that_still_hold(finished_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    finished_run.rename(folder / "seed-0")

    def tabled() -> list[list[str]]:
        return pd.read_csv(folder / "results.csv")[["row", "mode"]].to_numpy().tolist()

    settings = {"retrain": {"epochs": 1}}
    compare(folder, seeds=[0], rows=["erm", "random"])
    found = compare(folder, seeds=[0], rows=["erm", "class-balanced"], modes=["full"], settings=settings)
    assert found["row"].tolist() == ["erm", "class-balanced"]
    assert tabled() == [["erm", "reference"], ["class-balanced", "full"]]  # the random row was made otherwise
    compare(folder, seeds=[0], rows=["random"], settings=settings)
    assert tabled() == [["random", "last-layer"], ["erm", "reference"], ["class-balanced", "full"]]


def test_full_retraining_is_a_row_of_its_own_and_comes_after_the_last_layers_of_all_seeds(
    finished_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "c").mkdir()
    finished_run.rename(tmp_path / "c" / "seed-0")
    options = {"settings": {"retrain": {"epochs": 1}}, "data": tmp_path / "data"}
    shutil.copytree(tmp_path / "c" / "seed-0", tmp_path / "c" / "seed-1")
    rows = ["erm", "random", "group-dro"]
    found = compare(tmp_path / "c", seeds=[0, 1], rows=rows, modes=["last-layer", "full"], **options)
    last_layer = [["erm", "reference"], ["random", "last-layer"], ["group-dro", "last-layer"]]
    full = [["random", "full"], ["group-dro", "full"]]
    assert found[["row", "mode"]].to_numpy().tolist() == 2 * last_layer + 2 * full
    assert found["seed"].tolist() == [0] * 3 + [1] * 3 + [0] * 2 + [1] * 2
    for name in ("results.md", "results.svg"):
        assert "GroupDRO, full" in (tmp_path / "c" / name).read_text()
    labels = [str(cell) for cell in comparison_table(summarize(found)).columns[0].cells]
    assert sorted(labels) == [
        "ERM, the reference model",
        "GroupDRO",
        "GroupDRO, full",
        "Random subset",
        "Random subset, full",
    ]


def test_group_dro_of_the_network_is_not_the_mean_loss_and_gives_the_same_again(bench: Bench, tmp_path: Path) -> None:
    p = bench.pipeline
    robust = group_dro_network(p, tmp_path / "dro")
    plain = slim.train(p.data.train, p.data.val, replace(p.settings.train, select_by="worst-group"), seed=0)
    assert not torch.equal(robust.linear.weight, plain.linear.weight)
    again = group_dro_network(p, tmp_path / "dro")
    assert torch.equal(robust.linear.weight, again.linear.weight)


def test_jtt_sees_what_its_first_network_got_wrong_twenty_times(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, Any]] = []
    real = networks.train

    def spy(table: Any, val: Any, settings: Any, **options: Any) -> Any:
        given.append((len(table), settings))
        return real(table, val, settings, **options)

    monkeypatch.setattr(networks, "train", spy)
    jtt_network(bench.pipeline, tmp_path)
    train = bench.pipeline.data.train
    first = slim.load_classifier(tmp_path / "first")
    wrong = int((slim.evaluate(first, train).predictions != train.y).sum())
    assert wrong > 0
    assert [size for size, _ in given] == [len(train), len(train) + 19 * wrong]
    assert [settings.epochs for _, settings in given] == [1, bench.pipeline.settings.train.epochs]


@pytest.mark.skipif(ROWS["spuco-dfr"].installed, reason="spuco is installed")
def test_a_row_whose_package_is_missing_is_refused_and_no_default(tmp_path: Path) -> None:
    with pytest.raises(slim.SettingsError, match=r"spuco-dfr needs the package spuco.*slim-vision\[spuco\]"):
        compare(tmp_path, rows=["erm", "spuco-dfr"])
    assert not {key for key in DEFAULT_ROWS if key.startswith("spuco")}


@pytest.mark.skipif(not ROWS["spuco-dfr"].installed, reason="spuco is not installed")
@pytest.mark.parametrize("key", ["spuco-dfr", "spuco-group-dro"])
def test_rows_of_spuco_are_heads_for_the_features(key: str, bench: Bench) -> None:
    head = ROWS[key].head
    assert head is not None
    fitted, val = head(bench), bench.val()
    assert fitted.weight.shape == (2, val.features.shape[1])
    assert (fitted.predict(val.features) == val.y).mean() > 0.5


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


# --- the cost curve


def test_the_curve_at_the_runs_own_budget_is_slims_row(bench: Bench, finished_run: Path) -> None:
    scores, answers = cost.judged_scores(bench, bench.pipeline.settings, bench.attention, bench.space)
    np.testing.assert_array_equal(scores.values, slim.Scores.load(finished_run / "5-propagation").values)
    assert (answers != 3).sum() == 8


def test_the_true_auc_is_over_the_images_that_were_not_asked_about(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    y, asked = bench.y, np.arange(len(bench.y)) < 8
    values = np.linspace(0, 1, len(y), dtype=np.float32)
    truth = (values > 0.5).astype(np.int8)  # the score is right
    answers = np.where(asked, truth, 3).astype(np.int8)
    truth[asked] = 1  # but where it was asked
    trust = [
        ClassTrust(name, 2, 2, 0, 20, 5.0, 0.9, 0.6, high, "above chance")
        for name, high in zip(("one", "two"), (1.0, 0.99), strict=True)
    ]
    monkeypatch.setattr(cost, "judged_scores", lambda *_: (Scores(values, tuple(trust)), answers))
    found = cost._aucs(bench, truth)
    assert found == {
        "true_auc": 1.0,
        "reported_auc": pytest.approx(0.9),
        "reported_low": pytest.approx(0.6),
        "reported_high": pytest.approx(0.995),
        "intervals": 2,
        "covering": 1,
    }


def test_a_cost_curve_goes_on_where_it_stopped_and_starts_unjudged(
    finished_run: Path, tmp_path: Path, slim_command: Callable[..., Result]
) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    finished_run.rename(folder / "seed-0")
    first = cost_curve(folder, [0, 8], seeds=[0])
    assert first["judgements"].tolist() == [0, 8]
    assert first["true_auc"].isna().tolist() == [True, False]
    kept = {path: os.stat(path).st_mtime_ns for path in (folder / "seed-0/rows").glob("cost-*.json")}
    assert len(kept) == 2
    result = slim_command("compare", folder, "--budgets", "0,8,12", "--seeds", 1, "--json")
    assert result.exit_code == 0
    assert {path: os.stat(path).st_mtime_ns for path in kept} == kept
    rows = json.loads(result.stdout)["rows"]
    assert [row["judgements"] for row in rows] == [0, 8, 12]
    table = compare(folder, seeds=[0], rows=["slim-unjudged", "slim"])
    expected = table["worst_group_accuracy"].tolist()
    assert [row["worst_group_accuracy"] for row in rows[:2]] == pytest.approx(expected, abs=0.26)  # one image of four
    assert len(pd.read_csv(folder / "cost.csv")) == 3
    assert "nan" not in (folder / "cost.md").read_text()
    assert "judgements" in (folder / "cost.svg").read_text()


def test_the_summary_of_a_curve_adds_up_its_intervals() -> None:
    names = ("worst_group_accuracy", "true_auc", "reported_auc", "reported_low", "reported_high")
    values = [
        (40, (0.4, 0.8, 0.7, 0.5, 0.9), 2, 1),
        (40, (0.6, 0.6, 0.9, 0.7, 1.0), 1, 1),
        (0, (0.3, *[None] * 4), 0, 0),
    ]
    results = pd.DataFrame(
        [dict(zip(names, v, strict=True)) | {"judgements": n, "intervals": i, "covering": c} for n, v, i, c in values]
    )
    summary = summarize_cost(results).set_index("judgements")
    assert summary.loc[40, ["true_auc", "intervals", "covering"]].tolist() == pytest.approx([0.7, 3, 2])
    assert cost_table(summary.reset_index()).row_count == 2
    cells = [str(cell) for cell in cost_table(summary.reset_index()).columns[4].cells]
    assert cells == ["", "2 of 3"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--budgets", "0,15"], 1, "multiples of the number of classes, 2, and at least 0. Got 15"),
        (["--budgets", "few"], 2, "takes whole numbers with commas between"),
        (["--budgets", "8", "--rows", "erm"], 2, "goes without --rows and --modes"),
    ],
)
def test_budgets_that_cannot_be_are_refused(
    words: list[str], code: int, message: str, finished_run: Path, tmp_path: Path, slim_command: Callable[..., Result]
) -> None:
    (tmp_path / "c").mkdir()
    finished_run.rename(tmp_path / "c" / "seed-0")
    result = slim_command("compare", tmp_path / "c", "--seeds", 1, *words)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())


# --- the tables


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


def test_slim_is_tested_against_each_other_row_within_its_mode() -> None:
    given = lines(erm=[0.1, 0.2, 0.3], random=[0.1, 0.1, 0.1], slim=[0.4, 0.6, 0.5])
    full = given[given["row"] == "slim"].assign(mode="full", worst_group_accuracy=[0.1, 0.2, 0.6])
    against = slim_against(pd.concat([given, full]))
    assert against[["mode", "row"]].to_numpy().tolist() == [
        ["last-layer", "erm"],
        ["last-layer", "random"],
        ["full", "erm"],
    ]
    first = against.iloc[0]
    # t(0.975; 2) = 4.3027, and the differences 0.3, 0.4, 0.2 have the deviation 0.1
    assert (first["low"], first["high"]) == pytest.approx((0.3 - 0.24841, 0.3 + 0.24841), abs=1e-4)
    assert first["p"] == pytest.approx(0.0352, abs=1e-3)
    text = against_markdown(against)
    assert "| random | +0.400 (+0.152 to +0.648) | 0.020 | 3 |" in text
    own, full = text.split("| SLIM, full, against |")
    assert "| SLIM, against |" in own
    assert full.count("| erm | ") == 1
    assert slim_against(given[given["row"] != "slim"]).empty


def test_tables_without_masks_and_of_one_seed_have_gaps_and_no_nan() -> None:
    summary = summarize(lines(erm=[0.1], random=[0.2]))
    text = markdown(summary)
    assert "nan" not in text
    assert comparison_table(summary).row_count == 2
