"""Packages whose names are imported only when they are first used, so that starting SLIM does not wait for torch."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.resources import files
from typing import Any


def lazy_names(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """What a package needs to offer the names that its stub ``__init__.pyi`` imports.

    The stub holds ordinary imports and ``__all__``, which type checkers and editors read too.

    Parameters
    ----------
    package
        Its name; the package has an ``__init__.pyi``.

    Returns
    -------
    tuple
        The package's ``__getattr__``, ``__dir__`` and ``__all__``.

    Examples
    --------
    >>> get, names, public = lazy_names("slim.data")
    >>> get("load_dataset").__module__
    'slim.data.loading'
    >>> "load_dataset" in names() and "load_dataset" in public
    True
    """
    stub = ast.parse((files(package) / "__init__.pyi").read_text("utf-8"))
    public = next(ast.literal_eval(node.value) for node in stub.body if isinstance(node, ast.Assign))
    homes = {name.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for name in node.names}

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(str(homes[name])), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names, public
