"""What the tests of runs look at: states, files and results of a run folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slim.runs.run import open_run
from slim.stages import STAGES

States = Callable[..., dict[str, str]]


@pytest.fixture
def states() -> States:
    """The state of each stage of a run by verb; keywords are those of `open_run`."""

    def read(run: Path, **options: Any) -> dict[str, str]:
        return {stage.verb: state for stage, state, _ in open_run(run, **options).status()}

    return read


@pytest.fixture
def from_on() -> Callable[[str], list[str]]:
    """Verbs of a stage and of all that depend on it, directly or through others."""

    def verbs(verb: str) -> list[str]:
        found = [verb]
        for later in STAGES.values():
            if set(later.before) & set(found):
                found.append(later.verb)
        return found

    return verbs


@pytest.fixture
def written() -> Callable[[Path], dict[str, int]]:
    """When each file of a run's stages was written."""
    return lambda run: {str(path): path.stat().st_mtime_ns for path in run.glob("*/**/*") if path.is_file()}


@pytest.fixture
def results() -> Callable[[Path], dict[str, bytes]]:
    """What a run's records hold, without times, and without the folder that the images are in."""

    def read(run: Path) -> dict[str, bytes]:
        patterns = ("*.npy", "*.csv", "record.json", "model.safetensors", "model.json")
        paths = {path for pattern in patterns for path in run.glob(f"0[1-9]*/**/{pattern}")}
        paths = {path for path in paths if path.name != "history.csv"}  # which has times
        contents = {str(path.relative_to(run)): path.read_bytes() for path in paths}
        return {n: re.sub(rb"[^,\n]*/images/", b"", c) if n.endswith(".csv") else c for n, c in contents.items()}

    return read
