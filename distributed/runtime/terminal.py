"""Output to terminals that cannot show every character."""

import codecs
import io
import sys

PLAIN = {"–": "-", "−": "-", "·": "-", "≈": "~", "±": "+-", "×": "x", "Δ": "d", "²": "2"}
PLAIN |= {"→": "->", "←": "<-", "…": "...", "≤": "<=", "≥": ">="}


def show_any_text() -> None:
    """Let standard output and error write a similar character, or `?`, for one they cannot show.

    Python itself would raise an error, and a finished sweep would fail at its last line.
    """
    codecs.register_error("mixunlearn.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="mixunlearn.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unknown = error.object[error.start : error.end]
    return "".join(PLAIN.get(character, "?") for character in unknown), error.end
