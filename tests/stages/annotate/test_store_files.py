"""Files that are no store of this version: refused in one line, and left as they are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from slim import Store
from slim.errors import ArtifactError


def test_store_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "annotations.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(ArtifactError, match="Got version 99, made by a newer SLIM"):
        Store(path)
    assert path.read_bytes() == before


def test_store_refuses_the_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    with pytest.raises(ArtifactError, match="another program's database"):
        Store(path)


def test_store_refuses_a_file_that_is_no_database_and_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be looked at as one. " * 40)
    with pytest.raises(ArtifactError, match="file is not a database"):
        Store(path)
    with pytest.raises(ArtifactError, match="unable to open"):
        Store(tmp_path)


def test_store_refuses_a_damaged_schema_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "annotations.db"
    with Store(path) as store:
        store.record(1, "core", "ann")
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE", b"CREATE T\xd6BLE"))
    with pytest.raises(ArtifactError, match="must be a store of judgements that can be written"):
        Store(path)
