"""Arguments of another kind than a public function takes: refused at its door, before they fail somewhere inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, wraps
from inspect import isclass, signature
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from slim.errors import SlimError

F = TypeVar("F", bound=Callable[..., Any])

_WIDER: Mapping[type, type] = {int: Integral, float: Real}  # numbers of numpy will do
# Where a user gets what is asked for most often.
_SOURCES = {
    "Dataset": "slim.load_dataset makes one",
    "ImageTable": "Pass one split, such as data.test",
    "Classifier": "slim.wrap makes one of a module, and slim.train trains one",
}


def checked(function: F) -> F:
    """The function, which refuses arguments that are not what its annotations name.

    Only classes are checked, alone or as alternatives: neither what a sequence holds nor protocols.

    Raises
    ------
    SlimError
        By the function: an argument is of another kind.

    Examples
    --------
    >>> @checked
    ... def double(number: int, name: str = "") -> int:
    ...     return 2 * number
    >>> double(3)
    6
    >>> double("ann")
    Traceback (most recent call last):
    ...
    slim.errors.SlimError: slim.double must get int as number. Got str. Pass that as name.
    """
    known = signature(function)
    kinds = cache(lambda: _kinds(function))

    @wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        for name, value in known.bind(*args, **keywords).arguments.items():
            if not isinstance(value, kinds().get(name, object)):
                raise SlimError(_problem(function.__name__, name, value, kinds()))
        return function(*args, **keywords)

    return cast(F, call)


def _kinds(function: Callable[..., Any]) -> dict[str, tuple[type, ...]]:
    """The classes of each parameter that names nothing but classes."""
    hints = get_type_hints(function)
    found = {}
    for name in signature(function).parameters:
        hint = hints.get(name)
        members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if all(isclass(member) and get_origin(member) is None and not _is_protocol(member) for member in members):
            found[name] = tuple(_WIDER.get(member, member) for member in members)
    return found


def _is_protocol(kind: type) -> bool:
    """Whether a class only says which methods a value must have."""
    return getattr(kind, "_is_protocol", False)


def _problem(function: str, name: str, value: object, kinds: Mapping[str, tuple[type, ...]]) -> str:
    """What the message says about an argument of another kind."""
    wanted = [kind.__name__ for kind in kinds[name] if kind is not NoneType]
    others = [other for other, kind in kinds.items() if other != name and isinstance(value, kind)]
    source = next((_SOURCES[kind] for kind in wanted if kind in _SOURCES), f"See help(slim.{function})")
    hint = f"Pass that as {others[0]}" if others else source
    got = "None" if value is None else type(value).__name__
    return f"slim.{function} must get {' or '.join(wanted)} as {name}. Got {got}. {hint}."
