"""A power cut takes what is not on the disk itself: what is renamed into place was put there before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from slim.files import write_json
from slim.runs.run import open_run
from slim.stages import STAGES

pytestmark = [
    pytest.mark.usefixtures("small_and_quiet"),
    pytest.mark.filterwarnings("ignore::slim.errors.SlimWarning"),
]


@pytest.fixture
def too_early(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that were renamed, or beside which a manifest appeared, before their content was on the disk."""
    found: list[str] = []
    synced: dict[int, int] = {}
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        fsync(descriptor)
        state = os.fstat(descriptor)
        synced[state.st_ino] = state.st_mtime_ns

    def checked(rename: Any) -> Any:
        def renamed(self: Path, target: Path) -> Path:
            seals = target.name == "manifest.json"
            files = [self] if self.is_file() and not seals else (self.parent if seals else self).rglob("*")
            states = {file.name: file.stat() for file in files if file.is_file()}
            found.extend(name for name, now in states.items() if synced.get(now.st_ino) != now.st_mtime_ns)
            result: Path = rename(self, target)
            return result

        return renamed

    monkeypatch.setattr(os, "fsync", recorded)
    for name in ("replace", "rename"):
        monkeypatch.setattr(Path, name, checked(getattr(Path, name)))
    return found


@pytest.mark.parametrize("verb", ["train", "attend", "annotate", "retrain"])
def test_stage_is_on_the_disk_before_it_looks_done(finished_run: Path, too_early: list[str], verb: str) -> None:
    (finished_run / STAGES[verb].folder / "manifest.json").unlink()
    assert open_run(finished_run).stage(verb)
    assert too_early == []


def test_file_that_is_not_on_the_disk_is_noticed(tmp_path: Path, too_early: list[str]) -> None:
    (tmp_path / "maps.npy").write_bytes(b"maps")
    write_json(tmp_path / "manifest.json", {})
    assert too_early == ["maps.npy"]
