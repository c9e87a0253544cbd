"""Output to terminals that cannot show every character."""

import codecs
import io
import sys

PLAIN = {"–": "-", "−": "-", "·": "-", "≈": "~", "±": "+-", "×": "x", "Δ": "d", "²": "2"}
PLAIN |= {"→": "->", "←": "<-", "…": "...", "≤": "<=", "≥": ">=", "λ": "lambda", "━": "-"}


def show_any_text() -> None:
    """Let standard output and error write a similar character, or `?`, for one they cannot show.

    Python itself would raise an error, and a finished sweep would fail at its last line.
    """
    codecs.register_error("mixunlearn.plain", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="mixunlearn.plain")


def plain(text: str) -> str:
    """Return a text in ASCII, with a similar character, or `?`, for each other one."""
    return "".join(each if each.isascii() else PLAIN.get(each, "?") for each in text)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end
