"""Settings of a run: a record per stage, from defaults, earlier calls, a recipe and the current call."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import resources
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from slim.errors import ArtifactError, SettingsError, first_line
from slim.files import VERSION, check_seal, read_json, write_sealed
from slim.runs.folder import check_version
from slim.stages import STAGES
from slim.stages.settings import plain_settings

FILE = "settings.json"
_BASE = "based_on"  # key of a recipe

Overrides = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class RunSettings:
    """Everything that determines a run: a settings record per stage, the random seed, and where the images are.

    Attributes
    ----------
    stages
        Settings record of each stage by its verb; stages left out get their defaults.
    seed
        Random seed, at least 0.
    data
        How the images are loaded: keywords of `slim.load_dataset`; empty where they came from Python.

    Raises
    ------
    SettingsError
        The seed is negative.

    Examples
    --------
    >>> settings = RunSettings().updated({"curate": {"size": 60}})
    >>> settings["curate"].size
    60
    """

    stages: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise SettingsError(
                f"The seed must be at least 0. Got {self.seed}. Use 0 or another whole number above it."
            )
        defaults = {verb: stage.settings() for verb, stage in STAGES.items() if stage.settings is not None}
        object.__setattr__(self, "stages", {**defaults, **self.stages})

    def __getitem__(self, verb: str) -> Any:
        """A stage's settings record; None where it has none."""
        return self.stages.get(verb)

    def plain(self, verb: str) -> dict[str, Any]:
        """A stage's settings as plain values: all that its result depends on."""
        return plain_settings(self[verb]) if verb in self.stages else {}

    def updated(self, overrides: Overrides) -> RunSettings:
        """The settings with some stages' values replaced.

        Raises
        ------
        SettingsError
            A stage or a setting of that name does not exist, or a value is of another type or out of range.
        """
        changed = dict(self.stages)
        for verb, values in overrides.items():
            if verb not in self.stages:
                raise SettingsError(
                    f"Settings must belong to a stage: {', '.join(self.stages)}. Got {verb!r}. See: slim run --help"
                )
            if not isinstance(values, Mapping):
                raise SettingsError(
                    f"Settings of {verb} must be names with values. Got {values!r}. "
                    f"In a recipe, write them below a line [{verb}]."
                )
            record = self.stages[verb]
            changed[verb] = replace(record, **_checked(verb, type(record), values))
        return replace(self, stages=changed)

    def check_plane(self) -> None:
        """Refuse methods that work on UMAP's plane where the run has another.

        Raises
        ------
        SettingsError
            A stage of the published method is asked for without ``embed.plane = "umap"``.

        Examples
        --------
        >>> RunSettings().updated({"annotate": {"select": "centres"}}).check_plane()
        Traceback (most recent call last):
        ...
        slim.errors.SettingsError: annotate.select centres must use UMAP's plane. Got pca. Add --embed.plane umap.
        """
        plane = self["embed"].plane
        for verb, name, value in _ON_UMAPS_PLANE:
            if getattr(self[verb], name) == value and plane != "umap":
                raise SettingsError(
                    f"{verb}.{name} {value} must use UMAP's plane. Got {plane}. Add --embed.plane umap."
                )

    def anchored(self) -> RunSettings:
        """The settings with absolute paths, which name the same files from any working directory.

        Examples
        --------
        >>> settings = RunSettings().updated({"train": {"checkpoint": "erm.pt"}})
        >>> Path(settings.anchored()["train"].checkpoint).is_absolute()
        True
        """
        training, annotation = self["train"], self["annotate"]
        weights = training.weights if training.weights == "imagenet" else _absolute(training.weights)
        source, _, name = training.arch.partition(":")
        arch = f"{source}:{_absolute(name)}" if name and source != "torchvision" else training.arch
        anchored = {
            "train": replace(training, arch=arch, weights=weights, checkpoint=_absolute(training.checkpoint)),
            "annotate": replace(annotation, recorded=_absolute(annotation.recorded)),
        }
        return replace(self, stages={**self.stages, **anchored})

    def save(self, folder: str | Path) -> None:
        """Write ``settings.json`` into a run folder."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        stages = {verb: asdict(record) for verb, record in self.stages.items()}
        write_sealed(Path(folder) / FILE, {"version": VERSION, **stages, "seed": self.seed, "data": dict(self.data)})

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
            raise ArtifactError(
                f"{folder} must be a run folder. Got no {FILE} there. Start a run: slim run {folder} --data FOLDER"
            )
        values = read_json(path)
        if not isinstance(values, dict):
            raise ArtifactError(f"{path} must hold a run's settings. Got other JSON. Use a new run folder.")
        check_version(Path(folder), values.get("version", "unknown"))
        values = check_seal(path, values)
        values.pop("version", None)
        seed, data = values.pop("seed", 0), values.pop("data", {})
        if not isinstance(seed, int) or not isinstance(data, dict):
            raise ArtifactError(f"{path} must hold a run's settings. Got others. Use a new run folder.")
        try:
            return cls(seed=seed, data=data).updated(values)
        except SettingsError as error:  # the command that named them would have been refused
            raise ArtifactError(f"{path}: {error}") from error


_ON_UMAPS_PLANE = (
    ("annotate", "select", "centres"),
    ("propagate", "method", "spreading"),
    ("curate", "cluster_on", "embedding"),
)
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "none"}


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _checked(stage: str, record: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's values in the types of its settings; the word none is None where a setting may be left empty."""
    hints = get_type_hints(record)
    known = [f.name for f in fields(record)]
    result = {}
    for name, value in values.items():
        if name not in known:
            raise SettingsError(
                f"A setting of {stage} must be one of: {', '.join(known)}. Got {name!r}. See: slim {stage} --help"
            )
        kinds = get_args(hints[name]) if isinstance(hints[name], UnionType) else (hints[name],)
        plain = [_as(kind, value) for kind in kinds if _fits(kind, value)]
        if not plain:
            must = " or ".join(_KINDS.get(kind) or f"one of {', '.join(get_args(kind))}" for kind in kinds)
            raise SettingsError(f"{stage}.{name} must be {must}. Got {value!r}. See: slim {stage} --help")
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
    """A value as one of Python's own types, which JSON can hold; numpy's are converted."""
    if kind is NoneType:
        return None
    return kind(value) if kind in (int, float, str) else value


def recipes() -> list[str]:
    """Names of the recipes that come with SLIM.

    Examples
    --------
    >>> recipes()[:3]
    ['celeba', 'celeba-default', 'demo']
    """
    folder = resources.files("slim.runs") / "recipes"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def read_recipe(name: str | Path) -> Overrides:
    """The settings of a recipe: one that comes with SLIM, or a TOML file of your own.

    A recipe may begin with ``based_on = "published"``, the name of one that comes with SLIM, and override that.

    Raises
    ------
    SettingsError
        There is no such recipe, or the file is not TOML.

    Examples
    --------
    >>> read_recipe("published")["curate"]["allocation"]
    'spread'
    """
    try:
        values = tomllib.loads(_recipe_text(name))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else first_line(error)
        raise SettingsError(
            f"A recipe must be TOML in UTF-8. Got {name}: {reason}. See docs/recipes.md for an example."
        ) from error
    base = values.pop(_BASE, None)
    if base is None:
        return values
    if base not in recipes():
        raise SettingsError(f"{_BASE} of a recipe must be one of {', '.join(recipes())}. Got {base!r}. Check the name.")
    below = read_recipe(base)
    # What is no table of settings stays as it is: whoever uses the recipe refuses it by name.
    merged = {
        stage: {**below.get(stage, {}), **own} if isinstance(own, Mapping) else own for stage, own in values.items()
    }
    return {**below, **merged}


def _recipe_text(name: str | Path) -> str:
    """The text of a recipe."""
    shipped = str(name) in recipes()
    source = resources.files("slim.runs") / "recipes" / f"{name}.toml" if shipped else Path(name)
    if not source.is_file():
        raise SettingsError(
            f"A recipe must be one of {', '.join(recipes())}, or a TOML file. Got {str(name)!r}, which does not exist. "
            "Check the name."
        )
    return source.read_text(encoding="utf-8")
