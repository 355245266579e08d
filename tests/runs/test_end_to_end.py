"""All stages on a small data set by commands, and what a user does wrong on the way."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import slim
from slim.cli.main import main
from slim.stages import STAGES

SMALL = [
    *("--train.arch", "resnet10t", "--train.weights", "none", "--train.image-size", "64", "--train.epochs", "1"),
    *("--annotate.budget", "4", "--curate.size", "12"),
]


def photographs(folder: Path) -> Path:
    """Squares (class 1) and bars (class 0) on green or red, with masks: 96 photographs of 40 x 64 pixels."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rows = []
    for i in range(96):
        split, y = ("train", "train", "val", "test")[i // 2 % 4], i % 2
        a = y if split == "train" and i % 12 > 1 else i // 8 % 2
        photo = rng.integers(0, 60, (40, 64, 3)).astype(np.uint8)
        photo[..., a] += 120
        mask = np.zeros((40, 64), np.uint8)
        top, left = rng.integers(0, 20, 2)
        mask[top : top + 18, left : left + (18 if y else 5)] = 255
        photo[mask > 0] = 240
        Image.fromarray(photo).save(folder / f"images/{i}.png")
        Image.fromarray(mask).save(folder / f"masks/{i}.png")
        paths = {"img_filename": f"images/{i}.png", "mask_filename": f"masks/{i}.png"}
        rows.append({**paths, "y": y, "split": split, "place": a})
    pd.DataFrame(rows).to_csv(folder / "metadata.csv", index=False)
    return folder


def call(*arguments: str) -> Result:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", slim.SlimWarning)  # so small a run is not to be trusted, and says so
        show = warnings.showwarning
        try:
            return CliRunner().invoke(main, list(arguments), catch_exceptions=False)
        finally:
            warnings.showwarning = show


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "shapes"
    result = call("run", str(folder), "--data", str(data), *SMALL)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def states(folder: Path) -> dict[str, str]:
    result = call("status", str(folder), "--json")
    return {row["stage"]: row["state"] for row in json.loads(result.stdout)}


def test_run_writes_the_report_and_its_metrics(finished: Path) -> None:
    metrics = json.loads((finished / "10-report/metrics.json").read_text())
    for model in ("reference", "random_subset", "retrained"):
        assert 0 <= metrics[model]["worst_group_accuracy"] <= metrics[model]["average_accuracy"] <= 1
        assert len(metrics[model]["groups"]) == 4
        assert 0 <= metrics[model]["inside_fraction"] <= 1
    assert metrics["judgements"] == 8
    assert metrics["train_images"] == 48
    assert (finished / "10-report/report.html").stat().st_size > 100_000


def test_subset_on_disk_is_balanced_and_of_the_size_asked_for(finished: Path) -> None:
    subset = pd.read_csv(finished / "07-subset/subset.csv")
    assert subset.groupby("y")["copies"].sum().tolist() == [6, 6]


def test_second_run_does_nothing_again(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.glob("*/manifest.json")}
    result = call("run", str(run))
    assert result.stderr.count("done already") == len(STAGES) == len(before)
    assert {path: path.read_bytes() for path in run.glob("*/manifest.json")} == before


def test_changed_setting_makes_its_stage_and_later_ones_stale(run: Path) -> None:
    assert set(states(run).values()) == {"done"}
    assert call("curate", str(run), "--size", "10").exit_code == 0
    after = states(run)
    assert after["curate"] == after["propagate"] == "done"
    assert after["retrain"] == after["evaluate"] == after["report"] == "stale"


def test_stage_before_its_inputs_names_the_next_command(data: Path, tmp_path: Path) -> None:
    result = call("attend", str(tmp_path / "run"), "--data", str(data))
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 2
    assert f"Run: slim train {tmp_path / 'run'}" in result.stderr


def test_failed_stage_leaves_nothing_that_looks_done(run: Path) -> None:
    shutil.rmtree(run / "07-subset")
    result = call("curate", str(run), "--size", "1000")
    assert result.exit_code == 1
    assert "must not be larger than the pool" in result.stderr
    assert states(run)["curate"] == "missing"
    assert call("run", str(run), "--curate.size", "12").exit_code == 0


def test_run_of_another_version_is_refused(run: Path) -> None:
    settings = json.loads((run / "settings.json").read_text())
    (run / "settings.json").write_text(json.dumps({**settings, "version": "9.1.0"}))
    result = call("status", str(run))
    assert result.exit_code == 1
    assert "version 9.1.0" in result.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.assign(y=["cat", "dog"] * 48), "whole numbers"),
        (lambda frame: frame.assign(y=0), "class"),
        (lambda frame: frame[frame["split"] != "val"], "val"),
        (lambda frame: frame.replace("images/7.png", "images/gone.png"), "gone.png"),
    ],
)
def test_bad_table_is_one_line_and_exit_code_1(data: Path, tmp_path: Path, change: object, message: str) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "bad"))
    frame = pd.read_csv(folder / "metadata.csv")
    change(frame).to_csv(folder / "metadata.csv", index=False)  # type: ignore[operator]
    result = call("run", str(tmp_path / "run"), "--data", str(folder))
    assert result.exit_code == 1
    assert result.stderr.startswith("slim: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


def test_missing_folder_and_wrong_usage_have_their_exit_codes(tmp_path: Path) -> None:
    assert call("run", str(tmp_path / "run"), "--data", str(tmp_path / "nowhere")).exit_code == 1
    assert call("status", str(tmp_path)).exit_code == 1
    assert call("run", str(tmp_path / "run"), "--sed", "3").exit_code == 2


def test_masks_are_refused_as_an_oracle_where_there_are_none(data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "plain"))
    frame = pd.read_csv(folder / "metadata.csv").drop(columns=["mask_filename", "place"])
    frame.to_csv(folder / "metadata.csv", index=False)
    result = call("run", str(tmp_path / "run"), "--data", str(folder), *SMALL, "--annotate.annotator", "masks")
    assert result.exit_code == 1
    assert "mask" in result.stderr.splitlines()[-1]
    judged = {"path": frame["img_filename"], "answer": ["core", "spurious", "core"] * 32}
    pd.DataFrame(judged).to_csv(tmp_path / "answers.csv", index=False)
    options = ("--annotate.annotator", "auto", "--annotate.recorded", str(tmp_path / "answers.csv"))
    result = call("run", str(tmp_path / "run"), *options, "--json")
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)
    assert metrics["retrained"]["groups_are"] == "label x curated cell"
    assert metrics["retrained"]["attention"] is None


def test_full_retraining_published_recipe_and_checkpoint(finished: Path, data: Path, tmp_path: Path) -> None:
    checkpoint = str(finished / "01-reference/model.safetensors")
    options = (
        "--train.checkpoint",
        checkpoint,
        "--recipe",
        "published",
        "--retrain.mode",
        "full",
        "--retrain.epochs",
        "1",
    )
    result = call("run", str(tmp_path / "run"), "--data", str(data), *SMALL, *options, "--json")
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)
    reference = json.loads((finished / "10-report/metrics.json").read_text())["reference"]
    assert metrics["reference"]["groups"] == reference["groups"]
    assert (tmp_path / "run/08-retrained/model/history.csv").exists()


def test_own_module_is_the_reference_of_a_run(data: Path, tmp_path: Path) -> None:
    own = slim.build("resnet10t", ["0", "1"], weights=None, image_size=64).module
    reference = slim.wrap(own, image_size=64)
    settings = {"annotate": {"budget": 4}, "curate": {"size": 12}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", slim.SlimWarning)
        metrics = slim.run(tmp_path / "run", data=data, reference=reference, settings=settings)
    assert metrics["judgements"] == 8
