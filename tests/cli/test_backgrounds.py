"""`slim backgrounds`: the usual figures of ImageNet-9."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from tests.data.benchmarks import layouts

import slim

Command = Callable[..., Result]


@pytest.mark.filterwarnings("ignore:ImageNet-9 as published")
def test_figures_of_the_reference_model_are_those_of_python(
    tmp_path: Path, tiny: dict[str, dict[str, object]], slim_command: Command
) -> None:
    root = layouts.imagenet9(tmp_path / "copy")
    run = slim.open_run(tmp_path / "run", data="imagenet9", load={"root": str(root)}, settings=tiny)
    run.stage("train")
    result = slim_command("backgrounds", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.stderr
    found = slim.evaluate_backgrounds(run.load("train"), root)
    shown = json.loads(result.stdout)
    assert shown.keys() == {"reference"}
    assert shown["reference"]["mixed_rand"] == found.mixed_rand
    assert shown["reference"]["background_gap"] == found.background_gap


def test_each_model_of_a_finished_run_needs_the_challenge(finished_run: Path, slim_command: Command) -> None:
    result = slim_command("backgrounds", finished_run)
    assert result.exit_code == 2
    assert "--root" in result.stderr
