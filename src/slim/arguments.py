"""Arguments of another kind than a public function takes: refused at its door, before they fail somewhere inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, wraps
from inspect import isclass, signature
from numbers import Integral, Real
from types import NoneType, SimpleNamespace, UnionType
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
    slim.errors.SlimError: The argument number of slim.double must be of type int. Got str. See help(slim.double).
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
    found = {}
    for name, parameter in signature(function).parameters.items():
        hint = None if parameter.kind is parameter.VAR_KEYWORD else _hint(function, name)
        members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if all(map(_is_plain, members)):
            found[name] = tuple(_WIDER.get(member, member) for member in members)
    return found


def _hint(function: Callable[..., Any], name: str) -> Any:
    """The annotation of a parameter; None where only type checkers import what it names."""
    alone = SimpleNamespace(__annotations__={name: function.__annotations__.get(name)})
    try:
        return get_type_hints(alone, getattr(function, "__globals__", None))[name]
    except NameError:
        return None


def _is_plain(kind: Any) -> bool:
    """Whether values can be asked if they are of this class; a protocol only says which methods they must have."""
    return isclass(kind) and get_origin(kind) is None and kind is not Any and not getattr(kind, "_is_protocol", False)


def _problem(function: str, name: str, value: object, kinds: Mapping[str, tuple[type, ...]]) -> str:
    """What the message says about an argument of another kind."""
    plain = {wider: kind for kind, wider in _WIDER.items()}
    wanted = [plain.get(kind, kind).__name__ for kind in kinds[name] if kind is not NoneType]
    is_own = type(value).__module__.startswith("slim.")
    others = [other for other, kind in kinds.items() if other != name and is_own and isinstance(value, kind)]
    source = next((_SOURCES[kind] for kind in wanted if kind in _SOURCES), f"See help(slim.{function})")
    hint = f"Pass that as {others[0]}" if others else source
    got = "None" if value is None else type(value).__name__
    return f"The argument {name} of slim.{function} must be of type {' or '.join(wanted)}. Got {got}. {hint}."
