"""The registry of annotators: from settings to the annotator that they name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from slim.data import ImageTable
from slim.errors import SettingsError
from slim.notebook import in_notebook
from slim.stages.annotate.annotator import Annotator
from slim.stages.annotate.oracle import MaskOracle, NoisyOracle
from slim.stages.annotate.page.server import BrowserAnnotator
from slim.stages.annotate.recorded import RecordedAnswers
from slim.stages.annotate.settings import AnnotateSettings
from slim.stages.annotate.terminal import TerminalAnnotator


def choose_annotator(
    settings: AnnotateSettings, table: ImageTable, folder: str | Path | None = None, seed: int = 0
) -> Annotator | BrowserAnnotator:
    """The annotator that the settings name.

    Parameters
    ----------
    settings
        ``auto`` takes recorded answers if there is a file, else masks, else boxes, else a person: on a page, or at the
        terminal where answers are piped in.
    table
        The pool that the queries are selected from.
    folder
        Receives the terminal's pictures (by default ``slim-queries`` does) and the page's address.
    seed
        Random seed of the oracle's noise and clicks.

    Raises
    ------
    AnnotationError
        The table lacks the regions that the oracle needs, or the recorded answers cannot be read.
    SettingsError
        The settings ask for noise, or to end by themselves, but only a person can answer.

    Examples
    --------
    >>> import pandas as pd
    >>> table = ImageTable(pd.DataFrame({"path": ["/a.jpg"], "y": [0]}), ("cat",))
    >>> choose_annotator(AnnotateSettings(annotator="terminal"), table, "pictures")
    TerminalAnnotator('pictures', name='terminal')
    """
    kind = settings.annotator
    if kind == "auto":
        kind = "recorded" if settings.recorded else table.regions or _person()
    if kind == "masks" or kind == "boxes":
        oracle = MaskOracle(
            table, settings.threshold, kind, clicks=settings.clicks, click_noise=settings.click_noise, seed=seed
        )
        return NoisyOracle(oracle, settings.noise, seed) if settings.noise else oracle
    if settings.noisy:
        option = settings.noisy.replace("_", "-")
        raise SettingsError(
            f"{settings.noisy} must be used with masks or boxes. Got a data set without either. Drop --{option}; if an "
            f"earlier command saved it, add --{option} 0."
        )
    if settings.recorded:
        return RecordedAnswers(settings.recorded)
    if settings.until == "settled":
        raise SettingsError(
            "until settled must be used with an oracle or recorded answers. Got a data set that only a person can "
            "answer for, who decides when to stop. Drop --until; if an earlier command saved it, add --until budget."
        )
    return BrowserAnnotator(folder=folder) if kind == "browser" else TerminalAnnotator(folder or "slim-queries")


def _person() -> Literal["browser", "terminal"]:
    """How to ask a person: on a page if the session is interactive, else in lines of the standard input."""
    interactive = in_notebook() or (sys.stdin is not None and sys.stdin.isatty())
    return "browser" if interactive else "terminal"
