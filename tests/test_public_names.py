"""`__all__` is what users may rely on: sorted, complete, and documented."""

from __future__ import annotations

from importlib.metadata import version
from types import ModuleType

import pytest

import slim


def test_all_is_sorted_and_has_no_name_twice() -> None:
    assert slim.__all__ == sorted(set(slim.__all__))


def test_all_is_every_public_name_and_nothing_else() -> None:
    public = {
        name for name, value in vars(slim).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set(slim.__all__) == public - {"VERSION"} | {"__version__"}


@pytest.mark.parametrize("name", [name for name in slim.__all__ if name != "__version__"])
def test_public_name_has_a_docstring_of_its_own(name: str) -> None:
    text = vars(slim)[name].__doc__
    assert text
    assert not text.startswith(f"{name}(")  # what a dataclass without one gets


def test_every_name_is_reached_from_the_package() -> None:
    found: dict[str, object] = {}
    exec("from slim import *", found)
    assert set(slim.__all__) <= set(found)


def test_version_is_that_of_the_installed_package() -> None:
    assert slim.__version__ == version("slim-vision")
