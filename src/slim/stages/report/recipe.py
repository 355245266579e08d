"""The settings of a run as a recipe that makes it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def recipe_text(settings: Mapping[str, Any]) -> str:
    """The settings that differ from the defaults, as a recipe in TOML; empty where all are defaults.

    Parameters
    ----------
    settings
        Settings record of each stage by its verb; None where a stage has none.

    Examples
    --------
    >>> from slim.stages.settings import CurateSettings, EmbedSettings
    >>> print(recipe_text({"embed": EmbedSettings(), "curate": CurateSettings(size=60)}))
    [curate]
    size = 60
    """
    tables = {stage: _changed(record) for stage, record in settings.items() if record is not None}
    parts = ["\n".join([f"[{stage}]", *lines]) for stage, lines in tables.items() if lines]
    return "\n\n".join(parts)


def _changed(record: Any) -> list[str]:
    """The lines of a record's settings that are not the defaults."""
    default = type(record)()
    changed = [item.name for item in fields(record) if getattr(record, item.name) != getattr(default, item.name)]
    return [f"{name} = {_toml(getattr(record, name))}" for name in changed]


def _toml(value: Any) -> str:
    """A value as TOML has it, which writes texts, numbers and flags as JSON does; None is the word none."""
    return json.dumps("none" if value is None else value, ensure_ascii=False)
