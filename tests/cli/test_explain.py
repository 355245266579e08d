"""`slim explain`: what it prints and keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

Command = Callable[..., Result]


def test_an_explanation_is_kept_and_named_and_made_again_when_a_setting_changes(
    finished_run: Path, slim_command: Command
) -> None:
    words = ("explain", finished_run, "--clusters", 6, "--images", 10)
    first = json.loads(slim_command(*words, "--json").stdout)
    target = finished_run / "explanation"
    assert Path(first["page"]) == target / "explain.html"
    made = (target / "record.json").stat().st_mtime_ns
    shown = slim_command("explain", finished_run)
    assert "Pictures:" in shown.stdout
    assert (target / "record.json").stat().st_mtime_ns == made
    number = first["concepts"][0]["number"]
    named = slim_command("explain", finished_run, "--name", f"{number}=Grey wall", "--json")
    assert named.exit_code == 0, named.stderr
    assert json.loads(named.stdout)["concepts"][0]["name"] == "Grey wall"
    assert "Grey wall" in slim_command("explain", finished_run).stdout
    assert "Grey wall" in (target / "explain.html").read_text(encoding="utf-8")
    again = slim_command("explain", finished_run, "--clusters", 7, "--images", 10)
    assert "lose their names" in again.stderr
    assert "Grey wall" not in again.stdout


def test_a_name_without_a_number_is_refused(finished_run: Path, slim_command: Command) -> None:
    result = slim_command("explain", finished_run, "--name", "sticker")
    assert result.exit_code == 2
    assert 'Try --name 3="dark corners"' in result.stderr


def test_a_stale_attention_is_named_with_its_command(finished_run: Path, slim_command: Command) -> None:
    (finished_run / "02-attention" / "train" / "maps.npy").unlink()
    result = slim_command("explain", finished_run)
    assert result.exit_code == 1
    assert f"Run: slim attend {finished_run}" in result.stderr


def test_the_report_shows_the_explanation_once_there_is_one(finished_run: Path, slim_command: Command) -> None:
    slim_command("explain", finished_run, "--clusters", 6, "--images", 10)
    assert slim_command("report", finished_run).exit_code == 0
    page = (finished_run / "10-report" / "report.html").read_text(encoding="utf-8")
    assert "What the reference model relies on" in page
    assert "done already" in slim_command("report", finished_run).stderr
