"""From settings to the annotator that they name."""

from __future__ import annotations

from pathlib import Path

from slim.annotation.asking import Annotator
from slim.annotation.oracle import MaskOracle, NoisyOracle
from slim.annotation.queries import AnnotateSettings
from slim.annotation.recorded import RecordedAnswers
from slim.annotation.terminal import TerminalAnnotator
from slim.datasets import ImageTable
from slim.errors import SettingsError


def choose_annotator(settings: AnnotateSettings, table: ImageTable, folder: str | Path, seed: int = 0) -> Annotator:
    """The annotator that the settings name.

    Parameters
    ----------
    settings
        ``auto`` takes recorded answers where a file is given, then masks, then boxes, and else asks a person.
    table
        The pool that the queries are selected from.
    folder
        Where a person finds the pictures.
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
    >>> choose_annotator(AnnotateSettings(), table, "pictures")
    TerminalAnnotator('pictures', name='terminal')
    """
    kind = settings.annotator
    if kind == "auto":
        kind = "recorded" if settings.recorded else table.regions or "terminal"
    if kind == "masks" or kind == "boxes":
        oracle = MaskOracle(table, settings.threshold, kind)
        return NoisyOracle(oracle, settings.noise, seed) if settings.noise else oracle
    if settings.noise:
        raise SettingsError("noise must go with masks or boxes. Got a data set without either. Drop --noise.")
    return RecordedAnswers(settings.recorded) if settings.recorded else TerminalAnnotator(folder)
