"""`slim check` lists what cannot be used, and `slim run` stops at it or leaves it out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result

from slim.data import inspection, load_dataset
from slim.runs.foresight import with_usable_images

pytestmark = pytest.mark.usefixtures("small_and_quiet")
Command = Callable[..., Result]


@pytest.fixture
def broken(squares: Callable[..., Path]) -> tuple[Path, str]:
    """A data set, and the path of its one image that cannot be used."""
    data = squares()
    name = pd.read_csv(data / "metadata.csv")["img_filename"][0]
    (data / name).write_bytes(b"")
    return data, str(data / name)


def test_images_that_cannot_be_used_are_listed_with_exit_code_1(
    slim_command: Command, broken: tuple[Path, str], tmp_path: Path
) -> None:
    data, bad = broken
    result = slim_command("check", data, "--write", tmp_path / "bad.csv")
    assert result.exit_code == 1
    assert result.stdout.endswith("80 images, 1 cannot be used.\n")
    assert pd.read_csv(tmp_path / "bad.csv")["path"].tolist() == [bad]
    found = json.loads(slim_command("check", data, "--json").stdout)
    assert [fault["path"] for fault in found["faults"]] == [bad]
    Path(bad).write_bytes(next(path for path in data.rglob("*.png") if str(path) != bad).read_bytes())
    assert slim_command("check", data).exit_code == 0


def test_list_of_images_that_have_been_mended_is_removed_and_one_that_leaves_images_out_is_kept(
    broken: tuple[Path, str], tmp_path: Path
) -> None:
    (folder, bad), listed = broken, tmp_path / "bad-images.csv"
    data = load_dataset(folder)
    without = with_usable_images(data, tmp_path, "skip")
    assert len(without.train) + len(without.val) + len(without.test) == 79
    (tmp_path / "images.json").unlink()
    with_usable_images(without, tmp_path, "stop")
    assert pd.read_csv(listed)["path"].tolist() == [bad]
    Path(bad).write_bytes(next(path for path in folder.rglob("*.png") if str(path) != bad).read_bytes())
    with_usable_images(data, tmp_path, "stop")
    assert not listed.exists()


def test_run_stops_before_any_work_or_leaves_them_out_and_then_does_not_look_again(
    slim_command: Command,
    broken: tuple[Path, str],
    tmp_path: Path,
    tiny_options: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (data, bad), run = broken, tmp_path / "run"
    stopped = slim_command("run", run, "--data", data, *tiny_options)
    assert stopped.exit_code == 1
    assert "Got 1 of 80 that cannot be used. The first: " in stopped.stderr.splitlines()[-1]
    assert pd.read_csv(run / "bad-images.csv")["path"].tolist() == [bad]
    assert not (run / "01-reference").exists()
    done = slim_command("run", run, "--bad-images", "skip")
    assert done.exit_code == 0, done.stderr
    assert {stage["state"] for stage in json.loads(slim_command("status", run, "--json").stdout)} == {"done"}
    monkeypatch.setattr(inspection, "check_image", None)
    assert slim_command("run", run).exit_code == 0
