"""From settings to the annotator that they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slim import AnnotateSettings, BrowserAnnotator, RecordedAnswers, TerminalAnnotator
from slim.data import ImageTable
from slim.errors import AnnotationError, SettingsError
from slim.stages.annotate.registry import choose_annotator

Without = Callable[..., ImageTable]


def test_choose_annotator_auto_takes_recorded_then_masks_then_boxes_then_a_person(
    tmp_path: Path, pool: ImageTable, without: Without
) -> None:
    file = tmp_path / "answers.csv"
    file.write_text("index,answer\n")
    boxes_only = without(pool, "mask")
    bare = without(pool, "mask", "box_x", "box_y", "box_width", "box_height")
    assert isinstance(choose_annotator(AnnotateSettings(recorded=str(file)), pool, tmp_path), RecordedAnswers)
    assert choose_annotator(AnnotateSettings(), pool, tmp_path).name == "masks over 0.5, clicks, seed 0"
    assert (
        choose_annotator(AnnotateSettings(threshold=0.3), boxes_only, tmp_path).name == "boxes over 0.3, clicks, seed 0"
    )
    assert isinstance(choose_annotator(AnnotateSettings(), bare, tmp_path), TerminalAnnotator)


def test_choose_annotator_obeys_the_settings(tmp_path: Path, pool: ImageTable, without: Without) -> None:
    noisy = choose_annotator(AnnotateSettings(noise=0.2), pool, tmp_path, seed=4)
    assert noisy.name == "masks over 0.5, clicks, seed 4, noise 0.2, seed 4"
    far = choose_annotator(AnnotateSettings(annotator="boxes", click_noise=0.1), pool, tmp_path)
    assert far.name == "boxes over 0.5, clicks off by 0.1, seed 0"
    assert choose_annotator(AnnotateSettings(clicks=False), pool, tmp_path).name == "masks over 0.5"
    assert isinstance(choose_annotator(AnnotateSettings(annotator="terminal"), pool, tmp_path), TerminalAnnotator)
    with pytest.raises(AnnotationError, match="Masks must exist"):
        choose_annotator(AnnotateSettings(annotator="masks"), without(pool, "mask"), tmp_path)


def test_choose_annotator_refuses_noise_where_only_a_person_can_answer(
    tmp_path: Path, pool: ImageTable, without: Without
) -> None:
    bare = without(pool, "mask", "box_x", "box_y", "box_width", "box_height")
    with pytest.raises(SettingsError, match="Drop --noise"):
        choose_annotator(AnnotateSettings(noise=0.1), bare, tmp_path)
    with pytest.raises(SettingsError, match="click_noise must be used with masks or boxes.*Drop --click-noise"):
        choose_annotator(AnnotateSettings(click_noise=0.1), bare, tmp_path)


def test_choose_annotator_gives_the_page_and_the_terminal_their_folder(tmp_path: Path, pool: ImageTable) -> None:
    page = choose_annotator(AnnotateSettings(annotator="browser"), pool, tmp_path)
    terminal = choose_annotator(AnnotateSettings(annotator="terminal"), pool)
    assert isinstance(page, BrowserAnnotator)
    assert isinstance(terminal, TerminalAnnotator)
    assert (page.folder, terminal.folder) == (tmp_path, Path("slim-queries"))
