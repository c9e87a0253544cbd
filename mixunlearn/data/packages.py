"""Packages that only some sources need; everything else works without them."""

import importlib
from types import ModuleType

from mixunlearn.errors import InputError


def need(module: str, source: str, package: str) -> ModuleType:
    """Return an imported module.

    Args:
        module: its dotted name.
        source: name of the source that needs it, for the error message.
        package: name of the package that contains it.

    Raises:
        InputError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        remedy = f"needs {package}: pip install 'mixunlearn[data]'"
        raise InputError("data.source", source, remedy) from error
