"""What a user sees: help, results on stdout, progress on stderr, and data of every kind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result

import slim
from slim.cli import main
from slim.progress import announce
from slim.workspace import STAGES

Command = Callable[..., Result]
Squares = Callable[..., Path]
SLIM = Path(sys.executable).with_name("slim")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks only wait for each other's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def metrics_of(slim_command: Command, tmp_path: Path, tiny_options: list[str]) -> Callable[..., dict[str, Any]]:
    """Does a whole run with these words: gives its metrics."""

    def call(*words: object) -> dict[str, Any]:
        result = slim_command("run", tmp_path / "run", *tiny_options, *words, "--json")
        assert result.exit_code == 0, result.stderr
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    return call


def test_help_lists_the_commands_in_the_order_of_the_method_without_cutting_any() -> None:
    text = CliRunner().invoke(main, ["--help"], terminal_width=80).stdout
    listed = text.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in listed] == ["demo", "run", "status", "compare", *STAGES, "export", "import"]
    assert all(line.endswith(".") and "..." not in line for line in listed)


@pytest.mark.parametrize("command", ["run", "demo", "status", "compare", *STAGES, "export", "import"])
def test_help_of_a_command_fits_a_terminal(command: str) -> None:
    result = CliRunner().invoke(main, [command, "-h"], terminal_width=80)
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "--json" in result.stdout


def test_command_line_loads_nothing_that_compiles_for_seconds() -> None:
    code = "import sys, slim.cli; print([name for name in ('umap', 'numba', 'pynndescent') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_installed_command_has_results_on_stdout_and_the_rest_on_stderr(finished_run: Path) -> None:
    done = subprocess.run([SLIM, "run", finished_run], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == f"Report: {finished_run / '8-report/report.html'}"
    assert done.stderr.count("· done already\n") == len(STAGES)
    assert "\x1b" not in done.stdout + done.stderr


def test_installed_command_shows_a_mistake_as_one_line(tmp_path: Path) -> None:
    done = subprocess.run([SLIM, "run", "run", "--data", "nowhere"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("slim: nowhere must be a folder")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["trian", "run"], "'train'"),
        (["train", "run", "--epoch", "3"], "'--epochs'"),
        (["run", "run", "--epochs", "3"], "'--train.epochs'"),
        (["train", "run", "--optimizer", "sdg"], "'sgd'"),
        (["train", "run", "--epochs", "many"], "'many' is not a valid integer"),
        (["curate", "run", "--core-clusters", "some"], "'some' is not a valid integer"),
        (["run"], "Missing argument 'RUN'"),
        (["run", "run", "--pool", "test"], "'train', 'val'"),
        (["run", "run", "--mask", "segmentation"], "--data FOLDER"),
    ],
)
def test_wrong_usage_has_exit_code_2_and_a_hint(slim_command: Command, words: list[str], hint: str) -> None:
    result = slim_command(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert hint in result.stderr


def test_status_shows_states_and_what_is_next(finished_run: Path, slim_command: Command) -> None:
    assert "Everything is done. Report: " in slim_command("status", finished_run).stderr
    slim_command("curate", finished_run, "--size", "10")
    shutil.rmtree(finished_run / "8-report")
    result = slim_command("status", finished_run)
    rows = [line.split()[:3] for line in result.stdout.splitlines()[1:]]
    assert [row[0] for row in rows] == list(STAGES)
    assert [row[2] for row in rows] == ["done"] * 6 + ["stale"] * 2 + ["missing"]
    assert result.stderr == f"Next: slim retrain {finished_run}, or all that is left: slim run {finished_run}\n"


def test_status_as_json_is_json_alone(finished_run: Path, slim_command: Command) -> None:
    result = slim_command("status", finished_run, "--json")
    rows = json.loads(result.stdout)
    assert [(row["stage"], row["folder"], row["state"]) for row in rows] == [
        (stage.verb, stage.folder, "done") for stage in STAGES.values()
    ]
    assert all(row["seconds"] >= 0 for row in rows)
    assert result.stderr == ""


@pytest.mark.parametrize("verb", STAGES)
def test_stage_that_is_done_says_so_and_shows_its_result_again(
    finished_run: Path, slim_command: Command, verb: str
) -> None:
    manifest = finished_run / STAGES[verb].folder / "manifest.json"
    before = manifest.stat().st_mtime_ns
    result = slim_command(verb, finished_run)
    assert "done already" in result.stderr
    assert result.stdout.strip()
    assert json.loads(slim_command(verb, finished_run, "--json").stdout)
    assert manifest.stat().st_mtime_ns == before


def test_results_of_judging_and_curating_are_readable(finished_run: Path, slim_command: Command) -> None:
    assert slim_command("annotate", finished_run).stdout.startswith("Judgements(8: ")
    assert slim_command("curate", finished_run).stdout.startswith("Subset of 12 images")
    assert "retrained" in slim_command("evaluate", finished_run).stdout


def test_answers_given_elsewhere_become_the_runs_judgements(
    finished_run: Path, slim_command: Command, tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.csv"
    assert slim_command("export", finished_run, sheet).stdout == f"{sheet}: 8 images\n"
    rows = pd.read_csv(sheet)[["path"]].assign(answer=["core", "spurious"] * 4, annotator="ann")
    rows.to_csv(sheet, index=False)
    result = slim_command("import", finished_run, sheet)
    assert result.stdout == "Judgements(8: 4 core, 4 spurious, 0 unsure)\n"
    assert "8 new answers" in result.stderr
    assert f"Next: slim propagate {finished_run}" in result.stderr
    assert json.loads(slim_command("import", finished_run, sheet, "--json").stdout) == {"new": 0, "judgements": 8}
    assert "done already" in slim_command("annotate", finished_run).stderr
    back = tmp_path / "back.json"
    assert json.loads(slim_command("export", finished_run, back, "--to", "json", "--json").stdout)["images"] == 8
    assert {image["judged_by"] for image in json.loads(back.read_text())["images"]} == {"ann"}


def test_import_that_is_refused_leaves_the_judgements_and_settings(
    finished_run: Path, slim_command: Command, tmp_path: Path
) -> None:
    files = [finished_run / "settings.json", finished_run / "4-annotation/judgements.csv"]
    before = [file.read_text() for file in files]
    (tmp_path / "other.csv").write_text("path,answer\nelsewhere/1.png,core\n")
    result = slim_command("import", finished_run, tmp_path / "other.csv")
    assert result.exit_code == 1
    assert "must mean one image of the run. Got 'elsewhere/1.png'" in result.stderr
    assert [file.read_text() for file in files] == before
    assert slim.open_run(finished_run).state("annotate") == "done"


def test_warning_is_one_line_on_stderr_and_kept_for_the_report(finished_run: Path, slim_command: Command) -> None:
    paths = slim.open_run(finished_run).data.train.paths
    table = finished_run.parent / "answers.csv"
    pd.DataFrame({"path": paths, "answer": "core"}).to_csv(table, index=False)
    slim_command("annotate", finished_run, "--recorded", table)
    result = slim_command("propagate", finished_run)
    told = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(told) == 2
    assert "answers of both kinds" in told[0]
    manifest = json.loads((finished_run / "5-propagation/manifest.json").read_text())
    assert [f"warning: {text}" for text in manifest["warnings"]] == told


def test_announcement_shows_what_looks_like_markup(capsys: pytest.CaptureFixture[str]) -> None:
    announce("[0/9] compose")
    assert capsys.readouterr().err == "[0/9] compose\n"


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
    result = slim_command("run", finished_run, "--pool", "val", "--json")
    assert result.exit_code == 0, result.stderr
    subset = pd.read_csv(finished_run / "6-curation/subset.csv")
    assert subset["index"].max() < 16
    assert subset["copies"].sum() == 12
    assert json.loads(result.stdout)["judgements"] == 8


def test_tuning_on_groups_is_said_in_the_supervision(finished_run: Path, slim_command: Command) -> None:
    result = slim_command("run", finished_run, "--retrain.tune-on", "groups", "--json")
    metrics = json.loads(result.stdout)
    assert metrics["retrained"]["supervision"] == "class labels + 8 judgements + val group labels (tuning)"
    assert metrics["random_subset"]["supervision"] == "class labels + val group labels (tuning)"
    assert metrics["reference"]["supervision"] == "class labels"


def test_full_retraining_may_start_from_the_reference(finished_run: Path, slim_command: Command) -> None:
    words = ["--retrain.mode", "full", "--retrain.start", "reference", "--retrain.epochs", "1"]
    result = slim_command("run", finished_run, *words, "--json")
    assert result.exit_code == 0, result.stderr
    for folder in ("7-retrained", "7-retrained/random-subset"):
        assert len(pd.read_csv(finished_run / folder / "history.csv")) == 1


def test_checkpoint_is_taken_as_it_is(
    finished_run: Path, squares: Squares, metrics_of: Callable[..., dict[str, Any]]
) -> None:
    expected = json.loads((finished_run / "8-report/metrics.json").read_text())["reference"]
    checkpoint = finished_run / "1-reference/model.safetensors"
    assert metrics_of("--checkpoint", checkpoint)["reference"]["groups"] == expected["groups"]


def test_annotate_on_a_page_at_an_address_of_ones_own(
    finished_run: Path, slim_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def visit(link: str) -> bool:
        home = link.partition("?")[0]
        with httpx.Client(follow_redirects=True) as browser:
            browser.get(link)
            queue = browser.get(f"{home}api/session").json()["queue"]
            for i, card in enumerate(queue):
                posts = [{"key": f"k{i}", "index": card["index"], "answer": "core" if i % 2 else "spurious"}]
                browser.post(f"{home}api/posts", json={"annotator": "ann", "posts": posts})
            browser.post(f"{home}api/finish", json={})
        return True

    monkeypatch.setattr("slim.annotation.browser.webbrowser.open", visit)
    result = slim_command("annotate", finished_run, "--annotator", "browser", "--host", "0.0.0.0")
    assert result.exit_code == 0
    assert "Judgements(8: 4 core, 4 spurious, 0 unsure)" in result.stdout
    assert "every machine that reaches this one, and has the link, sees the photos" in result.stderr
    folder = finished_run / "4-annotation"
    assert json.loads((folder / "annotator.json").read_text()) == "ann"
    assert slim_command("annotate", finished_run).stdout.startswith("Judgements(8: 4 core")  # done already
    assert slim_command("propagate", finished_run).exit_code == 0


def test_annotate_host_needs_the_page(finished_run: Path, slim_command: Callable[..., Result]) -> None:
    result = slim_command("annotate", finished_run, "--annotator", "masks", "--host", "0.0.0.0")
    assert result.exit_code == 2
    assert "--host and --port go with --annotator browser. Got masks" in result.stderr
