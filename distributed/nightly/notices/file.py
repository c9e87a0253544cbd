"""Notices appended to a file."""

from pathlib import Path

from distributed.nightly.notices.delivery import RefusedError


def append(home: Path, name: str, entry: str) -> str:
    """Append an entry to a file and return the file's name.

    Args:
        home: folder that the name is relative to.
        name: of the file; its folders are made when missing.
        entry: text.

    Raises:
        RefusedError: it cannot be written.
    """
    path = home / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(entry)
    except OSError as error:  # final: a disk is not free again in seconds, and half may be there
        reason = (error.strerror or str(error)).lower()
        raise RefusedError(f"{name}: {reason}", final=True) from error
    return name
