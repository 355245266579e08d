"""The tutorials run as they are, on fewer and smaller images, and are kept without outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

TUTORIALS = sorted((Path(__file__).parents[1] / "docs/tutorials").glob("*.ipynb"))

SMALLER = """
import warnings
from dataclasses import fields

import torch

import slim.data.demo
from slim.runs.settings import RunSettings

warnings.simplefilter("ignore", slim.SlimWarning)  # so little data is not to be trusted, and SLIM says so
torch.set_num_threads(1)
slim.data.demo.SIZES.update(train=48, val=16, test=32)
for verb in {tiny}:
    record = RunSettings().updated({tiny})[verb]
    values = tuple(getattr(record, item.name) for item in fields(record))
    type(record).__init__.__defaults__ = values
"""


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(path: Path, tiny: dict[str, dict[str, object]], tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="notebooks are not installed: pip install nbclient")
    nbclient = pytest.importorskip("nbclient", reason="notebooks are not installed: pip install nbclient")
    notebook: Any = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(SMALLER.format(tiny=tiny)))
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert any("data:image/jpeg;base64," in data.get("text/html", "") for data in shown)


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_is_kept_without_outputs(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="notebooks are not installed: pip install nbclient")
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert code


def test_there_are_tutorials() -> None:
    assert {"own-folder", "benchmark", "own-model"} <= {path.stem for path in TUTORIALS}
