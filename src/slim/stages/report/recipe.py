"""The settings of a run as a recipe, and the command that makes it again with them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from slim.data.benchmarks import NAMES


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


def command(source: Mapping[str, Any], recipe: str, seed: int) -> str:
    """The command that makes a run again, without the paths of this machine.

    Parameters
    ----------
    source
        See `Dataset.source`.
    recipe
        As `recipe_text` returns it.
    seed
        The random seed of the run.

    Examples
    --------
    >>> print(command({"source": "/data/birds", "attribute": "place", "mask": "/data/objects.json"}, "", 0))
    slim run runs/again --data IMAGES --attribute place --mask objects.json --seed 0
    """
    is_benchmark = source.get("source") in NAMES
    words = ["--data", source["source"], "--root", "IMAGES"] if is_benchmark else ["--data", "IMAGES"]
    attributes = source.get("attribute") or []
    for name in [attributes] if isinstance(attributes, str) else attributes:
        words += ["--attribute", name]
    if source.get("mask") is not None:
        words += ["--mask", Path(source["mask"]).name]
    if recipe:
        words += ["--recipe", "recipe.toml"]
    return shlex.join(["slim", "run", "runs/again", *words, "--seed", str(seed)])


def _changed(record: Any) -> list[str]:
    """The lines of a record's settings that are not the defaults."""
    default = type(record)()
    changed = [item.name for item in fields(record) if getattr(record, item.name) != getattr(default, item.name)]
    return [f"{name} = {_toml(getattr(record, name))}" for name in changed]


def _toml(value: Any) -> str:
    """A value as TOML has it, which writes texts, numbers and flags as JSON does; None is the word none."""
    return json.dumps("none" if value is None else value, ensure_ascii=False)
