"""The folder of a request's results, and its name: can they be what the user wrote?"""

from pathlib import Path

from distributed.plan.requirements import require_writable
from distributed.requests.files import RECORDS
from distributed.study.folder import STUDIES
from mixunlearn.data.names import typed_path
from mixunlearn.errors import InputError

KEY = "--out"
# Folders of the home whose content other commands read, or remove.
OF_HOME = (RECORDS, STUDIES, "cache", "comparisons", "evidence", "nightly", "store")
LONGEST_NAME = 200


def out_folder(written: str, home: Path) -> Path:
    """Return the folder for results; it need not exist.

    Raises:
        InputError: it is something else than a folder, belongs to the home, or cannot be written.
    """
    folder = typed_path(KEY, written)
    # `exists` is false for a link that leads nowhere.
    if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        raise InputError(KEY, written, "is not a folder; choose another")
    place, root = folder.resolve(), home.resolve()
    if place == root or any(place.is_relative_to(root / name) for name in OF_HOME):
        remedy = "belongs to the home, and other commands change it; choose a folder of its own"
        raise InputError(KEY, written, remedy)
    if not (folder / "record.json").is_file():  # what is finished may be read-only
        require_writable(KEY, folder)
    return folder


def request_name(written: str | None, folder: Path) -> str:
    """Return the name of a request; by default that of its folder.

    Raises:
        InputError: it is empty, too long, or holds line breaks or what no file can hold.
    """
    key, name = ("--out", folder.resolve().name) if written is None else ("--name", written)
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        remedy = f"must be 1 to {LONGEST_NAME} printable characters: it names the request"
        remedy += "; name it with --name" if written is None else ""
        raise InputError(key, name[:LONGEST_NAME], remedy)
    return name
