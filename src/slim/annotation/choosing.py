"""From settings to the annotator that they name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from slim.annotation.asking import Annotator, annotate
from slim.annotation.browser import BrowserAnnotator
from slim.annotation.judgements import Judgements
from slim.annotation.oracle import MaskOracle, NoisyOracle
from slim.annotation.queries import AnnotateSettings, Queries
from slim.annotation.recorded import RecordedAnswers
from slim.annotation.session import Pool
from slim.annotation.store import Store
from slim.annotation.terminal import TerminalAnnotator
from slim.datasets import ImageTable
from slim.errors import SettingsError


def choose_annotator(
    settings: AnnotateSettings, table: ImageTable, folder: str | Path, seed: int = 0
) -> Annotator | BrowserAnnotator:
    """The annotator that the settings name.

    Parameters
    ----------
    settings
        ``auto`` takes recorded answers where a file is given, then masks, then boxes, and else asks a person: on a
        page, or in the terminal where answers are piped in.
    table
        The pool that the queries are selected from.
    folder
        Where a person finds the pictures, and the page keeps its address.
    seed
        Of the oracle's noise.

    Raises
    ------
    AnnotationError
        The table lacks what the oracle needs, or the recorded answers cannot be read.
    SettingsError
        Noise is asked for, and only a person can answer.

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
        oracle = MaskOracle(table, settings.threshold, kind)
        return NoisyOracle(oracle, settings.noise, seed) if settings.noise else oracle
    if settings.noise:
        raise SettingsError("noise must go with masks or boxes. Got a data set without either. Drop --noise.")
    if settings.recorded:
        return RecordedAnswers(settings.recorded)
    return BrowserAnnotator(folder=folder) if kind == "browser" else TerminalAnnotator(folder)


def ask(
    queries: Queries, annotator: Annotator | BrowserAnnotator, store: Store | None = None, pool: Pool | None = None
) -> Judgements:
    """The judgements of a page's people, or of an annotator who is asked one query at a time.

    Parameters
    ----------
    queries, store
        As for `slim.annotation.annotate`.
    annotator
        Who answers.
    pool
        What a page may show beside the queries.
    """
    if isinstance(annotator, BrowserAnnotator):
        return annotator.judge(queries, store, pool)
    return annotate(queries, annotator, store)


def _person() -> Literal["browser", "terminal"]:
    """How a person is asked: where nobody sits at the terminal, answers are lines of the input."""
    return "browser" if sys.stdin is not None and sys.stdin.isatty() else "terminal"
