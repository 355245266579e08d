"""What a bug report needs, and nothing that is nobody else's business."""

from __future__ import annotations

import getpass
import json
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from click.testing import Result

from slim.files import VERSION
from slim.stages import STAGES

Command = Callable[..., Result]


def test_doctor_names_versions_and_the_machine(slim_command: Command) -> None:
    result = slim_command("doctor")
    assert result.exit_code == 0
    facts = dict(line.split(": ", 1) for line in result.stdout.splitlines())
    assert facts["slim"] == VERSION
    assert facts["python"] == platform.python_version()
    assert facts["torch"] == torch.__version__
    assert {"torchvision", "timm", "numpy", "device", "bfloat16", "memory", "disk"} <= facts.keys()
    assert facts["threads"].startswith(f"{torch.get_num_threads()} on ")
    assert facts["disk"].endswith("GB left")


def test_doctor_names_the_states_of_a_run(finished_run: Path, slim_command: Command) -> None:
    (finished_run / "05-scores/scores.npy").unlink()
    facts = json.loads(slim_command("doctor", finished_run, "--json").stdout)
    assert facts["train"] == "done"
    assert facts["propagate"] == "damaged, scores.npy is missing"
    assert facts["curate"] == "stale"
    assert STAGES.keys() <= facts.keys()


def test_doctor_names_no_user_and_no_folder(finished_run: Path, slim_command: Command) -> None:
    results = [slim_command("doctor", finished_run), slim_command("doctor", finished_run / "nowhere")]
    shutil.rmtree(finished_run.parent / "data")
    results.append(slim_command("doctor", finished_run))
    for result in results:
        assert result.exit_code == 0
        for private in (str(finished_run.parent), str(Path.home()), platform.node(), f"/{getpass.getuser()}"):
            assert private not in result.stdout
    assert "run: cannot be opened (ArtifactError)" in results[1].stdout
    assert "run: cannot be opened (DataError)" in results[2].stdout
