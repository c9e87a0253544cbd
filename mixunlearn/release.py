"""The version of this release, as `pyproject.toml` defines it."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NAME = "mixunlearn"
UNKNOWN = "0+unknown"


def installed_version() -> str | None:
    """Return the installed version, `None` if the package is not installed."""
    try:
        return version(NAME)
    except PackageNotFoundError:
        return None


def version_of_checkout(project: Path) -> str:
    """Return the version in a `pyproject.toml`, "0+unknown" if it is not this project's file."""
    try:
        described = tomllib.loads(project.read_text()).get("project", {})
    except (OSError, ValueError):
        return UNKNOWN
    # The package may have been copied into another project: then the version is not ours.
    return str(described["version"]) if described.get("name") == NAME else UNKNOWN


# An installed library has no pyproject.toml next to it.
__version__ = installed_version() or version_of_checkout(
    Path(__file__).parents[1] / "pyproject.toml"
)
