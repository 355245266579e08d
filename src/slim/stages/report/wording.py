"""Values as plain JSON, and numbers as readers see them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

NO_VALUE = "–"


def plain(value: Any) -> Any:
    """The value in built-in types only, as JSON has them; None for NaN and infinities."""
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def percent(value: float | None) -> str:
    """An accuracy as readers see it, for instance 83.0 %."""
    return NO_VALUE if value is None else f"{100 * value:.1f}\u00a0%"


def decimal(value: float | None) -> str:
    """A measure as readers see it, for instance 0.83."""
    return NO_VALUE if value is None else f"{value:.2f}"


def duration(seconds: float) -> str:
    """A duration as people write it: 4.2 s, 3 min 12 s, 1 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}\u00a0min {rest}\u00a0s"
    return f"{minutes // 60}\u00a0h {minutes % 60}\u00a0min"


def interval(line: Mapping[str, Any], scale: Callable[[float | None], str] = percent) -> str:
    """An interval with its unit once: 33.9–42.7 %."""
    low, high = line.get("low"), line.get("high")
    if low is None or high is None:
        return NO_VALUE
    without_unit = scale(low).removesuffix("\u00a0%")
    return f"{without_unit}–{scale(high)}"
