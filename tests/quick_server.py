"""MLflow's server in forks of a process that has imported it, for tests that only talk to it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from distributed.serve import pages
from tests.warm import PARENT
from tests.worker import WARM_MODULES


@contextmanager
def quick_server(
    home: Path, uri: str, artifact_location: str | None, port: int | None
) -> Iterator[pages.Server]:
    """Run `pages.server`, which starts in a fifth of the time unless TESTS_COLD=1."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(WARM_MODULES, "uvicorn")  # MLflow starts it
            patch.setattr(pages, "_python", lambda: PARENT.quick)
            running = stack.enter_context(pages.server(home, uri, artifact_location, port))
        yield running
