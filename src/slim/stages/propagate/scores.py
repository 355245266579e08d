"""The attention scores: their settings, the record, and how far each class's scores can be trusted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from slim.record import Record

Verdict = Literal["above chance", "not above chance", "one kind of answer", "no answer"]


@dataclass(frozen=True)
class ClassTrust:
    """How far the attention scores of a class can be trusted.

    Attributes
    ----------
    class_name
        The class.
    n_core, n_spurious, n_unsure, n_unasked
        How many of its images were judged so, or not judged.
    gamma
        The gamma of the kernel; None if there is no kernel, as in regression or with one kind of answer.
    auc
        Area under the ROC curve of the judged images' scores, each computed without the answers that it is compared
        with: the probability that a core image scores above a spurious one. 0.5 is chance, 1 is perfect. None with one
        kind of answer.
    low, high
        Its 95 % interval.
    verdict
        ``"above chance"`` only when `low` is above 0.5.
    """

    class_name: str
    n_core: int
    n_spurious: int
    n_unsure: int
    n_unasked: int
    gamma: float | None
    auc: float | None
    low: float | None
    high: float | None
    verdict: Verdict


@dataclass(frozen=True, eq=False, repr=False)
class Scores(Record):
    """The attention score of every image.

    Attributes
    ----------
    values
        (n,) float32 in [0, 1]; 1 = looks at the core. Scaled within each class, so not comparable between classes. NaN
        in classes without an answer, which only `IncrementalScores` allows.
    trust
        For each class, how far its scores can be trusted.
    """

    values: npt.NDArray[np.float32] = field(metadata={"file": "scores"})
    trust: tuple[ClassTrust, ...]

    def __len__(self) -> int:
        return len(self.values)

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {"how far to trust them": pd.DataFrame([asdict(trust) for trust in self.trust])}

    def to_frame(self) -> pd.DataFrame:
        """One row per image of the pool: its ``score``."""
        return pd.DataFrame({"score": np.asarray(self.values)})

    def __repr__(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("class", "core", "spurious", "unsure", "unasked", "gamma", "AUC (95% interval)", "verdict")
        ]
        rows += [_row(trust) for trust in self.trust]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([f"Scores of {len(self)} images", *lines])


def _row(trust: ClassTrust) -> tuple[str, ...]:
    """A class's row in the table that `Scores` prints."""
    counts = (trust.n_core, trust.n_spurious, trust.n_unsure, trust.n_unasked)
    gamma = "-" if trust.gamma is None else f"{trust.gamma:g}"
    auc = "-" if trust.auc is None else f"{trust.auc:.2f} ({trust.low:.2f} to {trust.high:.2f})"
    return (trust.class_name, *map(str, counts), gamma, auc, trust.verdict)
