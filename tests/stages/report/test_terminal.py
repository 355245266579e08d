"""The comparison of the models in the terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

from rich.console import Console

from slim.stages.report.records import ModelRow
from slim.stages.report.terminal import table

Rows = Callable[..., list[ModelRow]]


def rendered(models: list[ModelRow]) -> str:
    console = Console(width=100, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(table(models))
    return capture.get().replace("\u00a0", " ")


def test_table_shows_intervals_and_the_uniform_map(rows: Rows) -> None:
    text = rendered(rows())
    for words in ("Retrained model", "80.0 %", "(75.0–85.0 %)", "90.0 %", "0.60", "(uniform 0.25)", "class labels"):
        assert words in text


def test_table_without_masks_has_no_inside_fraction(rows: Rows) -> None:
    assert "fraction" not in rendered(rows(masks=False))


def test_table_prints_brackets_as_they_are(rows: Rows) -> None:
    assert "[red]labels" in rendered([replace(row, supervision="[red]labels") for row in rows()])
