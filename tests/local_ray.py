"""The one Ray that all tests of a process share."""

import contextlib
import sys
from collections.abc import Iterator

import pytest

from distributed.cluster.connection import connected
from tests.warm import BY_PIPE, PARENT


@pytest.fixture(scope="session")
def shared_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray on this machine, started once per session, from a folder that is not the checkout.

    Its workers are forked from a process that has imported everything, unless TESTS_COLD=1.
    """
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "executable", PARENT.python)
            for name, value in BY_PIPE.items():
                patch.setenv(name, value)
            patch.chdir(tmp_path_factory.mktemp("elsewhere"))
            stack.enter_context(connected(None))
        yield
