"""What other packages add to a registry, through an entry point."""

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from mixunlearn.errors import MixUnlearnError

Thing = TypeVar("Thing")


def extended(known: Mapping[str, Thing], group: str) -> Mapping[str, Thing]:
    """Return a registry with what installed packages add to it.

    Args:
        known: our own entries by name.
        group: of the entry points: each one's name is the entry's, its object the entry.

    Raises:
        MixUnlearnError: an entry has a name that is taken.
    """
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        if point.name in {*known, *points}:
            raise MixUnlearnError(f"{_where(point)}: the name is taken; give it another")
        points[point.name] = point
    return _Registry(known, points)


class _Registry(Mapping[str, Thing]):
    """Entries by name; those of other packages are imported when they are first asked for.

    Before, our own modules may be half imported, and theirs import ours.
    """

    def __init__(self, known: Mapping[str, Thing], points: Mapping[str, EntryPoint]) -> None:
        self._known, self._points, self._names = dict(known), points, (*known, *points)

    def __getitem__(self, name: str) -> Thing:
        """Return an entry.

        Raises:
            MixUnlearnError: it cannot be imported.
        """
        if name not in self._known:
            self._known[name] = _load(self._points[name])
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _load(point: EntryPoint) -> Any:  # noqa: ANN401 - whatever the package offers
    try:
        return point.load()
    except Exception as error:
        raise MixUnlearnError(f"{_where(point)}: {error}; mend or uninstall the package") from error


def _where(point: EntryPoint) -> str:
    return f"entry point {point.group}: {point.name} = {point.value}"
