"""Each mistake is one clear line on stderr with exit code 1, and nothing looks done that is not."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import Result
from PIL import Image

from slim.files import VERSION
from slim.runs import folder as run_folder
from slim.runs.lock import alone_in
from slim.runs.run import Run

pytestmark = pytest.mark.usefixtures("small_and_quiet")
Command = Callable[..., Result]
Squares = Callable[..., Path]
SLIM = Path(sys.executable).with_name("slim")


def last_line(result: Result) -> str:
    """The message, where the command failed as it should."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    line = result.stderr.splitlines()[-1]
    assert line.startswith("slim: ")
    assert sum(other.startswith("slim: ") for other in result.stderr.splitlines()) == 1
    return line


def states(slim_command: Command, run: Path) -> dict[str, str]:
    return {row["stage"]: row["state"] for row in json.loads(slim_command("status", run, "--json").stdout)}


def damaged(data: Path, split: str, change: Callable[[Path], None], folder: str = "images") -> Path:
    """The data set with the first file of a split changed."""
    change(data / folder / f"{split}000.png")
    return data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table[table["split"] != "test"], "images. Got none in test"),
        (lambda table: table.assign(y=1), "at least two classes. Got only class '1'"),
        (lambda table: table.assign(y=["cat", "dog"] * 40), "whole numbers"),
        (lambda table: table.replace("images/val003.png", "images/gone.png"), "gone.png"),
        (lambda table: table.drop(columns="y"), "y"),
        (lambda table: table.assign(split="dev"), "dev"),
    ],
)
def test_bad_table_is_refused_before_a_folder_is_made(
    squares: Squares,
    slim_command: Command,
    tmp_path: Path,
    change: Callable[[pd.DataFrame], pd.DataFrame],
    message: str,
) -> None:
    data = squares()
    change(pd.read_csv(data / "metadata.csv")).to_csv(data / "metadata.csv", index=False)
    assert message in last_line(slim_command("run", tmp_path / "run", "--data", data))
    assert not (tmp_path / "run").exists()
    assert "must be a run folder" in last_line(slim_command("status", tmp_path / "run"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def shrink(path: Path) -> None:
    Image.open(path).resize((20, 18)).save(path)


@pytest.mark.parametrize(
    ("folder", "split", "change", "message"),
    [
        ("images", "train", truncate, "train000.png"),
        ("images", "test", truncate, "test000.png"),
        ("masks", "test", shrink, "test000.png"),
    ],
)
def test_bad_image_or_mask_is_named_before_any_stage(
    squares: Squares,
    slim_command: Command,
    tmp_path: Path,
    tiny_options: list[str],
    folder: str,
    split: str,
    change: Callable[[Path], None],
    message: str,
) -> None:
    data, run = damaged(squares(), split, change, folder), tmp_path / "run"
    assert message in last_line(slim_command("run", run, "--data", data, *tiny_options))
    assert set(states(slim_command, run).values()) == {"missing"}


def test_masks_as_annotator_need_masks(
    squares: Squares, slim_command: Command, tmp_path: Path, tiny_options: list[str]
) -> None:
    words = ["--data", squares(drop=["mask"]), *tiny_options, "--annotate.annotator", "masks"]
    assert "a data set without masks" in last_line(slim_command("run", tmp_path / "run", *words))
    assert set(states(slim_command, tmp_path / "run").values()) == {"missing"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["annotate", "--budget", "25"], "which has 24"),
        (["curate", "--size", "49"], "not be larger than the pool"),
        (["annotate", "--recorded", "nowhere.csv"], "nowhere.csv"),
        (["annotate", "--noise", "2"], "from 0 to 1"),
        (["train", "--arch", "resnot50"], "timm knows. Got 'resnot50'"),
        (["train", "--layer", "layer9"], "'layer9'"),
        (["train", "--checkpoint", "nowhere.pt"], "nowhere.pt, which does not exist"),
        (["train", "--device", "cuda"], "cuda"),
        (["train", "--lr", "-1"], "lr must be above 0"),
        (["train", "--seed", "-1"], "seed must be at least 0"),
        (["train", "--recipe", "nope"], "waterbirds-default, or a TOML file. Got 'nope'"),
    ],
)
def test_wrong_setting_is_refused_and_its_stage_is_not_done(
    finished_run: Path, slim_command: Command, words: list[str], message: str
) -> None:
    if words[-1] == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    settings = (finished_run / "settings.json").read_text()
    verb, *options = words
    assert message in last_line(slim_command(verb, finished_run, *options))
    assert (finished_run / "settings.json").read_text() == settings
    now = states(slim_command, finished_run)
    assert now[verb] == "missing" or set(now.values()) == {"done"}


@pytest.mark.parametrize("content", [b"nothing like a checkpoint", b"", b"\x80\x04."])
def test_file_that_is_no_checkpoint_is_refused(
    finished_run: Path, slim_command: Command, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "bad.pt").write_bytes(content)
    assert "bad.pt" in last_line(slim_command("train", finished_run, "--checkpoint", tmp_path / "bad.pt"))
    assert states(slim_command, finished_run)["train"] == "missing"


def test_checkpoint_of_another_architecture_is_refused(
    finished_run: Path, slim_command: Command, tmp_path: Path
) -> None:
    torch.save({"fc.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(2)}, tmp_path / "other.pt")
    line = last_line(slim_command("train", finished_run, "--checkpoint", tmp_path / "other.pt"))
    assert "must fit the model" in line
    assert "--arch" in line


def test_recipe_that_is_no_toml_is_refused(finished_run: Path, slim_command: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[train\nepochs = 3")
    assert "must be TOML" in last_line(slim_command("run", finished_run, "--recipe", tmp_path / "bad.toml"))
    assert set(states(slim_command, finished_run).values()) == {"done"}


@pytest.mark.parametrize("version", ["0.1.0", "9.1.0"])
@pytest.mark.parametrize("file", ["settings.json", "01-reference/manifest.json"])
def test_run_of_another_version_is_refused(finished_run: Path, slim_command: Command, file: str, version: str) -> None:
    values = json.loads((finished_run / file).read_text())
    (finished_run / file).write_text(json.dumps({**values, "version": version}))
    before = {path: path.read_bytes() for path in finished_run.rglob("*.json")}
    for verb in ("status", "run", "curate"):
        result = slim_command(verb, finished_run)
        line = f"slim: {finished_run} must be a run of SLIM version 0.2. Got version {version}. "
        assert last_line(result) == f"{line}Use a new run folder, or install that version."
    assert {path: path.read_bytes() for path in finished_run.rglob("*.json")} == before


NO_SETTINGS = [b"", b"{", b"[]", b"\xff\xfe\x80", b"[" * 50_000, b'{"version": 3}']
NO_SETTINGS += [json.dumps({"version": VERSION, **values}).encode() for values in ({"seed": "0"}, {"data": []})]


@pytest.mark.parametrize("content", NO_SETTINGS)
def test_settings_that_are_none_are_named(finished_run: Path, slim_command: Command, content: bytes) -> None:
    (finished_run / "settings.json").write_bytes(content)
    for verb in ("status", "run", "curate"):
        assert str(finished_run) in last_line(slim_command(verb, finished_run))


def test_settings_that_another_file_took_the_place_of_are_named(finished_run: Path, slim_command: Command) -> None:
    (finished_run / "settings.json").write_bytes((finished_run / "05-scores/manifest.json").read_bytes())
    assert f"slim: {finished_run / 'settings.json'}: " in last_line(slim_command("run", finished_run))


def test_recipe_nested_deep_is_refused(finished_run: Path, slim_command: Command, tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text("[train]\nepochs = " + "[" * 50_000)
    assert "must be TOML" in last_line(slim_command("run", finished_run, "--recipe", tmp_path / "deep.toml"))


@pytest.mark.parametrize("source_format", ["json", "label-studio"])
def test_judgements_nested_deep_are_refused(
    finished_run: Path, slim_command: Command, tmp_path: Path, source_format: str
) -> None:
    (tmp_path / "deep.json").write_text("[" * 50_000)
    words = ["import", finished_run, tmp_path / "deep.json", "--from", source_format]
    assert "deep.json must hold JSON. Got JSON nested deeper than 100 levels" in last_line(slim_command(*words))


@pytest.mark.parametrize("verb", ["status", "run", "curate"])
def test_folder_that_is_no_run_is_refused_with_the_command_to_begin_one(
    slim_command: Command, tmp_path: Path, verb: str
) -> None:
    assert f"Start a run: slim run {tmp_path} --data FOLDER" in last_line(slim_command(verb, tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["status", "run", "demo"])
def test_file_in_place_of_the_run_folder_is_refused(slim_command: Command, tmp_path: Path, verb: str) -> None:
    (tmp_path / "run").write_text("mine")
    assert str(tmp_path / "run") in last_line(slim_command(verb, tmp_path / "run"))
    assert (tmp_path / "run").read_text() == "mine"


def test_folder_that_cannot_be_made_is_named(squares: Squares, slim_command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    line = last_line(slim_command("run", tmp_path / "file" / "run", "--data", squares()))
    assert f"Not a directory: {tmp_path / 'file' / 'run'}" in line


def fail_with(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/runs/maps.npy"), "No space left on device: /runs/maps.npy"),
        (PermissionError(errno.EACCES, "Permission denied", "/runs/x"), "Permission denied: /runs/x"),
        (OSError(errno.EXDEV, "Cross-device link", "/a", None, "/b"), "Cross-device link: /a to /b"),
        (OSError("broken data stream"), "broken data stream"),
        (MemoryError(), "--batch-size"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "--batch-size"),
    ],
)
def test_trouble_with_the_machine_is_one_line_and_the_stage_is_not_done(
    finished_run: Path, slim_command: Command, monkeypatch: pytest.MonkeyPatch, error: BaseException, message: str
) -> None:
    monkeypatch.setattr("slim.stages.curate.curate.curate", fail_with(error))
    assert message in last_line(slim_command("curate", finished_run, "--size", "10"))
    assert states(slim_command, finished_run)["curate"] == "stale"  # the old result is there still
    monkeypatch.undo()
    assert slim_command("curate", finished_run).exit_code == 0  # with the settings of the command that was cut off
    assert json.loads((finished_run / "settings.json").read_text())["curate"]["size"] == 10


def test_full_disk_while_the_manifest_is_written_leaves_the_stage_undone(
    finished_run: Path, slim_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = run_folder.write_sealed
    full = fail_with(OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(
        run_folder, "write_sealed", lambda path, value: (full if path.name == "manifest.json" else write)(path, value)
    )
    assert "No space left" in last_line(slim_command("curate", finished_run, "--size", "10"))
    assert states(slim_command, finished_run)["curate"] == "stale"  # the old result is there still


def test_reader_that_has_seen_enough_is_no_error(
    finished_run: Path, slim_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "status", fail_with(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    result = slim_command("status", finished_run)
    assert "slim:" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="the size of files cannot be limited")
def test_disk_that_fills_up_while_a_checkpoint_is_written_is_one_line_and_the_run_goes_on(
    finished_run: Path, slim_command: Command
) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    words = [SLIM, "train", finished_run, "--epochs", "2"]
    done = subprocess.run(words, preexec_fn=limit, capture_output=True, text=True, check=False)
    file = finished_run / "01-reference/last.safetensors"
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"slim: Files must be readable and writable. Got: File too large: {file}. "
        "Fix this; the same command then continues."
    )
    assert states(slim_command, finished_run)["train"] == "missing"
    assert slim_command("train", finished_run).exit_code == 0
    assert not list(finished_run.rglob("*.partial"))


def test_second_command_in_a_run_says_so_and_leaves(finished_run: Path, slim_command: Command) -> None:
    with alone_in(finished_run):
        for words in (["run"], ["curate", "--size", "10"]):
            line = last_line(slim_command(words[0], finished_run, *words[1:]))
            assert line.startswith(f"slim: A run folder must be used by one command at a time. Got {finished_run}")
        assert set(states(slim_command, finished_run).values()) == {"done"}  # looking is allowed


def test_stop_by_the_user_is_one_line_and_exit_code_130(
    finished_run: Path, slim_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slim.stages.curate.curate.curate", fail_with(KeyboardInterrupt()))
    result = slim_command("curate", finished_run, "--size", "10")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "slim: Stopped. The same command continues from here."


def test_tuning_on_groups_needs_an_attribute(
    squares: Squares, slim_command: Command, tmp_path: Path, tiny_options: list[str]
) -> None:
    words = ["--data", squares(drop=["place"]), *tiny_options, "--retrain.tune-on", "groups"]
    assert "spurious attribute" in last_line(slim_command("run", tmp_path / "run", *words))
    now = states(slim_command, tmp_path / "run")
    assert now["curate"] == "done"
    assert now["retrain"] == "missing"
    assert np.isin(list(now.values()), ["done", "missing"]).all()
