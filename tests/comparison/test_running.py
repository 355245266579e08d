"""`compare`: what it computes, continues and refuses, and which results its tables show."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result

import slim
from slim.comparison import DEFAULT_ROWS, ROWS, compare, comparison_table, summarize
from slim.comparison.bench import Bench
from slim.comparison.running import kept
from slim.files import write_sealed

pytestmark = [
    pytest.mark.usefixtures("small_and_quiet"),
    pytest.mark.filterwarnings("ignore::slim.errors.SlimWarning"),  # so small a run is not to be trusted
]


def test_a_comparison_continues_where_it_stopped_and_its_tables_agree(
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
    opponents |= {"val", "cluster-balanced-val", "subset", "recomposed-unanswered"}
    assert {line["row"] for line in against} == opponents
    summary = pd.read_csv(folder / "summary.csv").set_index("row")
    for line in against:
        difference = summary.loc["slim", "worst_group_accuracy"] - summary.loc[line["row"], "worst_group_accuracy"]
        assert line["difference"] == pytest.approx(difference)
    assert ROWS["dfr"].title in (folder / "results.svg").read_text()
    labels = {row["row"]: row["group_labels"] for row in rows}
    assert (labels["slim"], labels["dfr"], labels["group-dro"]) == ("none", "val", "train + val")


def test_a_kill_costs_only_the_rows_of_the_last_minutes(
    comparison_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(bench: Bench) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("slim.comparison.running._MOST_LOST", -1.0)
    monkeypatch.setitem(ROWS, "dfr", replace(ROWS["dfr"], head=stopped))
    with pytest.raises(KeyboardInterrupt):
        compare(comparison_folder, seeds=[0], rows=["erm", "random", "dfr"])
    kept_rows = sorted(path.name for path in (comparison_folder / "seed-0" / "rows").iterdir())
    assert kept_rows == ["erm.last-layer.json", "random.last-layer.json"]


def test_another_setting_computes_the_rows_again(comparison_folder: Path) -> None:
    compare(comparison_folder, seeds=[0], rows=["random"])
    path = comparison_folder / "seed-0/rows/random.last-layer.json"
    assert json.loads(path.read_text())["train_images"] == 12
    compare(comparison_folder, seeds=[0], rows=["random"], settings={"curate": {"size": 16}})
    assert json.loads(path.read_text())["train_images"] == 16


def test_other_recorded_answers_compute_the_rows_again(comparison_folder: Path, tmp_path: Path) -> None:
    recorded, row = tmp_path / "answers.csv", comparison_folder / "seed-0/rows/slim.last-layer.json"
    answers = pd.DataFrame({"index": range(48), "answer": ["core", "core", "spurious", "spurious"] * 12})
    made_from = []
    for table in (answers, answers, answers.iloc[::-1].assign(index=range(48))):
        table.to_csv(recorded, index=False)
        compare(comparison_folder, seeds=[0], rows=["slim"], settings={"annotate": {"recorded": str(recorded)}})
        made_from.append(json.loads(row.read_text())["made_from"])
    assert made_from[0] == made_from[1] != made_from[2]


def test_tables_keep_the_rows_of_earlier_calls_that_are_still_valid(comparison_folder: Path) -> None:
    def tabled() -> list[list[str]]:
        return pd.read_csv(comparison_folder / "results.csv")[["row", "mode"]].to_numpy().tolist()

    settings = {"retrain": {"epochs": 1}}
    compare(comparison_folder, seeds=[0], rows=["erm", "random"])
    rows = ["erm", "class-balanced"]
    results = compare(comparison_folder, seeds=[0], rows=rows, modes=["full"], settings=settings)
    assert results["row"].tolist() == rows
    assert tabled() == [["erm", "reference"], ["class-balanced", "full"]]  # other settings made the random row
    compare(comparison_folder, seeds=[0], rows=["random"], settings=settings)
    assert tabled() == [["random", "last-layer"], ["erm", "reference"], ["class-balanced", "full"]]


def test_full_retraining_is_a_row_of_its_own_and_comes_after_the_last_layers_of_all_seeds(
    comparison_folder: Path, tmp_path: Path
) -> None:
    options = {"settings": {"retrain": {"epochs": 1}}, "data": tmp_path / "data"}
    shutil.copytree(comparison_folder / "seed-0", comparison_folder / "seed-1")
    rows = ["erm", "random", "group-dro"]
    results = compare(comparison_folder, seeds=[0, 1], rows=rows, modes=["last-layer", "full"], **options)
    last_layer = [["erm", "reference"], ["random", "last-layer"], ["group-dro", "last-layer"]]
    full = [["random", "full"], ["group-dro", "full"]]
    assert results[["row", "mode"]].to_numpy().tolist() == 2 * last_layer + 2 * full
    assert results["seed"].tolist() == [0] * 3 + [1] * 3 + [0] * 2 + [1] * 2
    for name in ("results.md", "results.svg"):
        assert "GroupDRO, full" in (comparison_folder / name).read_text()
    labels = [str(cell) for cell in comparison_table(summarize(results)).columns[0].cells]
    assert sorted(labels) == [
        "ERM, the reference model",
        "GroupDRO",
        "GroupDRO, full",
        "Random subset",
        "Random subset, full",
    ]


def test_each_row_is_computed_with_the_vals_that_it_can_do_with(comparison_folder: Path, tmp_path: Path) -> None:
    rows, vals = ["erm", "subset-alone", "recomposed-centre", "val"], ("whole", "biased", "none")
    options = {"data": tmp_path / "data", "settings": {"train": {"select_by": "last"}}}
    results = compare(comparison_folder, seeds=[0], rows=rows, vals=vals, **options)
    assert results.groupby("row", sort=False)["val"].agg(list).to_dict() == {
        "erm": ["any"],
        "subset-alone": ["whole", "biased", "none"],
        "recomposed-centre": ["whole", "biased", "none"],
        "val": ["whole", "biased"],
    }
    images = results.set_index(["row", "val"])["train_images"]
    whole, biased, none = (int(images["recomposed-centre", val]) for val in vals)
    assert whole > biased > none == 48
    assert images["val", "whole"] - images["val", "biased"] == whole - biased
    table, _, _ = (comparison_folder / "results.md").read_text().partition("\n\n")
    assert table.startswith("| worst group (95 %) | all of val | val as biased as train | no val | group labels |")
    assert table.count("\n") == 1 + len(rows)
    again = compare(comparison_folder, seeds=[0], rows=rows, vals=vals, **options)
    pd.testing.assert_frame_equal(results, again)  # the seconds too: nothing was computed again


@pytest.mark.parametrize(
    "stage", [{"train": {"select_by": "accuracy"}}, {"retrain": {"tune_on": "groups"}}], ids=["epoch", "tuning"]
)
def test_less_than_the_whole_val_is_refused_where_all_of_it_has_a_say(
    stage: dict[str, dict[str, str]], squares: Callable[..., Path], tmp_path: Path, tiny: dict[str, dict[str, Any]]
) -> None:
    settings = {verb: {**tiny.get(verb, {}), **stage.get(verb, {})} for verb in {*tiny, *stage}}
    with pytest.raises(slim.SettingsError, match=r"\(--vals\), val must not choose"):
        compare(tmp_path / "c", seeds=[0], rows=["erm"], vals=["none"], data=squares(), settings=settings)


@pytest.mark.parametrize(("left", "got"), [(0, "Got 0 of 1"), (1, "Got 1 of 1")])
def test_rows_that_fit_to_val_alone_are_refused_at_once_where_it_lacks_a_class(
    left: int, got: str, squares: Callable[..., Path], tmp_path: Path, tiny: dict[str, dict[str, Any]]
) -> None:
    data = squares(sizes=(24, 16, 8))
    table = pd.read_csv(data / "metadata.csv")
    there = table.index[(table["split"] == "val") & (table["y"] == 1)]
    table.drop(there[left:]).to_csv(data / "metadata.csv", index=False)
    options: dict[str, Any] = {"seeds": [0], "data": data, "settings": tiny}
    with pytest.raises(slim.SettingsError, match=rf"rows val, dfr, val must .*{got}.*\(--rows erm,jtt\)"):
        compare(tmp_path / "c", rows=["erm", "val", "dfr", "jtt"], **options)
    assert not list((tmp_path / "c").rglob("model.safetensors"))
    assert len(compare(tmp_path / "c", rows=["erm", "jtt"], **options)) == 2


@pytest.mark.skipif(ROWS["spuco-dfr"].installed, reason="spuco is installed")
def test_a_row_whose_package_is_missing_is_refused_and_no_default(tmp_path: Path) -> None:
    with pytest.raises(slim.SettingsError, match=r"spuco-dfr needs the package spuco.*slim-vision\[spuco\]"):
        compare(tmp_path, rows=["erm", "spuco-dfr"])
    assert not {key for key in DEFAULT_ROWS if key.startswith("spuco")}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rows": ["mine"]}, "A row must be one of erm, .*Got mine"),
        ({"modes": ["half"]}, "A mode must be one of last-layer, full. Got half"),
        ({"vals": ["half"]}, "A val must be one of whole, biased, none. Got half"),
        ({"seeds": []}, "at least one seed. Got none"),
    ],
)
def test_what_does_not_exist_is_refused(wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(slim.SettingsError, match=message):
        compare(tmp_path, **wrong)


@pytest.mark.parametrize("wanted", [{"rows": ["slim", "dfr"]}, {"rows": ["slim"], "vals": ["biased"]}])
def test_what_needs_group_labels_is_refused_before_training_without_an_attribute(
    wanted: dict[str, Any], squares: Callable[..., Path], tmp_path: Path, tiny: dict[str, dict[str, Any]]
) -> None:
    data, settings = squares(drop=["place"]), {**tiny, "train": {**tiny["train"], "select_by": "last"}}
    with pytest.raises(slim.SettingsError, match=r"must have group labels. .* \(--rows slim\)"):
        compare(tmp_path / "c", seeds=[0], data=data, settings=settings, **wanted)
    assert not (tmp_path / "c/seed-0/01-reference").exists()


def test_a_comparison_never_asks_a_person(
    squares: Callable[..., Path], tmp_path: Path, tiny: dict[str, dict[str, Any]]
) -> None:
    data = squares(drop=["mask", "box"])
    with pytest.raises(slim.SettingsError, match="from masks, boxes or a file"):
        compare(tmp_path / "c", seeds=[0], rows=["slim"], data=data, settings=tiny)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b'{"made_from": "a", "row": "erm"}', {"row": "erm"}),  # as an earlier version wrote it
        (b'{"made_from": "b", "row": "erm"}', None),
        (b'{"made_from": "a", "row": "arm", "digest": "0123456789abcdef"}', None),
        (b"[]", None),
        (b"\xff\xfe\x80", None),
        (b"", None),
    ],
)
def test_result_that_is_damaged_or_of_something_else_is_none(
    content: bytes, found: dict[str, str] | None, tmp_path: Path
) -> None:
    write_sealed(tmp_path / "row.json", {"made_from": "a", "row": "erm"})
    assert kept(tmp_path / "row.json", "a") == {"row": "erm"}
    (tmp_path / "row.json").write_bytes(content)
    assert kept(tmp_path / "row.json", "a") == found
