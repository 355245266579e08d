"""Command-line options from settings records: each setting is said once, in its record."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

F = TypeVar("F", bound=Callable[..., Any])


class _NoneOr(click.ParamType):  # type: ignore[type-arg]
    """A value, or the word none."""

    def __init__(self, inner: click.ParamType[Any, Any]) -> None:
        self.inner = inner
        self.name = inner.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return NONE if value == "none" else self.inner.convert(value, param, ctx)


NONE = object()
"""What the word ``none`` on the command line becomes, since None means that an option was not given."""


def descriptions(record: type) -> dict[str, str]:
    """What the numpydoc "Parameters" section of a record's docstring says of each setting.

    Examples
    --------
    >>> from slim.propagation import PropagateSettings
    >>> sorted(descriptions(PropagateSettings))
    ['alpha', 'gamma']
    """
    section = re.search(r"Parameters\n-+\n(.*?)(?:\n\n\w[^\n]*\n-+\n|\Z)", inspect.getdoc(record) or "", re.DOTALL)
    parts = re.split(r"^(\w+)[^\n]*\n", section[1] if section else "", flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def settings_options(record: type, prefix: str = "") -> Callable[[F], F]:
    """Add an option for each setting of a record to a command; those not given arrive as None.

    Parameters
    ----------
    record
        A dataclass whose docstring describes its fields.
    prefix
        Set before each name: "train" gives ``--train.epochs``.
    """
    texts, hints = descriptions(record), get_type_hints(record)

    def decorate(command: F) -> F:
        for setting in reversed(fields(record)):
            command = _option(setting, hints[setting.name], texts[setting.name], prefix)(command)
        return command

    return decorate


def _option(setting: Field[Any], hint: Any, text: str, prefix: str) -> Callable[[F], F]:
    flag = setting.name.replace("_", "-")
    default = setting.default if setting.default is not MISSING else None
    shown = "none" if default is None else str(default)
    return click.option(
        f"--{prefix}.{flag}" if prefix else f"--{flag}",
        f"{prefix}__{setting.name}" if prefix else setting.name,
        type=_click_type(hint),
        default=None,
        help=f"{text}  [default: {shown}]",
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
        The stage whose options these are; without one, names say it: ``train__epochs``.

    Examples
    --------
    >>> given({"train__epochs": 3, "curate__size": None})
    {'train': {'epochs': 3}}
    """
    result: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if value is None:
            continue
        of, _, setting = name.partition("__") if stage is None else (stage, "", name)
        result.setdefault(of, {})[setting] = None if value is NONE else value
    return result
