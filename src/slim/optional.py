"""Packages that only some uses of SLIM need: imported where they are used, with an error that names the extra."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from slim.errors import SlimError


def optional(package: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional package.

    Parameters
    ----------
    package
        Name of the module.
    extra
        Of SLIM's extras, the one that installs it.
    purpose
        What it is needed for, as the rest of "must be installed to ...".

    Raises
    ------
    SlimError
        It is not installed.

    Examples
    --------
    >>> optional("json", "demo", "read JSON").loads("[1]")
    [1]
    >>> optional("no_such_package", "onnx", "export to ONNX")
    Traceback (most recent call last):
    ...
    slim.errors.SlimError: no_such_package must be installed to export to ONNX. Got no such package. Install it: ...
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise SlimError(
            f"{package} must be installed to {purpose}. Got no such package. "
            f"Install it: pip install 'slim-vision[{extra}]'"
        ) from error
