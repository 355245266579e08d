"""A finished run as the bench of a comparison, and as the first seed of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from slim.comparison.bench import Bench
from slim.runs.run import open_run


@pytest.fixture
def bench(finished_run: Path) -> Bench:
    """The finished run, with all that the rows of its seed share."""
    return Bench(open_run(finished_run))


@pytest.fixture
def comparison_folder(finished_run: Path, tmp_path: Path) -> Path:
    """The folder of a comparison whose seed 0 is the finished run."""
    folder = tmp_path / "c"
    folder.mkdir()
    finished_run.rename(folder / "seed-0")
    return folder
