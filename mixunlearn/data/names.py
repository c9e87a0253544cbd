"""What to tell someone who typed a name that is not there."""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

from mixunlearn.errors import InputError


def known_names(name: object, known: Iterable[str]) -> str:
    """Return the nearest known name and the whole list, as the end of an error message."""
    names = list(known)
    if not names:
        return "there are none"
    nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0.0)[0]
    return f"did you mean {nearest!r}? There are: {', '.join(names)}"


def printable(name: str) -> str:
    """Return the name of a file with escapes for what in it is no text."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def typed_path(key: str, text: str) -> Path:
    """Return the path that someone typed, whether it exists or not.

    Args:
        key: the setting it is of, for the error message.
        text: it may begin with `~`.

    Raises:
        InputError: there can be no such path.
    """
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long, a user that is not there
        raise InputError(key, text, f"no path ({error}): correct it") from error
    return path
