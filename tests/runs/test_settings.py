"""Defaults, then the options of earlier calls, then a recipe, then the options of this call."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slim.errors import ArtifactError, SettingsError
from slim.files import VERSION
from slim.runs.run import open_run
from slim.runs.settings import RunSettings, read_recipe, recipes
from slim.stages import STAGES
from slim.stages.propagate.label_spreading import ALPHA


def test_recipe_comes_over_stored_settings_and_options_over_the_recipe(finished_run: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[train]\nepochs = 7\nlr = 0.5\n")
    settings = open_run(finished_run, recipe=recipe, settings={"train": {"lr": 0.25}}).settings
    assert settings["train"].lr == 0.25  # this call
    assert settings["train"].epochs == 7  # recipe
    assert settings["train"].arch == "resnet10t"  # an earlier call
    assert settings["train"].momentum == 0.9  # default


def test_settings_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    settings = RunSettings(seed=3, data={"source": "/pets"}).updated(read_recipe("waterbirds"))
    settings = settings.updated({"embed": {"pool": "val"}, "train": {"checkpoint": "erm.pt"}}).anchored()
    settings.save(tmp_path)
    assert RunSettings.load(tmp_path) == settings


@given(size=st.integers(2, 10_000), keep=st.floats(0.01, 1.0), clusters=st.none() | st.integers(1, 9))
def test_updating_changes_what_is_named_and_nothing_else(size: int, keep: float, clusters: int | None) -> None:
    before = RunSettings()
    after = before.updated({"curate": {"size": size, "keep": keep, "core_clusters": clusters}})
    assert (after["curate"].size, after["curate"].keep, after["curate"].core_clusters) == (size, keep, clusters)
    assert before == RunSettings()
    assert after.stages == {**before.stages, "curate": after["curate"]}
    assert (after.seed, after.data) == (before.seed, before.data)


def test_numbers_of_numpy_are_kept_as_plain_ones(tmp_path: Path) -> None:
    settings = RunSettings().updated({"train": {"epochs": np.int64(3), "lr": np.float32(0.5)}})
    settings.save(tmp_path)
    assert type(settings["train"].epochs) is int
    assert RunSettings.load(tmp_path) == settings


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"trian": {}}, "must belong to a stage: train"),
        ({"train": {"epoch": 3}}, "must be one of: arch.* Got 'epoch'. See: slim train --help"),
        ({"pool": "val"}, "must belong to a stage: .* Got 'pool'"),
        ({"embed": {"pool": "test"}}, "embed.pool must be one of train, val. Got 'test'"),
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


def test_negative_seed_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"seed must be at least 0. Got -1"):
        RunSettings(seed=-1)


def test_paths_mean_the_same_files_from_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"weights": "mine.pt", "checkpoint": Path("erm.pt")}
    settings = RunSettings().updated({"train": files, "annotate": {"recorded": Path("answers.csv")}}).anchored()
    assert settings["train"].checkpoint == str(tmp_path / "erm.pt")
    assert settings["train"].weights == str(tmp_path / "mine.pt")
    assert settings["annotate"].recorded == str(tmp_path / "answers.csv")
    assert RunSettings().anchored() == RunSettings()


def test_number_of_reading_processes_makes_nothing_stale() -> None:
    one, many = RunSettings(), RunSettings().updated({"train": {"workers": 4}, "attend": {"workers": 4}})
    assert one.plain("train") == many.plain("train")
    assert one.plain("attend") == many.plain("attend")
    assert one.plain("train") != RunSettings().updated({"train": {"checkpoint": "erm.pt"}}).plain("train")


def test_settings_of_version_0_1_are_refused_with_one_line(tmp_path: Path) -> None:
    """They had the pool and the checkpoint at the top."""
    old = {"version": "0.1.0", "train": {"arch": "resnet50"}, "pool": "train", "checkpoint": None, "seed": 0}
    (tmp_path / "settings.json").write_text(json.dumps(old))
    with pytest.raises(ArtifactError) as refused:
        RunSettings.load(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path} must be a run of SLIM version {'.'.join(VERSION.split('.')[:2])}. Got version 0.1.0. "
        "Use a new run folder, or install that version."
    )


@pytest.mark.parametrize("content", ["[]", "{}", '{"version": "0.0.1"}', '{"version": 1}'])
def test_file_of_something_else_is_no_run(tmp_path: Path, content: str) -> None:
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ArtifactError, match="new run folder"):
        RunSettings.load(tmp_path)


def test_run_of_the_same_minor_version_that_lacks_a_setting_takes_its_default(tmp_path: Path) -> None:
    RunSettings().save(tmp_path)
    values = json.loads((tmp_path / "settings.json").read_text())
    del values["curate"]["keep"], values["embed"]["pool"], values["digest"]
    (tmp_path / "settings.json").write_text(json.dumps(values))
    assert RunSettings.load(tmp_path) == RunSettings()


@pytest.mark.parametrize("name", recipes())
def test_shipped_recipe_is_valid(name: str) -> None:
    settings = RunSettings().updated(read_recipe(name))
    assert settings != RunSettings()


@pytest.mark.parametrize("name", ["published", "waterbirds"])
def test_published_constants_are_the_papers(name: str) -> None:
    settings = RunSettings().updated(read_recipe(name))
    assert (settings["attend"].pooling, settings["attend"].explain) == ("sum", "label")
    embed = settings["embed"]
    assert (embed.features, embed.plane, embed.metric, embed.neighbors) == ("core", "umap", "euclidean", 5)
    assert (settings["annotate"].budget, settings["annotate"].candidates) == (20, 5)
    assert (settings["propagate"].method, ALPHA) == ("spreading", 1e-6)
    assert (settings["curate"].size, settings["curate"].keep, settings["curate"].keep_within) == (120, 0.5, "class")
    assert (settings["curate"].cluster_on, settings["curate"].choose_by) == ("embedding", "elbow")
    assert settings["curate"].allocation == "spread"
    assert ALPHA == 1e-6
    settings.check_plane()


def test_waterbirds_trains_as_the_paper_does() -> None:
    train = RunSettings().updated(read_recipe("waterbirds"))["train"]
    assert (train.arch, train.image_size, train.optimizer, train.momentum) == ("resnet50", 224, "sgd", 0.9)
    assert (train.lr, train.weight_decay, train.batch_size, train.epochs) == (1e-4, 0.1, 128, 50)
    assert train.schedule == "constant"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[train\n", "TOML"), (b"\xff\xfe", "UTF-8"), (None, "one of celeba, .*published, waterbirds.* does not exist")],
)
def test_unreadable_recipe_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        read_recipe(path)


@pytest.mark.parametrize("verb", STAGES)
def test_plain_settings_of_every_stage_are_json(verb: str) -> None:
    settings = RunSettings()
    assert json.loads(json.dumps(settings.plain(verb))) == settings.plain(verb)
    assert (settings[verb] is None) == (STAGES[verb].settings is None)
