"""Command-line options from settings records: each setting is described once, in its record."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click
from click.core import ParameterSource

from slim.progress import quiet
from slim.runs.log import command

F = TypeVar("F", bound=Callable[..., Any])


GENERAL = "Options"
"""Heading of the options that name none."""


class Option(click.Option):
    """An option, with the heading that the help shows it under."""

    def __init__(self, *args: Any, heading: str = GENERAL, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading


FOLDER = "slim.folder"
"""Under this name, the context remembers the folder that a command works in."""


def _be_quiet(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.with_resource(quiet())


class Command(click.Command):
    """A command that can be quiet, and whose help shows the options under their headings."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        text = "Show no progress; warnings and errors are still shown."
        self.params.append(Option(["--quiet"], is_flag=True, expose_value=False, callback=_be_quiet, help=text))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words; a setting that is called with a stage's name elsewhere, or without, is suggested."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            options = [option for parameter in self.params for option in parameter.opts]
            same = [option for option in options if _setting(option) == _setting(error.option_name)]
            if not same:
                raise
            text = f"No such option {error.option_name!r}. (Did you mean {' or '.join(map(repr, same))}?)"
            raise click.NoSuchOption(error.option_name, text, ctx=ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whoever catches its error knows its folder, and the log what was called."""
        folder = ctx.params.get("run") or ctx.params.get("folder")
        ctx.meta[FOLDER] = None if folder is None else Path(folder)
        command.set(command_line(ctx))
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, heading by heading, in the order in which they were added."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(parameter, "heading", GENERAL), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def _setting(option: str) -> str:
    """The name of an option without that of a stage.

    Examples
    --------
    >>> _setting("--train.lr"), _setting("--lr")
    ('lr', 'lr')
    """
    return option.lstrip("-").rpartition(".")[2]


def command_line(ctx: click.Context) -> str:
    """What was called, without texts of the user's own, such as names of folders."""
    words = [ctx.command_path]
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name not in ctx.params or ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = ctx.params[name]
        plain = isinstance(value, (int, float)) or isinstance(parameter.type, click.Choice) or value == "none"
        words += [parameter.opts[0]] if isinstance(parameter, click.Option) else []
        words += [] if isinstance(parameter, click.Option) and parameter.is_flag else [str(value) if plain else "…"]
    return " ".join(words)


class _NoneOr(click.ParamType):  # type: ignore[type-arg]  # not every click that the project admits has type parameters
    """A value, or the word none."""

    def __init__(self, inner: click.ParamType[Any, Any]) -> None:
        self.inner = inner
        self.name = inner.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        # The word stays: None would mean that the option was left out; `RunSettings.updated` interprets it.
        return value if value == "none" else self.inner.convert(value, param, ctx)


def descriptions(record: type) -> dict[str, str]:
    """What the numpydoc "Parameters" section of a record's docstring says about each setting.

    Examples
    --------
    >>> from slim.stages.settings import PropagateSettings
    >>> sorted(descriptions(PropagateSettings))
    ['gamma', 'method']
    """
    section = re.search(r"Parameters\n-+\n(.*?)(?:\n\n\w[^\n]*\n-+\n|\Z)", inspect.getdoc(record) or "", re.DOTALL)
    parts = re.split(r"^(\w+)[^\n]*\n", section[1] if section else "", flags=re.MULTILINE)
    plain = (" ".join(text.replace("``", "").split()) for text in parts[2::2])
    return dict(zip(parts[1::2], plain, strict=True))


def settings_options(record: type, prefix: str = "", heading: str = GENERAL) -> Callable[[F], F]:
    """Add an option for each setting of a record to a command; options left out arrive as None.

    Parameters
    ----------
    record
        A dataclass whose docstring describes its fields.
    prefix
        Goes before each name: "train" gives ``--train.epochs``.
    heading
        The heading that the help shows them under.
    """
    texts, hints = descriptions(record), get_type_hints(record)

    def decorate(command: F) -> F:
        for setting in reversed(fields(record)):
            command = _option(setting, hints[setting.name], texts[setting.name], prefix, heading)(command)
        return command

    return decorate


def _option(setting: Field[Any], hint: Any, text: str, prefix: str, heading: str) -> Callable[[F], F]:
    flag = setting.name.replace("_", "-")
    # Where a setting may be left empty, its description says what happens then.
    default = "" if setting.default in (None, MISSING) else f"  [default: {setting.default}]"
    return click.option(
        f"--{prefix}.{flag}" if prefix else f"--{flag}",
        f"{prefix}__{setting.name}" if prefix else setting.name,
        cls=Option,
        heading=heading,
        type=_click_type(hint),
        default=None,
        help=f"{text}{default}",
    )


def _click_type(hint: Any) -> click.ParamType[Any, Any]:
    if get_origin(hint) is Literal:
        return click.Choice([str(choice) for choice in get_args(hint)])
    if isinstance(hint, UnionType):
        (inner,) = (kind for kind in get_args(hint) if kind is not NoneType)
        return _NoneOr(_click_type(inner))
    types: dict[Any, click.ParamType[Any, Any]] = {
        int: click.INT,
        float: click.FLOAT,
        bool: click.BOOL,
        str: click.STRING,
    }
    return types[hint]


def given(values: Mapping[str, Any], stage: str | None = None) -> dict[str, dict[str, Any]]:
    """The settings that were given on the command line, by stage.

    Parameters
    ----------
    values
        What click passed to the command.
    stage
        The stage whose options these are; without one, the names have it: ``train__epochs``.

    Examples
    --------
    >>> given({"train__epochs": 3, "curate__size": None})
    {'train': {'epochs': 3}}
    """
    result: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if value is None:
            continue
        verb, _, setting = name.partition("__") if stage is None else (stage, "", name)
        result.setdefault(verb, {})[setting] = value
    return result
