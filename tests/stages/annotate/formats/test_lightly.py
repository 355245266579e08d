"""LightlyStudio: rows, and its own export."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slim import Store
from slim.data import ImageTable
from slim.stages.annotate.formats import Sheet, merge_answers
from slim.stages.annotate.formats.lightly import read_lightly, write_lightly
from slim.stages.annotate.recorded import PLACE_NAMES

Current = Callable[[Store], list[list[Any]]]


def test_lightly_rows_are_answers_and_scores(sheet: Sheet, tmp_path: Path) -> None:
    write_lightly(sheet, tmp_path / "out.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert list(rows[0]) == ["file_path_abs", "class_name", "confidence", "annotation_source", *PLACE_NAMES]
    about_first = [
        [row["class_name"], row["confidence"], row["annotation_source"]]
        for row in rows
        if row["file_path_abs"] == sheet.pool.table.paths[0]
    ]
    assert about_first == [
        ["core", "", "ann"],
        ["spurious", "", "bob"],
        ["spurious", "", "ann (settled)"],
        ["spurious", "0.9", "attention score"],
    ]


def test_export_of_lightly_studio_is_merged(store: Store, pool: ImageTable, tmp_path: Path, current: Current) -> None:
    # As LightlyStudio 1.2.0 writes it: every source, and the ends of lines that CSV asks for.
    rows = [
        "file_path_abs,class_name,confidence,annotation_source",
        f"{pool.paths[0]},core,,ann",  # the same answer as before
        f"{pool.paths[0]},spurious,,ann (settled)",
        f"{pool.paths[0]},spurious,0.9,attention score",
        f"{pool.paths[1]},core,1.0,masks over 0.5",
        f"{pool.paths[5]},unsure,,Heidi",
    ]
    (tmp_path / "back.csv").write_bytes("".join(f"{row}\r\n" for row in rows).encode())
    assert [merge_answers(store, pool, read_lightly(tmp_path / "back.csv")) for _ in range(2)] == [1, 0]
    assert [5, "unsure", "Heidi", 0.0] in current(store)
