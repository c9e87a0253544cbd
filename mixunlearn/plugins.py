"""What other packages add to a registry, through an entry point."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TypeVar

from mixunlearn.errors import MixUnlearnError

Thing = TypeVar("Thing")


def extended(known: Mapping[str, Thing], group: str) -> Mapping[str, Thing]:
    """Return a registry with what installed packages add to it.

    Args:
        known: our own entries by name.
        group: of the entry points: each one's name is the entry's, its object the entry.

    Raises:
        MixUnlearnError: an entry has a name that is taken, or cannot be imported.
    """
    registry = dict(known)
    for point in entry_points(group=group):
        where = f"entry point {group}: {point.name} = {point.value}"
        if point.name in registry:
            raise MixUnlearnError(f"{where}: the name is taken; give it another")
        try:
            registry[point.name] = point.load()
        except Exception as error:
            raise MixUnlearnError(f"{where}: {error}; mend or uninstall the package") from error
    return registry
