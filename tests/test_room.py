"""What cannot be held is said before the work, and much is announced."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import slim
from slim import room
from slim.errors import SlimError
from slim.runs.run import open_run


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Leaves so many bytes on every disk and in memory."""

    def leave(disk: int = 10**15, memory: int = 10**15) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=disk))
        monkeypatch.setattr(room, "_available_memory", lambda: memory)
        monkeypatch.setattr(room, "_container_memory", lambda: None)

    return leave


def test_much_is_announced_and_little_is_not(
    left: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left(disk=5 * 10**9, memory=3 * 10**9)
    room.check_room("maps", disk=10**9, memory=2 * 10**8, folder=tmp_path / "not yet there")
    room.check_room("maps", disk=10**6, folder=tmp_path)
    announced = capsys.readouterr().err
    assert announced == "  maps: 1.0 GB of the 5.0 GB left on the disk, 200.0 MB of the 3.0 GB left in memory\n"


def test_what_has_no_folder_goes_into_memory(left: Callable[..., None]) -> None:
    left(disk=0, memory=10**9)
    room.check_room("maps", disk=10**9)
    with pytest.raises(SlimError, match=r"Maps must fit into memory\. Got 1\.1 GB for 1\.0 GB that are left"):
        room.check_room("maps", disk=10**9, memory=10**8)


def test_container_limits_the_memory(left: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    left(memory=10**9)
    monkeypatch.setattr(room, "_container_memory", lambda: 10**6)
    assert room.free_memory() == 10**6


@pytest.mark.filterwarnings("ignore::slim.errors.SlimWarning")
@pytest.mark.parametrize(
    ("verb", "changed", "what"),
    [
        ("train", {"epochs": 2}, "Checkpoints"),
        ("attend", {"pooling": "sum"}, "Attention and places"),
        ("locate", {"batch_size": 7}, "Object maps"),
    ],
)
def test_stage_that_the_disk_cannot_hold_is_not_begun(
    finished_run: Path, left: Callable[..., None], verb: str, changed: dict[str, Any], what: str
) -> None:
    run = open_run(finished_run, settings={verb: changed})
    left(disk=1000)
    with pytest.raises(SlimError, match=f"{what} must fit on the disk"):
        run.stage(verb)
    left()
    assert run.stage(verb)


def test_attention_takes_the_room_that_was_asked_for(
    finished_run: Path, left: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("slim.stages.attend.check_room", lambda _, disk, folder: asked.append(disk))
    run = open_run(finished_run, settings={"attend": {"pooling": "sum"}})
    run.stage("attend")
    arrays = list((finished_run / "02-attention").rglob("*.npy"))
    assert asked == [sum(np.load(path).nbytes for path in arrays)]


def test_recomposed_features_that_memory_cannot_hold_are_not_computed(
    finished_run: Path, left: Callable[..., None]
) -> None:
    run = open_run(finished_run, settings={"retrain": {"images": "recomposed"}})
    left(memory=1000)
    with pytest.raises(
        slim.SlimError, match=r"Features of recomposed images must .* or use fewer draws than 4 per image"
    ):
        run.stage("retrain")
