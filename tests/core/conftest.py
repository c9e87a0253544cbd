"""What tests of the library share: problems, without Ray, Optuna and MLflow."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("tests.problems")
