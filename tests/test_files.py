"""Files are complete or absent, and JSON is what every reader accepts."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from slim.errors import ArtifactError
from slim.files import (
    check_seal,
    file_digest,
    known_digest,
    made_once,
    read_cells,
    read_json,
    sync,
    unguarded,
    write_json,
    write_sealed,
    write_table,
    write_text,
)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, {"a": float("-inf")}]])
def test_nan_is_refused_in_json_and_the_old_file_stays(value: Any, tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", value)
    assert read_json(tmp_path / "file.json") == {"a": 1}
    assert os.listdir(tmp_path) == ["file.json"]


@pytest.mark.parametrize("write", [lambda path: write_text(path, "new"), sync], ids=["write_text", "sync"])
def test_full_disk_names_the_file(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*file\.txt'"):
        write(path)
    assert path.read_text() == "old"


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


@pytest.mark.parametrize("text", ["[" * 101 + "]" * 101, '{"a":' * 50_000 + "1" + "}" * 50_000, "[" * 50_000])
def test_json_that_is_nested_too_deep_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"file\.json must hold JSON. Got JSON nested deeper than 100 levels"):
        read_json(tmp_path / "file.json")
    (tmp_path / "file.json").write_text("[" * 100 + "]" * 100)
    read_json(tmp_path / "file.json")


@pytest.mark.parametrize("change", [("3", "4"), ("seed", "deed"), ("\n}", "\n }"), ("}\n", "}")])
def test_change_of_sealed_json_is_noticed(change: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_sealed(path, {"seed": 3, "name": "ä"})
    assert check_seal(path, read_json(path)) == {"seed": 3, "name": "ä"}
    path.write_text(path.read_text().replace(*change, 1))
    with pytest.raises(ArtifactError, match=r"must be as SLIM wrote it. Got a changed file"):
        check_seal(path, read_json(path))


def test_json_without_a_seal_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text('{"seed": 4}')
    assert check_seal(tmp_path / "file.json", {"seed": 4}) == {"seed": 4}


def test_digest_is_computed_once_per_version_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run.partial" / "file.txt"
    path.parent.mkdir()
    write_text(path, "one")
    assert known_digest(path) is None
    digest = file_digest(path)
    path.parent.rename(tmp_path / "run")
    path = tmp_path / "run" / "file.txt"
    assert known_digest(path) == digest
    path.write_text("two")
    os.utime(path, ns=(1, 1))
    assert known_digest(path) is None
    assert file_digest(path) != digest


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


def test_no_text_of_a_table_is_a_formula_and_each_comes_back(tmp_path: Path) -> None:
    texts = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "'=1", "''@", "\tx", "'ann", "ann", "a=1"]
    frame = pd.DataFrame({"name": texts, "value": pd.Series([-0.1] * len(texts), dtype="float32")})
    write_table(tmp_path / "table.csv", frame)
    cells = read_cells(tmp_path / "table.csv")
    assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in cells["name"])
    assert cells["name"].map(unguarded).tolist() == texts
    assert set(cells["value"]) == {"-0.1"}


def test_folder_that_another_process_made_meanwhile_stays(tmp_path: Path) -> None:
    with made_once(tmp_path / "made") as partial:
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "theirs").touch()
        partial.mkdir()
        (partial / "ours").touch()
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == [Path("made"), Path("made/theirs")]


def test_what_could_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    def half_made() -> None:
        with made_once(tmp_path / "made") as partial:
            partial.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        half_made()
    with pytest.raises(FileNotFoundError), made_once(tmp_path / "made"):
        pass
    assert os.listdir(tmp_path) == []
