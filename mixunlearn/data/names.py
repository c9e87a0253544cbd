"""What to tell someone who typed a name that is not there."""

import difflib
from collections.abc import Iterable


def known_names(name: object, known: Iterable[str]) -> str:
    """Return the nearest known name and the whole list, as the end of an error message."""
    names = list(known)
    if not names:
        return "there are none"
    nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0.0)[0]
    return f"did you mean {nearest!r}? There are: {', '.join(names)}"
