"""Which release this is; `pyproject.toml` is the one place that says it."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NAME = "mixunlearn"
UNKNOWN = "0+unknown"


def find_version(project: Path) -> str:
    """Return the version that was installed, else that of a checkout.

    Args:
        project: the checkout's `pyproject.toml`; read if nothing was installed.
    """
    try:
        return version(NAME)
    except PackageNotFoundError:
        return _version_in(project)


def _version_in(project: Path) -> str:
    try:
        described = tomllib.loads(project.read_text()).get("project", {})
    except (OSError, ValueError):
        return UNKNOWN
    # The package may have been copied into another project.
    return str(described["version"]) if described.get("name") == NAME else UNKNOWN


__version__ = find_version(Path(__file__).parents[1] / "pyproject.toml")
