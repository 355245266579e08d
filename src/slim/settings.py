"""A run's settings: one record a stage, from defaults, a recipe, what the run was begun with, and what is asked now."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import resources
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from slim.annotation import AnnotateSettings
from slim.artifacts import VERSION, read_json, write_json
from slim.attention import AttendSettings
from slim.curation import CurateSettings
from slim.errors import ArtifactError, SettingsError
from slim.evaluation import EvaluateSettings
from slim.last_layer import RetrainSettings
from slim.propagation import PropagateSettings
from slim.space import EmbedSettings
from slim.training import TrainSettings

FILE = "settings.json"

Overrides = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class RunSettings:
    """Everything that determines a run, but for the images.

    Attributes
    ----------
    train, attend, embed, annotate, propagate, curate, retrain, evaluate
        Settings of the stages.
    seed
        Of everything that is drawn.
    pool
        The split that the subset comes from: "train" (the method's usual one) or "val".
    checkpoint
        A model that is trained already, to take as the reference; None trains one.
    data
        How the images are loaded: keywords of `slim.load_dataset`; empty where they came from Python.

    Raises
    ------
    SettingsError
        The seed is negative, or there is no such pool.

    Examples
    --------
    >>> RunSettings().updated({"curate": {"size": 60}}).curate.size
    60
    """

    train: TrainSettings = field(default_factory=TrainSettings)
    attend: AttendSettings = field(default_factory=AttendSettings)
    embed: EmbedSettings = field(default_factory=EmbedSettings)
    annotate: AnnotateSettings = field(default_factory=AnnotateSettings)
    propagate: PropagateSettings = field(default_factory=PropagateSettings)
    curate: CurateSettings = field(default_factory=CurateSettings)
    retrain: RetrainSettings = field(default_factory=RetrainSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    seed: int = 0
    pool: Literal["train", "val"] = "train"
    checkpoint: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise SettingsError(
                f"The seed must be at least 0. Got {self.seed}. Use 0 or another whole number above it."
            )
        if self.pool not in ("train", "val"):
            raise SettingsError(f"The pool must be train or val. Got {self.pool!r}. Leave out --pool.")

    @property
    def fits_val(self) -> bool:
        """Whether a last layer is fitted to val beside the subset: val neither tunes it by groups nor is the pool."""
        retrain = self.retrain
        return retrain.use_val and retrain.mode == "last-layer" and retrain.tune_on == "cells" and self.pool == "train"

    def of(self, stage: str) -> dict[str, Any]:
        """One stage's settings as plain values, and the run's own that concern it: all that its result depends on."""
        values = asdict(getattr(self, stage)) if hasattr(self, stage) else {}
        values.pop("workers", None)
        if stage == "train":
            return {**values, "checkpoint": self.checkpoint}
        return values if stage in ("attend", "evaluate", "report") else {**values, "pool": self.pool}

    def updated(self, overrides: Overrides) -> RunSettings:
        """The settings with some stages' values replaced.

        Raises
        ------
        SettingsError
            A stage or a setting of that name does not exist, or a value is of another type or out of range.
        """
        stages = [f.name for f in fields(self) if f.name not in _OWN]
        changed = {}
        for stage, values in overrides.items():
            if stage not in stages:
                raise SettingsError(
                    f"Settings must be of a stage: {', '.join(stages)}. Got {stage!r}. See slim run --help."
                )
            if not isinstance(values, Mapping):
                raise SettingsError(
                    f"Settings of {stage} must be names with values. Got {values!r}. "
                    f"In a recipe they come below a line [{stage}]."
                )
            record = getattr(self, stage)
            changed[stage] = replace(record, **_checked(stage, type(record), values))
        return replace(self, **changed)

    def anchored(self) -> RunSettings:
        """The settings with absolute paths, which mean the same files whatever folder a later command starts from.

        Examples
        --------
        >>> Path(RunSettings(checkpoint="erm.pt").anchored().checkpoint).is_absolute()
        True
        """
        weights = self.train.weights
        return replace(
            self,
            train=replace(self.train, weights=weights if weights == "imagenet" else _absolute(weights)),
            annotate=replace(self.annotate, recorded=_absolute(self.annotate.recorded)),
            checkpoint=_absolute(self.checkpoint),
        )

    def save(self, folder: str | Path) -> None:
        """Write ``settings.json`` into a run folder."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / FILE, {"version": VERSION, **asdict(self)})

    @classmethod
    def load(cls, folder: str | Path) -> RunSettings:
        """Read what `save` wrote.

        Raises
        ------
        ArtifactError
            The folder is no run, or one of another version.
        """
        path = Path(folder) / FILE
        if not path.exists():
            raise ArtifactError(f"{folder} must be a run folder. Got none. Begin one: slim run {folder} --data FOLDER")
        values = read_json(path)
        if not isinstance(values, dict):
            raise ArtifactError(f"{path} must hold a run's settings. Got something else. Use a new run folder.")
        version = values.pop("version", "unknown")
        if str(version).split(".")[:2] != VERSION.split(".")[:2]:
            raise ArtifactError(
                f"{folder} must be made by SLIM {'.'.join(VERSION.split('.')[:2])}.x to be read by it. Got a run of "
                f"version {version}. Use a new run folder, or install that version."
            )
        own = {name: values.pop(name) for name in _OWN if name in values}
        return replace(cls(), **own).updated(values)


_OWN = ("seed", "pool", "checkpoint", "data")
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "none"}


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _checked(stage: str, record: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's values, each of its setting's type; the word none is None where a setting may be left empty."""
    hints = get_type_hints(record)
    known = [f.name for f in fields(record)]
    result = {}
    for name, value in values.items():
        if name not in known:
            raise SettingsError(f"A setting of {stage} must be one of: {', '.join(known)}. Got {name!r}.")
        kinds = get_args(hints[name]) if isinstance(hints[name], UnionType) else (hints[name],)
        plain = [_as(kind, value) for kind in kinds if _fits(kind, value)]
        if not plain:
            must = " or ".join(_KINDS.get(kind) or f"one of {', '.join(get_args(kind))}" for kind in kinds)
            raise SettingsError(f"{stage}.{name} must be {must}. Got {value!r}. See slim {stage} --help.")
        result[name] = plain[-1]  # the word none is text and None, which comes last
    return result


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value is of a setting's type."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is NoneType:
        return value is None or value == "none"
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, (str, Path) if kind is str else kind)


def _as(kind: Any, value: Any) -> Any:
    """A value as Python's own, which JSON can hold, where it came from numpy."""
    if kind is NoneType:
        return None
    return kind(value) if kind in (int, float, str) else value


def recipes() -> list[str]:
    """Names of the recipes that come with SLIM.

    Examples
    --------
    >>> recipes()
    ['demo', 'published', 'waterbirds']
    """
    folder = resources.files("slim") / "recipes"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def read_recipe(name: str | Path) -> Overrides:
    """The settings of a recipe: one that comes with SLIM, or a TOML file of your own.

    Raises
    ------
    SettingsError
        There is no such recipe, or the file is not TOML.

    Examples
    --------
    >>> read_recipe("published")["curate"]["allocation"]
    'spread'
    """
    shipped = str(name) in recipes()
    source = resources.files("slim") / "recipes" / f"{name}.toml" if shipped else Path(name)
    if not source.is_file():
        raise SettingsError(f"A recipe must be one of {', '.join(recipes())}, or a TOML file. Got {str(name)!r}.")
    try:
        return tomllib.loads(source.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"A recipe must be TOML in UTF-8. Got {name}: {error}. Write it like docs/recipes.md."
        ) from error
