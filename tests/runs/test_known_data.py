"""A look at a run reads the table of its images only where that has changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import slim
from slim.runs.known_data import FILE, recall, remember, versions
from slim.runs.run import open_run

pytestmark = [
    pytest.mark.usefixtures("small_and_quiet"),
    pytest.mark.filterwarnings("ignore::slim.errors.SlimWarning"),
]
States = Callable[..., dict[str, str]]


@pytest.fixture
def remembered(finished_run: Path) -> Path:
    """A run that was looked at by `slim run` since its data were moved."""
    slim.run(finished_run)
    return finished_run


def change_a_place(table: Path) -> None:
    """Give an image another spurious attribute."""
    frame = pd.read_csv(table)
    frame.assign(place=frame["place"].where(frame.index != 3, 1 - frame["place"])).to_csv(table, index=False)


def test_state_of_a_run_does_not_read_its_images(
    remembered: Path, states: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slim.data.load_dataset", None)
    assert set(states(remembered).values()) == {"done"}


def test_changed_table_is_read_again(remembered: Path, tmp_path: Path, states: States) -> None:
    change_a_place(tmp_path / "data/metadata.csv")
    assert set(states(remembered).values()) == {"stale"}


def test_stage_names_the_images_that_it_has_read(remembered: Path, tmp_path: Path) -> None:
    opened = open_run(remembered, settings={"train": {"lr": 0.01}})
    assert opened.state("train") == "stale"
    change_a_place(tmp_path / "data/metadata.csv")  # after the state was asked for
    assert opened.stage("train")
    manifest = opened.folder.manifest("01-reference")
    assert manifest is not None
    assert manifest.inputs["data"] == open_run(remembered).data.fingerprint


def test_table_that_is_gone_is_an_error(remembered: Path, tmp_path: Path, states: States) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(slim.DataError, match="Got nothing there"):
        states(remembered)


def test_folder_whose_table_is_gone_is_not_read_as_a_tree(remembered: Path, tmp_path: Path, states: States) -> None:
    (tmp_path / "data/metadata.csv").rename(tmp_path / "metadata.csv")
    with pytest.raises(slim.DataError, match=r"must stay where it was. Got none at .*metadata\.csv\. Put it back"):
        states(remembered)
    (tmp_path / "metadata.csv").rename(tmp_path / "data/metadata.csv")
    assert set(states(remembered).values()) == {"done"}


def test_images_given_in_python_are_those_that_count(remembered: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(tmp_path / "data/metadata.csv").iloc[:-1]
    other = slim.load_dataset(frame, root=tmp_path / "data")
    assert open_run(remembered, data=other).state("train") == "stale"


@pytest.mark.parametrize("damage", ["", "[]", '{"fingerprint": "0123456789abcdef"}'])
def test_damaged_memory_is_no_loss(remembered: Path, states: States, damage: str) -> None:
    (remembered / FILE).write_text(damage)
    assert set(states(remembered).values()) == {"done"}


def test_memory_of_another_version_is_not_used(remembered: Path) -> None:
    kept = json.loads((remembered / FILE).read_text())
    del kept["digest"]
    source = open_run(remembered).settings.data
    assert recall(remembered, source) == kept["fingerprint"]
    (remembered / FILE).write_text(json.dumps({**kept, "version": "0.0.1"}))
    assert recall(remembered, source) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "cat/2.png").write_bytes((tree / "cat/1.png").read_bytes()),
        lambda tree: (tree / "cat/1.png").unlink(),
        lambda tree: (tree / "cat/1.png").rename(tree / "dog/2.png"),
        lambda tree: (tree / "bird").mkdir(),
        lambda tree: (tree / "metadata.csv").write_text("filename,y"),
    ],
    ids=["added", "removed", "moved", "new class", "table"],
)
def test_changed_tree_is_read_again(tmp_path: Path, change: Callable[[Path], object]) -> None:
    tree = tmp_path / "tree"
    for name in ("cat/1.png", "dog/1.png"):
        (tree / name).parent.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tree / name)
    source = {"source": str(tree)}
    remember(tmp_path, source, versions(tree), "0123456789abcdef")
    assert recall(tmp_path, source) == "0123456789abcdef"
    change(tree)
    assert recall(tmp_path, source) is None


@pytest.mark.parametrize("name", ["without", "mask"])
def test_edited_file_beside_the_images_is_read_again(tmp_path: Path, name: str) -> None:
    (tmp_path / "tree/cat").mkdir(parents=True)
    file = tmp_path / "beside.json"
    file.write_text("[]")
    source = {"source": str(tmp_path / "tree"), name: str(file)}
    remember(tmp_path, source, versions(**source), "0123456789abcdef")
    assert recall(tmp_path, source) == "0123456789abcdef"
    file.write_text("[1]")
    assert recall(tmp_path, source) is None


def test_parquet_that_is_written_over_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "pets/data/train.parquet"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PAR1")
    source = {"source": str(tmp_path / "pets")}
    remember(tmp_path, source, versions(**source), "0123456789abcdef")
    file.write_bytes(b"PAR2")
    assert recall(tmp_path, source) is None


def test_tree_with_links_is_always_read(tmp_path: Path) -> None:
    (tmp_path / "tree/cat").mkdir(parents=True)
    os.symlink(tmp_path / "tree/cat", tmp_path / "tree/dog")
    assert versions(tmp_path / "tree") is None


def test_benchmark_by_its_name_is_always_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert versions("waterbirds") is None
