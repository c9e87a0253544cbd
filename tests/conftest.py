"""How tests are divided among processes; what they share is in `tests.fixtures`."""

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.warm import PARENT

if TYPE_CHECKING:
    from execnet.xspec import XSpec

PARENT.copying = True


def pytest_configure(config: pytest.Config) -> None:
    """Import what tests need, but not where tests are only given out to other processes."""
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        config.pluginmanager.import_plugin("tests.fixtures")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list["XSpec"]) -> None:
    """Let processes that run tests be forks as well: each would import everything."""
    for spec in specs:
        spec.python = PARENT.python


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have most slow tests: then all processes end together."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_unconfigure() -> None:
    PARENT.close()
