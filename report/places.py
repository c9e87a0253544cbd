"""Addresses of files and of the documentation, as seen from the folder of a page."""

import os
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[1]


def relative(target: Path, folder: Path) -> str:
    """Return the address of a file or a folder in a page in `folder`: the two may move together."""
    return quote(Path(os.path.relpath(target.absolute(), folder.absolute())).as_posix())


def documentation(name: str, folder: Path) -> str:
    """Return the address of a page of the documentation, for a page in `folder`.

    Args:
        name: its name without an ending, such as "review".
        folder: where the page will be.

    Returns:
        The page of the site that `make docs` has built, or its source; "" in an installed program,
        which has neither.
    """
    pages = (ROOT / "site" / f"{name}.html", ROOT / "docs" / f"{name}.md")
    return next((relative(each, folder) for each in pages if each.is_file()), "")
