"""`__all__` is what users may rely on: sorted, complete, and documented; and names are imported when they are used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType

import pytest

import slim

LAZY = ["slim", "slim.data", "slim.training", "slim.comparison"]


def test_all_is_sorted_and_has_no_name_twice() -> None:
    assert slim.__all__ == sorted(set(slim.__all__))


def test_all_is_every_public_name_and_nothing_else() -> None:
    named = {name: getattr(slim, name) for name in dir(slim) if not name.startswith("_")}
    public = {name for name, value in named.items() if not isinstance(value, ModuleType)}
    assert set(slim.__all__) == public - {"VERSION", "lazy_names"} | {"__version__"}


@pytest.mark.parametrize("package", LAZY)
def test_every_name_of_a_lazy_package_is_found_and_kept(package: str) -> None:
    module = import_module(package)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is vars(module)[name]


@pytest.mark.parametrize("package", LAZY)
def test_name_that_a_lazy_package_lacks_is_an_error_as_elsewhere(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'shortcut'"):
        getattr(import_module(package), "shortcut")  # noqa: B009 (as a statement, an attribute looks useless)
    with pytest.raises(ImportError, match="cannot import name 'shortcut'"):
        exec(f"from {package} import shortcut")


@pytest.mark.parametrize(
    "code",
    ["import slim", "import slim; dir(slim)", "from slim import SlimError", "from slim import RunSettings, open_run"],
)
def test_importing_slim_does_not_import_torch(code: str) -> None:
    heavy = "('torch', 'pandas', 'numpy', 'sklearn', 'scipy', 'timm', 'umap', 'matplotlib')"
    shown = f"{code}; import sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", [name for name in slim.__all__ if name != "__version__"])
def test_public_name_has_a_docstring_of_its_own(name: str) -> None:
    text = getattr(slim, name).__doc__
    assert text
    assert not text.startswith(f"{name}(")  # what a dataclass without one gets


def test_every_name_is_reached_from_the_package() -> None:
    found: dict[str, object] = {}
    exec("from slim import *", found)
    assert set(slim.__all__) <= set(found)


def test_version_is_that_of_the_installed_package() -> None:
    assert slim.__version__ == version("slim-vision")
