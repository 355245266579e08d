"""`slim data` checks a copy, and `--data NAME --root DIR` takes a run to it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from tests.data.benchmarks import layouts

from slim.data.benchmarks import registry
from slim.errors import DataError

pytestmark = pytest.mark.usefixtures("small_and_quiet")
Command = Callable[..., Result]


def test_copy_is_checked_and_its_groups_are_printed_beside_the_published_ones(
    slim_command: Command, tmp_path: Path
) -> None:
    root = layouts.waterbirds(tmp_path / "copy")
    result = slim_command("data", "waterbirds", "--root", root)
    assert result.exit_code == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["train", "24", "4,795"] in lines
    assert ["train", "landbird,", "place=land", "6", "3,498"] in lines
    assert "Objects are marked by: masks in all splits\n" in result.stdout
    assert f"Next: slim run runs/waterbirds --data waterbirds --root {root}" in result.stdout
    assert "4,795 train images, this copy has" in result.stderr
    found = json.loads(slim_command("data", "waterbirds", "--root", root, "--json").stdout)
    assert [row["published"] for row in found["counts"] if not row["group"]] == [4795, 1199, 5794]


def test_without_root_the_benchmark_is_downloaded(
    slim_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = layouts.nico(tmp_path / "cache" / "nico")
    monkeypatch.setattr(registry, "fetch", lambda name: root)
    result = slim_command("data", "nico")
    assert result.exit_code == 0, result.stderr
    assert "Next: slim run runs/nico --data nico\n" in result.stdout

    def offline(name: str) -> Path:
        raise DataError("No file.")

    monkeypatch.setattr(registry, "fetch", offline)
    assert slim_command("data", "nico").stderr.endswith("slim: No file.\n")


def test_run_takes_a_benchmark_by_its_name_and_finds_it_again(
    slim_command: Command, tmp_path: Path, tiny_options: list[str]
) -> None:
    root = layouts.waterbirds(tmp_path / "copy")
    run = tmp_path / "run"
    first = slim_command("train", run, "--data", "waterbirds", "--root", root, "--epochs", 1, *tiny_train(tiny_options))
    assert first.exit_code == 0, first.stderr
    stored = json.loads((run / "settings.json").read_text())["data"]
    assert (stored["source"], stored["root"]) == ("waterbirds", str(root))
    states = json.loads(slim_command("status", run, "--json").stdout)
    assert states[0]["state"] == "done"
    refused = slim_command("train", run, "--root", root)
    assert "--root, --attribute and --mask need --data" in refused.stderr


def tiny_train(options: list[str]) -> list[str]:
    """The options of the stage `train` as its own command has them."""
    pairs = zip(options[::2], options[1::2], strict=True)
    chosen = [(name, value) for name, value in pairs if name.startswith("--train.") and not name.endswith("epochs")]
    return [word for name, value in chosen for word in (name.replace("train.", ""), value)]


def test_help_does_not_load_the_benchmarks() -> None:
    code = "import sys, slim.cli.main; print([n for n in sys.modules if n.startswith('slim.data.benchmarks.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
