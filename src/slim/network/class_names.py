"""Names of classes in the order of a network's outputs, whatever form they come in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from slim.errors import ModelError


def given_names(class_names: object) -> tuple[str, ...]:
    """The names that a caller gives, in order.

    Raises
    ------
    ModelError
        It is a set, a single text, or a mapping that does not number them.

    Examples
    --------
    >>> given_names(["cat", "dog"]), given_names({"dog": 1, "cat": 0})
    (('cat', 'dog'), ('cat', 'dog'))
    """
    names = names_in_order(class_names) if isinstance(class_names, Mapping) else None
    if isinstance(class_names, Iterable) and not isinstance(class_names, str | set | frozenset | Mapping):
        names = tuple(map(str, class_names))
    if names is None:
        raise ModelError(
            f"Classes must be named in the order of the outputs. Got {class_names!r}. "
            "Pass a list, or a mapping to their numbers, such as class_to_idx."
        )
    return names


def names_in_order(value: object) -> tuple[str, ...] | None:
    """Names of classes in the order of their numbers, from a list, or a mapping either way; None from anything else.

    Examples
    --------
    >>> names_in_order({"dog": 1, "cat": 0}), names_in_order({1: "dog", 0: "cat"}), names_in_order({"dog", "cat"})
    (('cat', 'dog'), ('cat', 'dog'), None)
    """
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return tuple(value)
    if isinstance(value, Mapping) and all(isinstance(number, int) for number in value.values()):
        value = {number: name for name, number in value.items()}
    if isinstance(value, Mapping):
        by_number = {str(number): str(name) for number, name in value.items()}
        if by_number.keys() == set(map(str, range(len(value)))):
            return tuple(by_number[str(number)] for number in range(len(value)))
    return None


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names that a model brings along; those of several classes get their numbers, such as ImageNet's two cranes.

    Examples
    --------
    >>> distinct_names(["crane", "dog", "crane"])
    ('crane (0)', 'dog', 'crane (2)')
    """
    counts = Counter(names)
    return tuple(f"{name} ({k})" if counts[name] > 1 else name for k, name in enumerate(names))
