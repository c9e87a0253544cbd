"""Puts the whole program into the wheel, as data of the library; a hook of hatchling runs it.

Under its own names it would overwrite packages of others: Dask has a `distributed` as well.
`mixunlearn/__main__.py` finds it there. An editable installation uses the checkout instead.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PLACE = "mixunlearn/_program"
# Of the presets only the files that commands read; doctor reads the packages in pyproject.toml.
PARTS = {
    "distributed": "*",
    "report": "*",
    "search_spaces": "*",
    "trainables": "*",
    "experiments": "*.yaml",
}


class Program(BuildHookInterface):
    """Adds the files of the program to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files and their places in the wheel."""
        if version != "editable":
            root = Path(self.root)
            named = {str(path): f"{PLACE}/{path.relative_to(root)}" for path in _files(root)}
            build_data["force_include"].update(named)


def _files(root: Path) -> Iterator[Path]:
    """Yield the files, without hidden ones, which may be secrets, and what Python has compiled."""
    yield root / "pyproject.toml"
    for folder, pattern in PARTS.items():
        for path in sorted((root / folder).rglob(pattern)):
            names = path.relative_to(root).parts
            hidden = any(name.startswith(".") or name == "__pycache__" for name in names)
            if path.is_file() and not hidden:
                yield path
