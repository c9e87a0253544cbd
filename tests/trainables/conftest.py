"""What tests of the trainables share: problems, and a Ray to run trials on."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    for name in ("tests.problems", "tests.local_ray"):
        config.pluginmanager.import_plugin(name)
