"""Registries: entries by name; other packages can add entries through entry points."""

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from mixunlearn.border import IMPORT_S, code_of_others, limited
from mixunlearn.errors import MixUnlearnError
from mixunlearn.lazy import load

Thing = TypeVar("Thing")


class PluginError(MixUnlearnError):
    """An installed package adds an entry that cannot be used."""

    exit_code = 2


def extended(known: Mapping[str, Thing], group: str) -> Mapping[str, Thing]:
    """Return a registry with the entries that installed packages add to it.

    Args:
        known: our own entries by name.
        group: group of the entry points; the name and the object of an entry point become the name
            and the value of an entry.

    Raises:
        MixUnlearnError: an entry point has a name that is already in use.
    """
    added = _added(known, group)
    return _Registry(known, added, added.keys())


def registry(places: Mapping[str, str], group: str) -> Mapping[str, Any]:
    """Return a registry whose entries are imported on first use.

    Names can be listed and looked up without any import.

    Args:
        places: where each of our own entries is, by name: `package.module:object`.
        group: as for `extended`.

    Raises:
        MixUnlearnError: an entry point has a name that is already in use.
    """
    own = {name: partial(load, place) for name, place in places.items()}
    added = _added(places, group)
    return _Registry({}, {**own, **added}, added.keys())


def is_ours(registry: Mapping[str, object], name: str) -> bool:
    """Return whether a registry has an entry, and not from another package."""
    assert isinstance(registry, _Registry)
    return name in registry and name not in registry.added


def _added(known: Mapping[str, object], group: str) -> dict[str, Callable[[], Any]]:
    """Return a loader for each entry of other packages, by name."""
    added: dict[str, Callable[[], Any]] = {}
    for point in entry_points(group=group):
        if point.name in {*known, *added}:
            # Otherwise, which of the two is used would depend on the order of installed packages.
            raise PluginError(f"{_where(point)}: the name is already in use; choose another")
        added[point.name] = partial(_load, point)
    return added


class _Registry(Mapping[str, Thing]):
    """Entries by name; those with a loader are imported on first use.

    Importing them earlier could fail: other packages import our modules, which may not be
    completely imported at that time.
    """

    def __init__(
        self,
        known: Mapping[str, Thing],
        loaders: Mapping[str, Callable[[], Thing]],
        added: Collection[str],
    ) -> None:
        self._known, self._loaders, self._names = dict(known), loaders, (*known, *loaders)
        self.added = added

    def __getitem__(self, name: str) -> Thing:
        """Return an entry.

        Raises:
            KeyError: there is no entry with this name.
            MixUnlearnError: an entry of another package cannot be imported.
        """
        if name not in self._known:
            self._known[name] = self._loaders[name]()
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        # Mapping's own version looks the entry up, which would import it.
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _load(point: EntryPoint) -> Any:  # noqa: ANN401 - any object of the package
    def refusal(reason: str) -> MixUnlearnError:
        return PluginError(f"{_where(point)}: {reason}; fix or uninstall the package")

    with code_of_others(refusal), limited(IMPORT_S):
        return point.load()


def _where(point: EntryPoint) -> str:
    return f"entry point {point.group}: {point.name} = {point.value}"
