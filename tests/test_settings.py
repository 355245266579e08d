"""Defaults, then what the run was begun with, then a recipe, then what is asked now."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slim.errors import ArtifactError, SettingsError
from slim.pipeline import open_run
from slim.settings import RunSettings, read_recipe, recipes


def test_recipe_comes_over_stored_settings_and_options_over_the_recipe(finished_run: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[train]\nepochs = 7\nlr = 0.5\n")
    settings = open_run(finished_run, recipe=recipe, settings={"train": {"lr": 0.25}}).settings
    assert settings.train.lr == 0.25  # asked now
    assert settings.train.epochs == 7  # recipe
    assert settings.train.arch == "resnet10t"  # what the run was begun with
    assert settings.train.momentum == 0.9  # default


def test_settings_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    settings = RunSettings(seed=3, pool="val", data={"source": "/pets"}).updated(read_recipe("waterbirds")).anchored()
    settings.save(tmp_path)
    assert RunSettings.load(tmp_path) == settings


@given(size=st.integers(2, 10_000), keep=st.floats(0.01, 1.0), clusters=st.none() | st.integers(1, 9))
def test_updating_changes_what_is_named_and_nothing_else(size: int, keep: float, clusters: int | None) -> None:
    before = RunSettings()
    after = before.updated({"curate": {"size": size, "keep": keep, "core_clusters": clusters}})
    assert (after.curate.size, after.curate.keep, after.curate.core_clusters) == (size, keep, clusters)
    assert before == RunSettings()
    changed = asdict(before) | {"curate": asdict(after)["curate"]}
    assert asdict(after) == changed


def test_numbers_of_numpy_are_kept_as_plain_ones(tmp_path: Path) -> None:
    settings = RunSettings().updated({"train": {"epochs": np.int64(3), "lr": np.float32(0.5)}})
    settings.save(tmp_path)
    assert type(settings.train.epochs) is int
    assert RunSettings.load(tmp_path) == settings


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"trian": {}}, "must be of a stage: train"),
        ({"train": {"epoch": 3}}, "must be one of: arch"),
        ({"train": 3}, r"below a line \[train\]"),
        ({"train": {"epochs": "three"}}, "train.epochs must be a whole number. Got 'three'"),
        ({"train": {"epochs": 2.5}}, "whole number"),
        ({"train": {"epochs": True}}, "whole number"),
        ({"train": {"epochs": None}}, "whole number"),
        ({"train": {"arch": 50}}, "text"),
        ({"train": {"image_size": "big"}}, "a whole number or none"),
        ({"curate": {"keep": "half"}}, "a number"),
        ({"curate": {"allocation": "even"}}, "one of uniform, spread"),
        ({"curate": {"size": 1}}, "at least 2"),
    ],
)
def test_wrong_overrides_are_refused_by_name(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        RunSettings().updated(overrides)  # type: ignore[arg-type]


@pytest.mark.parametrize("own", [{"seed": -1}, {"pool": "test"}])
def test_wrong_seed_or_pool_is_refused(own: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=r"must be .* Got"):
        RunSettings(**own)  # type: ignore[arg-type]


def test_paths_mean_the_same_files_from_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = {"train": {"weights": "mine.pt"}, "annotate": {"recorded": Path("answers.csv")}}
    settings = RunSettings(checkpoint="erm.pt").updated(overrides).anchored()
    assert settings.checkpoint == str(tmp_path / "erm.pt")
    assert settings.train.weights == str(tmp_path / "mine.pt")
    assert settings.annotate.recorded == str(tmp_path / "answers.csv")
    assert RunSettings().anchored() == RunSettings()


def test_number_of_reading_processes_makes_nothing_stale() -> None:
    one, many = RunSettings(), RunSettings().updated({"train": {"workers": 4}, "attend": {"workers": 4}})
    assert one.of("train") == many.of("train")
    assert one.of("attend") == many.of("attend")
    assert one.of("train") != RunSettings(checkpoint="erm.pt").of("train")


@pytest.mark.parametrize("content", ["[]", "{}", '{"version": "0.0.1"}'])
def test_file_of_something_else_is_no_run(tmp_path: Path, content: str) -> None:
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ArtifactError, match="new run folder"):
        RunSettings.load(tmp_path)


def test_run_of_the_same_minor_version_that_lacks_a_setting_takes_its_default(tmp_path: Path) -> None:
    RunSettings().save(tmp_path)
    values = json.loads((tmp_path / "settings.json").read_text())
    del values["curate"]["keep"], values["pool"]
    (tmp_path / "settings.json").write_text(json.dumps(values))
    assert RunSettings.load(tmp_path) == RunSettings()


@pytest.mark.parametrize("name", recipes())
def test_shipped_recipe_is_valid(name: str) -> None:
    settings = RunSettings().updated(read_recipe(name))
    assert settings != RunSettings()


@pytest.mark.parametrize("name", ["published", "waterbirds"])
def test_published_constants_are_the_papers(name: str) -> None:
    settings = RunSettings().updated(read_recipe(name))
    assert (settings.attend.pooling, settings.attend.explain) == ("sum", "label")
    assert (settings.embed.features, settings.embed.metric, settings.embed.neighbors) == ("core", "euclidean", 5)
    assert (settings.annotate.budget, settings.annotate.candidates) == (20, 5)
    assert settings.propagate.alpha == 1e-6
    assert (settings.curate.size, settings.curate.keep, settings.curate.keep_within) == (120, 0.5, "class")
    assert (settings.curate.cluster_on, settings.curate.choose_by) == ("embedding", "elbow")
    assert settings.curate.allocation == "spread"


def test_waterbirds_trains_as_the_paper_does() -> None:
    train = RunSettings().updated(read_recipe("waterbirds")).train
    assert (train.arch, train.image_size, train.optimizer, train.momentum) == ("resnet50", 224, "sgd", 0.9)
    assert (train.lr, train.weight_decay, train.batch_size, train.epochs) == (1e-4, 0.1, 128, 50)
    assert train.schedule == "constant"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[train\n", "TOML"), (b"\xff\xfe", "UTF-8"), (None, "one of demo, published, waterbirds")],
)
def test_unreadable_recipe_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        read_recipe(path)


def test_every_stage_has_plain_settings_to_compare() -> None:
    settings = RunSettings()
    for stage in (f.name for f in fields(settings) if hasattr(getattr(settings, f.name), "__dataclass_fields__")):
        assert json.loads(json.dumps(settings.of(stage))) == settings.of(stage)
