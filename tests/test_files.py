"""Files are complete or absent, and JSON is what every reader accepts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from slim.errors import ArtifactError
from slim.files import read_json, write_json, write_text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, {"a": float("-inf")}]])
def test_nan_is_refused_in_json_and_the_old_file_stays(value: Any, tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", value)
    assert read_json(tmp_path / "file.json") == {"a": 1}
    assert os.listdir(tmp_path) == ["file.json"]


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    value = {"text": "ä → 猫", "numbers": [1, 0.1, None, True]}
    write_json(tmp_path / "file.json", value)
    assert read_json(tmp_path / "file.json") == value
    assert json.loads((tmp_path / "file.json").read_text(encoding="utf-8")) == value


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_of_other_programs_is_read_in_any_unicode_encoding(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text('{"a": "ä"}', encoding=encoding)
    assert read_json(tmp_path / "file.json") == {"a": "ä"}


def test_json_that_is_not_unicode_is_named(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_bytes('{"a": "ä"}'.encode("latin-1"))
    with pytest.raises(ArtifactError, match=r"file\.json must hold JSON.*in its encoding"):
        read_json(tmp_path / "file.json")


def test_json_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"file\.json must hold JSON. Got: No such file"):
        read_json(tmp_path / "file.json")


def test_names_outside_utf_8_are_written_as_they_are(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xe4.png")
    write_text(tmp_path / "file.csv", name)
    assert (tmp_path / "file.csv").read_bytes() == b"\xe4.png"


def test_json_that_does_not_parse_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text('{"a": 1,\n"b" 2}')
    with pytest.raises(ArtifactError, match=r"file\.json must hold JSON.*line 2"):
        read_json(tmp_path / "file.json")


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_file_is_the_old_or_the_new_one_and_never_a_part(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "file.txt", "the old text")

    def fail(*_: Any) -> None:
        raise OSError("no space left")

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_text(tmp_path / "file.txt", "the new text")
    assert (tmp_path / "file.txt").read_text() == "the old text"
    monkeypatch.undo()
    write_text(tmp_path / "file.txt", "new")
    assert (tmp_path / "file.txt").read_text() == "new"
    assert os.listdir(tmp_path) == ["file.txt"]
