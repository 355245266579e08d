"""`slim look` and `slim attention`: pictures of any model, and of a run's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image

import slim
from slim.network.build import build
from slim.network.checkpoints import write_tensors

Command = Callable[..., Result]

pytestmark = pytest.mark.usefixtures("small_and_quiet")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30), (200, 60, 60)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_look_needs_no_run_but_a_checkpoint(slim_command: Command, photo: Path, tmp_path: Path) -> None:
    model = build("resnet10t", ["cat", "dog", "cow"], weights=None, image_size=32)
    write_tensors(tmp_path / "erm.safetensors", model.module.state_dict())
    (tmp_path / "notes.pdf").write_text("no image")  # in the folder, which stands for its images
    words = ("look", tmp_path / "erm.safetensors", photo, photo.parent, "--arch", "resnet10t", "--image-size", 32)
    result = slim_command(*words, "--classes", "cat, dog, cow", "--out", tmp_path / "out", "--json")
    rows = json.loads(result.stdout)
    (expected,) = slim.look(model, photo)
    assert [row["prediction"] for row in rows] == [expected.prediction] * 2
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "001-photo.png",
        "002-photo.png",
        "sheet.png",
    ]
    numbered = slim_command(*words, "--out", tmp_path / "out")
    assert numbered.stdout.startswith(f"{model.class_names.index(expected.prediction)} ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("erm.safetensors", "photo.png"), "Add --arch NAME"),
        (("erm.safetensors", "photo.png", "--arch", "vgg11"), "no head of vgg11"),
        (("resnet999", "photo.png"), "which is none of them"),
        (("erm.safetensors", "empty", "--arch", "resnet10t"), "Got none in empty"),
    ],
)
def test_look_says_what_is_missing(
    words: tuple[str, ...],
    message: str,
    slim_command: Command,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    model = build("resnet10t", ["cat", "dog"], weights=None, image_size=32)
    write_tensors(tmp_path / "erm.safetensors", model.module.state_dict())
    result = slim_command("look", *words)
    assert result.exit_code == 1
    assert message in result.stderr


def test_attention_draws_what_is_asked_for(slim_command: Command, finished_run: Path, tmp_path: Path) -> None:
    options = ("--out", tmp_path / "out", "--class", "1", "--json")
    rows = json.loads(slim_command("attention", finished_run, *options, "--show", 3).stdout)
    assert [row["label"] for row in rows] == ["1"] * 3
    assert all(row["aiou"] is not None for row in rows)
    assert [Path(row["picture"]).exists() for row in rows] == [True] * 3
    everything = json.loads(slim_command("attention", finished_run, *options).stdout)
    wrong = [row["path"] for row in everything if row["prediction"] != "1"]
    assert 0 < len(wrong) < len(everything)
    some = slim_command("attention", finished_run, *options, "--only", "wrong")
    assert [row["path"] for row in json.loads(some.stdout)] == wrong


def test_attention_shows_object_maps_in_place_of_masks(
    slim_command: Command, finished_run: Path, tmp_path: Path
) -> None:
    def marked(split: str) -> str:
        words = ("attention", finished_run, "--split", split, "--show", 1, "--out", tmp_path / split, "--json")
        (row,) = json.loads(slim_command(*words).stdout)
        return str(row["marked"])

    assert [marked(split) for split in ("train", "val", "test")] == ["object map", "object map", "mask"]


def test_class_that_is_none_is_refused(slim_command: Command, finished_run: Path) -> None:
    result = slim_command("attention", finished_run, "--class", "zebra")
    assert "Got 'zebra'. Choose from: 0, 1." in result.stderr


def test_retrained_model_is_drawn_too(slim_command: Command, finished_run: Path, tmp_path: Path) -> None:
    run = slim.open_run(finished_run)
    words = ("attention", finished_run, "--model", "retrained", "--out", tmp_path / "out", "--json")
    said = {Path(row["path"]).name: row["prediction"] for row in json.loads(slim_command(*words).stdout)}
    images = run.load("evaluate").images
    predictions = zip(images["path"], images["retrained_prediction"], strict=True)
    assert said == {Path(path).name: run.data.test.class_names[k] for path, k in predictions}


def test_what_is_stale_is_drawn_with_a_warning(slim_command: Command, finished_run: Path, tmp_path: Path) -> None:
    slim.open_run(finished_run, settings={"annotate": {"budget": 3}}).stage("annotate")
    drawn = slim_command("recompose", finished_run, tmp_path / "recomposed.png", "--show", 2)
    assert "What locate made is stale: it is from earlier settings or answers. Run: slim locate" in drawn.stderr
    drawn = slim_command("attention", finished_run, "--model", "retrained", "--show", 1, "--out", tmp_path / "out")
    assert drawn.stderr.count("What retrain made is stale") == 1
    drawn = slim_command("attention", finished_run, "--show", 1, "--out", tmp_path / "out")
    assert "stale" not in drawn.stderr
