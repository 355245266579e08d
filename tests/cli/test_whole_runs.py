"""Whole runs on data of every kind, and with the settings that change the method's course."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result

import slim

Command = Callable[..., Result]
Squares = Callable[..., Path]


def test_data_without_attribute_or_masks_is_judged_by_recorded_answers(
    squares: Squares, metrics_of: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    data = squares(drop=["place", "mask", "box"])
    names = pd.read_csv(data / "metadata.csv")["img_filename"]
    answers = pd.DataFrame({"img_filename": names, "answer": ["yes", "no", "no", "unsure"] * 20})
    answers.to_csv(tmp_path / "answers.csv", index=False)
    metrics = metrics_of("--data", data, "--annotate.recorded", tmp_path / "answers.csv")
    for model in ("reference", "random_subset", "retrained"):
        assert metrics[model]["groups_are"] == "label x curated cell"
        assert metrics[model]["attention"] is None
        assert all(group["name"].startswith(("0, environment", "1, environment")) for group in metrics[model]["groups"])


def test_boxes_alone_judge_and_measure(squares: Squares, metrics_of: Callable[..., dict[str, Any]]) -> None:
    metrics = metrics_of("--data", squares(drop=["mask"]))
    assert metrics["judgements"] == 8
    assert metrics["reference"]["attention"]["inside_fraction"]["n"] > 0


@pytest.mark.parametrize("mode", ["last-layer", "full"])
def test_run_on_recomposed_images_is_reported_as_such(
    squares: Squares, metrics_of: Callable[..., dict[str, Any]], mode: str
) -> None:
    options = ("--retrain.images", "recomposed", "--retrain.mode", mode, "--curate.balance", "features")
    metrics = metrics_of("--data", squares(), *options, "--locate.source", "masks")
    assert metrics["retrained"]["supervision"].endswith(" + masks of train and val")
    assert metrics["retrained"]["train_images"] == 48 + (16 if mode == "last-layer" else 0)
    assert metrics["random_subset"]["train_images"] == 12 + (16 if mode == "last-layer" else 0)


def test_three_classes_with_crossed_attributes_have_a_group_each(
    squares: Squares, metrics_of: Callable[..., dict[str, Any]]
) -> None:
    data = squares(n_classes=3, sizes=(60, 24, 24))
    table = pd.read_csv(data / "metadata.csv")
    table.assign(light=table.index // 6 % 2).to_csv(data / "metadata.csv", index=False)
    metrics = metrics_of("--data", data, "--attribute", "place", "--attribute", "light")
    names = [group["name"] for group in metrics["retrained"]["groups"]]
    assert len(names) == 12
    assert "2, place=1, light=0" in names
    assert metrics["judgements"] == 12


def test_tree_of_folders_needs_no_table(
    squares: Squares, metrics_of: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    source = squares(sizes=(100, 2, 2))
    for row in pd.read_csv(source / "metadata.csv").itertuples():
        target = tmp_path / "tree" / f"kind{row.y}" / Path(row.img_filename).name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / row.img_filename, target)
    names = [str(path.relative_to(tmp_path / "tree")) for path in (tmp_path / "tree").rglob("*.png")]
    pd.DataFrame({"path": names, "answer": "core"}).to_csv(tmp_path / "answers.csv", index=False)
    metrics = metrics_of("--data", tmp_path / "tree", "--annotate.recorded", tmp_path / "answers.csv")
    assert {group["name"].split(",")[0] for group in metrics["reference"]["groups"]} == {"kind0", "kind1"}


@pytest.mark.filterwarnings("ignore::slim.errors.SlimWarning")
@pytest.mark.usefixtures("small_and_quiet")
def test_table_from_python_makes_a_run_that_the_same_call_resumes(
    squares: Squares, tmp_path: Path, tiny: dict[str, Any], slim_command: Command
) -> None:
    folder = squares()
    table = pd.read_csv(folder / "metadata.csv")
    before = table.copy()
    call: dict[str, Any] = {"data": table, "load": {"root": folder}, "settings": tiny}
    first = slim.run(tmp_path / "run", **call)
    manifests = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*/manifest.json")}
    assert slim.run(tmp_path / "run", **call) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*/manifest.json")} == manifests
    pd.testing.assert_frame_equal(table, before)
    result = slim_command("status", tmp_path / "run")
    assert result.exit_code == 1
    assert "data= in Python" in result.stderr
    assert slim_command("status", tmp_path / "run", "--json").exit_code == 1


def test_subset_may_come_from_val(finished_run: Path, slim_command: Command) -> None:
    result = slim_command("run", finished_run, "--embed.pool", "val", "--json")
    assert result.exit_code == 0, result.stderr
    subset = pd.read_csv(finished_run / "07-subset/subset.csv")
    assert subset["index"].max() < 16
    assert subset["copies"].sum() == 12
    assert json.loads(result.stdout)["judgements"] == 8


def test_tuning_on_groups_is_said_in_the_supervision(finished_run: Path, slim_command: Command) -> None:
    result = slim_command("run", finished_run, "--retrain.images", "subset", "--retrain.tune-on", "groups", "--json")
    metrics = json.loads(result.stdout)
    judged = "class labels + 8 judgements (masks over 0.5, clicks, seed 0) + val group labels (tuning)"
    assert metrics["retrained"]["supervision"] == judged
    assert metrics["random_subset"]["supervision"] == "class labels + val group labels (tuning)"
    assert metrics["reference"]["supervision"] == "class labels"


def test_full_retraining_may_start_from_the_reference(finished_run: Path, slim_command: Command) -> None:
    words = ["--retrain.mode", "full", "--retrain.start", "reference", "--retrain.epochs", "1"]
    result = slim_command("run", finished_run, *words, "--json")
    assert result.exit_code == 0, result.stderr
    for folder in ("08-retrained/model", "08-retrained/random"):
        assert len(pd.read_csv(finished_run / folder / "history.csv")) == 1


def test_checkpoint_is_taken_as_it_is(
    finished_run: Path, squares: Squares, metrics_of: Callable[..., dict[str, Any]]
) -> None:
    expected = json.loads((finished_run / "10-report/metrics.json").read_text())["reference"]
    checkpoint = finished_run / "01-reference/model.safetensors"
    assert (
        metrics_of("--data", squares(), "--train.checkpoint", checkpoint)["reference"]["groups"] == expected["groups"]
    )
