"""What a user sees: help, results on stdout, progress on stderr."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import slim
from slim.cli.main import main
from slim.files import VERSION
from slim.progress import announce
from slim.stages import STAGES

Command = Callable[..., Result]
Squares = Callable[..., Path]
SLIM = Path(sys.executable).with_name("slim")


def test_help_lists_the_commands_in_the_order_of_the_method_without_cutting_any() -> None:
    text = CliRunner().invoke(main, ["--help"], terminal_width=80).stdout
    listed = text.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in listed] == [
        "demo",
        "data",
        "run",
        "status",
        "compare",
        *STAGES,
        "look",
        "attention",
        "recompose",
        "export",
        "import",
        "doctor",
    ]
    assert all(line.endswith(".") and "..." not in line for line in listed)


@pytest.mark.parametrize(
    "command", ["run", "demo", "data", "status", "compare", *STAGES, "look", "attention", "export", "import", "doctor"]
)
def test_help_of_a_command_fits_a_terminal(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"], terminal_width=80)
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "--json" in result.stdout


def imported(words: list[object]) -> set[str]:
    """Modules that a command has imported by its end."""
    code = """
import sys
from slim.cli.main import main
try:
    main()
finally:
    print("\\n", *sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


SLOW = {"torch", "torchvision", "timm", "sklearn", "scipy", "umap", "numba", "matplotlib", "lightning_fabric"}


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["annotate", "--help"], ["--version"]])
def test_help_imports_nothing_that_takes_time(words: list[object]) -> None:
    assert imported(words) & (SLOW | {"pandas", "numpy"}) == set()


@pytest.mark.parametrize("words", [["status"], ["run"]])
def test_run_that_is_done_is_shown_without_torch(finished_run: Path, words: list[object]) -> None:
    found = imported([*words, finished_run])
    assert {"click", "slim.runs.run"} <= found
    assert found & SLOW == set()


@pytest.mark.parametrize(("option", "start"), [("--version", f"slim, version {VERSION}"), ("--help", "Usage: slim ")])
def test_module_is_the_command(option: str, start: str) -> None:
    done = subprocess.run([sys.executable, "-m", "slim", option], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(start)
    assert done.stderr == ""


def test_installed_command_has_results_on_stdout_and_the_rest_on_stderr(finished_run: Path) -> None:
    done = subprocess.run([SLIM, "run", finished_run], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == f"Report: {finished_run / '10-report/report.html'}"
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
        (["run", "run", "--embed.pool", "test"], "'train', 'val'"),
        (["run", "run", "--mask", "segmentation"], "--data FOLDER"),
    ],
)
def test_wrong_usage_has_exit_code_2_and_a_hint(slim_command: Command, words: list[str], hint: str) -> None:
    result = slim_command(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert hint in result.stderr


def test_status_shows_states_and_what_is_next(finished_run: Path, slim_command: Command) -> None:
    assert "All stages are done. Report: " in slim_command("status", finished_run).stderr
    slim_command("curate", finished_run, "--size", "10")
    shutil.rmtree(finished_run / "10-report")
    result = slim_command("status", finished_run)
    rows = [line.split()[:3] for line in result.stdout.splitlines()[1:]]
    assert [row[0] for row in rows] == list(STAGES)
    assert [row[2] for row in rows] == ["done"] * 7 + ["stale"] * 2 + ["missing"]
    assert result.stderr == f"Next: slim retrain {finished_run}, or all remaining stages: slim run {finished_run}\n"


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


SHOWN = {
    "train": "Classifier(resnet10t, 2 classes, 32 x 32 pixels, layer3)\n",
    "attend": "Attention(train 48, val 16, test 16; maps of 2 x 2)\n",
    "embed": "Space(48 train images, 20 components)\n",
    "annotate": "Judgements(8: ",
    "propagate": "Scores of 48 images\nclass  core",
    "curate": "Subset of 12 images, ",
    "retrain": "Retrained(last-layer, ",
    "evaluate": "              worst_group_accuracy average_accuracy",
}


@pytest.mark.parametrize("verb", SHOWN)
def test_stage_shows_its_record_in_a_few_readable_lines(finished_run: Path, slim_command: Command, verb: str) -> None:
    shown = slim_command(verb, finished_run).stdout
    assert shown.startswith(SHOWN[verb])
    assert shown == f"{slim.open_run(finished_run).load(verb)!r}\n"
    assert len(shown.splitlines()) < 30
    assert not any(word in shown for word in ("array(", "memmap", "DataFrame", "Parameter", " object at 0x"))


def test_answers_given_elsewhere_become_the_runs_judgements(
    finished_run: Path, slim_command: Command, tmp_path: Path
) -> None:
    assert slim_command("annotate", finished_run, "--click-noise", "0.1").exit_code == 0
    oracles = slim.open_run(finished_run).load("annotate").frame
    assert (oracles["place_x"].notna() == (oracles["answer"] == "spurious")).all()
    sheet = tmp_path / "sheet.csv"
    assert slim_command("export", finished_run, sheet).stdout == f"{sheet}: 8 images\n"
    rows = pd.read_csv(sheet)[["path"]].drop_duplicates()  # two oracles answered
    rows = rows.assign(answer=["core", "spurious"] * 4, annotator="ann", x=[None, 0.25] * 4)
    rows = rows.assign(y=rows["x"])
    rows.to_csv(sheet, index=False)
    result = slim_command("import", finished_run, sheet)
    assert result.stdout == "Judgements(8: 4 core, 4 spurious, 0 unsure)\n"
    assert "8 new answers" in result.stderr
    assert f"Next: slim propagate {finished_run}" in result.stderr
    assert json.loads(slim_command("import", finished_run, sheet, "--json").stdout) == {"new": 0, "judgements": 8}
    assert "done already" in slim_command("annotate", finished_run).stderr
    back = tmp_path / "back.json"
    assert json.loads(slim_command("export", finished_run, back, "--to", "json", "--json").stdout)["images"] == 8
    images = json.loads(back.read_text())["images"]
    assert {image["judged_by"] for image in images} == {"ann"}
    assert [image["place"] and image["place"]["y"] for image in images] == [None, 0.25] * 4


def test_import_that_is_refused_leaves_the_judgements_and_settings(
    finished_run: Path, slim_command: Command, tmp_path: Path
) -> None:
    files = [finished_run / "settings.json", finished_run / "04-judgements/judgements.csv"]
    before = [file.read_text() for file in files]
    (tmp_path / "other.csv").write_text("path,answer\nelsewhere/1.png,core\n")
    result = slim_command("import", finished_run, tmp_path / "other.csv")
    assert result.exit_code == 1
    assert "must match one image of the run. Got 'elsewhere/1.png'" in result.stderr
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
    assert "has answers of one kind only" in told[0]
    manifest = json.loads((finished_run / "05-scores/manifest.json").read_text())
    assert [f"warning: {text}" for text in manifest["warnings"]] == told


def test_announcement_shows_what_looks_like_markup(capsys: pytest.CaptureFixture[str]) -> None:
    announce("[0/9] compose")
    assert capsys.readouterr().err == "[0/9] compose\n"


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

    monkeypatch.setattr("slim.stages.annotate.page.server.webbrowser.open", visit)
    result = slim_command("annotate", finished_run, "--annotator", "browser", "--host", "0.0.0.0")
    assert result.exit_code == 0
    assert "Judgements(8: 4 core, 4 spurious, 0 unsure)" in result.stdout
    assert "anyone who can reach this machine and has the link sees the photos" in result.stderr
    folder = finished_run / "04-judgements"
    assert set(pd.read_csv(folder / "judgements.csv")["annotator"]) == {"ann"}
    assert slim_command("annotate", finished_run).stdout.startswith("Judgements(8: 4 core")  # done already
    assert slim_command("propagate", finished_run).exit_code == 0


def test_annotate_host_needs_the_page(finished_run: Path, slim_command: Callable[..., Result]) -> None:
    result = slim_command("annotate", finished_run, "--annotator", "masks", "--host", "0.0.0.0")
    assert result.exit_code == 2
    assert "--host and --port need --annotator browser. Got masks" in result.stderr
