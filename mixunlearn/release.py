"""Which release this is; `pyproject.toml` is the one place that says it."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NAME = "mixunlearn"
UNKNOWN = "0+unknown"


def installed_version() -> str | None:
    """Return the version that was installed, `None` if none was."""
    try:
        return version(NAME)
    except PackageNotFoundError:
        return None


def version_of_checkout(project: Path) -> str:
    """Return the version that a `pyproject.toml` states, "0+unknown" if it states none of ours."""
    try:
        described = tomllib.loads(project.read_text()).get("project", {})
    except (OSError, ValueError):
        return UNKNOWN
    # The package may have been copied into another project.
    return str(described["version"]) if described.get("name") == NAME else UNKNOWN


__version__ = installed_version() or version_of_checkout(
    Path(__file__).parents[1] / "pyproject.toml"
)
