"""How tests are divided among processes, and how long each may take.

What all folders share is in `tests.fixtures`, which imports nothing heavy. The rest is in the
conftest.py of each folder, so that a test of a pure function does not import Ray, MLflow, Optuna.
"""

import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.warm import COLD, PARENT, PATIENCE

if TYPE_CHECKING:
    from execnet.xspec import XSpec

pytest_plugins = ["tests.fixtures"]

PARENT.copying = not COLD
# Files that compute for longer than 30 s, the longest first; of two with one name, both.
LONGEST = (
    *("nightly", "sweep", "submit", "evidence", "study", "unlearn", "registry", "tracking"),
    *("methods", "outage", "examples", "ui", "bad_words", "own_model", "bad_input", "scheduler"),
)
# Where folders are in memory: thousands of commits of small databases need not wait for a disk.
MEMORY, ENOUGH = Path("/dev/shm"), 8 * 2**30


def pytest_configure() -> None:
    """Make the temporary folders of tests in memory, if it has room and nobody has chosen."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list["XSpec"]) -> None:
    """Fork the processes that run tests as well: otherwise each would import everything."""
    for spec in () if COLD else specs:
        spec.python = PARENT.python


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest files, then those with most slow tests: all processes end together."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    rank = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (rank.get(item.path.stem, len(rank)), -slow[item.path]))
    if COLD:
        give_time(items)


def give_time(items: list[pytest.Item]) -> None:
    """Lengthen the time limit of every test."""
    for item in items:
        mark = item.get_closest_marker("timeout")
        limit = float(mark.args[0] if mark else item.config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(PATIENCE * limit), append=False)


def pytest_collection_finish() -> None:
    """Let each process compute in one thread, because several share the processors."""
    if torch := sys.modules.get("torch"):  # most tests import it; for the others it takes seconds
        torch.set_num_threads(1)


def pytest_unconfigure() -> None:
    PARENT.close()
