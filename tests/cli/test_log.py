"""What a run's log holds, and what an error of SLIM itself leaves in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import slim
from slim import processes
from slim.runs.log import LOG, logged
from slim.runs.run import Run, open_run

pytestmark = pytest.mark.usefixtures("small_and_quiet")
Command = Callable[..., Result]


def fail_with(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.fixture
def log(finished_run: Path) -> Path:
    """The run's log, without what was done before."""
    (finished_run / "slim.log").unlink()
    return finished_run / "slim.log"


def test_log_tells_commands_stages_and_warnings(finished_run: Path, log: Path, slim_command: Command) -> None:
    file = finished_run.parent / "rec.toml"
    file.write_text("[propagate]\ngamma = 2\n")
    assert slim_command("propagate", finished_run, "--gamma", "2", "--recipe", file).exit_code == 0
    lines = log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|WARNING) ", line) for line in lines)
    texts = [line.split(maxsplit=2)[2] for line in lines]
    assert texts[0].startswith(f"slim {slim.__version__}, Python 3.")
    assert texts[0].endswith(": slim propagate … --gamma 2.0 --recipe …")
    assert texts[1] == "propagate started"
    assert re.fullmatch(r"propagate done after \d+\.\d s", texts[-1])
    manifest = open_run(finished_run).folder.manifest("05-scores")
    assert manifest is not None
    assert manifest.warnings
    assert texts[2:-1] == list(manifest.warnings)
    assert open_run(finished_run).state("propagate") == "done"
    assert open_run(finished_run).damage("propagate", read=True) == ""


def test_log_ends_with_the_error_and_names_no_folder(finished_run: Path, log: Path, slim_command: Command) -> None:
    data = finished_run.parent / "data"
    (data / "images/train000.png").write_bytes(b"")
    elsewhere = finished_run.parent / "my patients.csv"
    assert slim_command("train", finished_run, "--epochs", "2").exit_code == 1
    assert slim_command("annotate", finished_run, "--recorded", elsewhere).exit_code == 1
    text = log.read_text()
    assert "ERROR   stopped by slim.errors.DataError" in text
    assert "DATA/images/train000.png" in text
    assert "train done" not in text
    assert str(finished_run.parent) not in text
    assert str(Path.home()) not in text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("{run}/02-attention is damaged", "RUN/02-attention is damaged"),
        ("{run}-2/x is damaged", "…/x is damaged"),
        (
            "/mnt/a/b/x.csv and/or 1/2 of 3, see http://127.0.0.1/x/",
            "…/x.csv and/or 1/2 of 3, see http://127.0.0.1/x/",
        ),
        ("~/patients/7.png:", "…/7.png:"),
    ],
)
def test_folders_are_left_out_of_the_log(tmp_path: Path, text: str, kept: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with logged(run):
        LOG.info(text.format(run=run))
    assert (run / "slim.log").read_text().splitlines()[-1].split(maxsplit=2)[2] == kept


def test_log_that_cannot_be_written_stops_nothing(finished_run: Path, log: Path, slim_command: Command) -> None:
    log.mkdir()
    assert slim_command("propagate", finished_run, "--gamma", "2").exit_code == 0


def test_second_process_writes_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_number", 1)
    with logged(tmp_path):
        LOG.warning("seen twice")
    assert list(tmp_path.iterdir()) == []


def test_error_of_ours_is_one_line_and_its_traceback_is_in_the_log(
    finished_run: Path, log: Path, slim_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slim.stages.curate.curate.curate", fail_with(ZeroDivisionError("a bug")))
    for number in (1, 2):
        result = slim_command("curate", finished_run, "--size", "10")
        assert result.exit_code == 70
        assert result.stderr.splitlines()[-1] == (
            f"slim: SLIM itself failed with ZeroDivisionError: a bug. Its traceback is in {log}. "
            "Report it with what slim doctor prints."
        )
        assert "Traceback" not in result.stderr
        assert log.read_text().count("\nZeroDivisionError: a bug\n") == number
    assert "in fail\n    raise error" in log.read_text()
    assert open_run(finished_run).state("curate") == "stale"  # the old result is there still


def test_log_stays_small(finished_run: Path, log: Path, slim_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "status", fail_with(ZeroDivisionError("a bug")))
    for _ in range(4):
        log.write_text("x" * 1_000_001)
        assert slim_command("status", finished_run).exit_code == 70
    assert log.stat().st_size < 20_000
    assert sorted(path.name for path in finished_run.glob("slim.log*")) == ["slim.log", "slim.log.1", "slim.log.2"]


def test_traceback_of_a_command_without_a_run_is_in_the_working_folder(
    slim_command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("slim.cli.doctor._versions", fail_with(ZeroDivisionError("a bug")))
    assert slim_command("doctor").exit_code == 70
    assert (tmp_path / "slim.log").exists()
