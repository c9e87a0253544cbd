"""Notices appended to a file."""

from pathlib import Path

from distributed.nightly.notices.delivery import RefusedError


def append(home: Path, name: str, entry: str) -> str:
    """Append an entry to a file and return the file's name.

    Args:
        home: folder that the name is relative to.
        name: name of the file; its folders are created if missing.
        entry: the text to append.

    Raises:
        RefusedError: the file cannot be written, or a link on the way to it leads out of the home.
    """
    path = home / name
    if not path.resolve().is_relative_to(home.resolve()):
        raise RefusedError(f"{name}: a link leads out of the home", final=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(entry)
    except OSError as error:  # final: a full disk stays full, and half may be written already
        reason = (error.strerror or str(error)).lower()
        raise RefusedError(f"{name}: {reason}", final=True) from error
    return name
