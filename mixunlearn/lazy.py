"""Names of a package that are imported on first use.

PyTorch takes seconds to import, and checking a name or the version does not need it.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def exporter(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package.

    Args:
        package: its dotted name.
        places: the module that defines each name.
    """

    def find(name: str) -> Any:  # noqa: ANN401 (whatever the name stands for)
        if name not in places:
            # This type lets `from package import name` look for a submodule next.
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(places[name]), name)
        setattr(sys.modules[package], name, found)  # Python does not call this again for the name
        return found

    return find


def load(place: str) -> Any:  # noqa: ANN401 (any object)
    """Import an object and return it.

    Args:
        place: `package.module:name`.
    """
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
