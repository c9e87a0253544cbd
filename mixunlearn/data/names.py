"""Names and paths that a user typed, and error messages about them."""

import difflib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mixunlearn.errors import InputError

SHOWN = 100  # characters of a path in an error message


def known_names(name: object, known: Iterable[str]) -> str:
    """Return the nearest known name and the list of all, as the end of an error message."""
    names = list(known)
    if not names:
        return "there are none"
    alike = {each.lower(): each for each in names}
    nearest = alike[difflib.get_close_matches(str(name).lower(), alike, n=1, cutoff=0.0)[0]]
    return f"did you mean {nearest!r}? There are: {', '.join(names)}"


def printable(name: str) -> str:
    """Return the name of a file, with escapes for bytes that are not valid UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def typed_path(key: str, text: str) -> Path:
    """Return the path that a user typed, whether it exists or not.

    Args:
        key: the setting it belongs to, for the error message.
        text: the path; it may begin with `~`.

    Raises:
        InputError: this cannot be a path.
    """
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    if not text:  # the current folder to Python, an empty variable of a script to its author
        raise InputError(key, text, "is empty: give a path")
    try:
        path = Path(text).expanduser()
        # Only for its errors: whether a path can exist is known by the file system alone.
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    # The name is too long, `~user` does not exist, or there is NUL or half a character in it.
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(key, shown, f"not a valid path ({reason}): correct it") from error
    return path
