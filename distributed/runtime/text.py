"""Text for users: without passwords, in one line, not too long."""

import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from mixunlearn.redaction import redact, redact_address, require_whole, without_account

__all__ = ["cut", "one_line", "redact", "redact_address", "require_whole", "without_account"]

REASON_LENGTH, MESSAGE_LENGTH = 240, 1000


class OneLine(logging.Formatter):
    """Writes each log message in one line."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the message without line breaks."""
        return _joined(super().formatMessage(record))


class Logs(logging.Handler):
    """Writes log messages to the present standard error: above a progress display, not into it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message."""
        try:
            sys.stderr.write(f"{self.format(record)}\n")
        except Exception:  # as every handler: a log must not end a program
            self.handleError(record)


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Let Python write each warning in one line, without its place in the code."""
    usual = warnings.formatwarning
    warnings.formatwarning = lambda message, *_: f"warning: {_joined(str(message))}\n"
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _joined(text: str) -> str:
    return cut(redact(" ".join(text.split())), MESSAGE_LENGTH)


def cut(text: str, length: int) -> str:
    """Return `text` with at most `length` characters; an ellipsis marks a cut."""
    return text if len(text) <= length else text[: length - 1] + "…"


def shortened(text: str, length: int) -> str:
    """Return the start and the end of a text that is longer than `length`, cut between words."""
    if len(text) <= length:
        return text
    start, end = text[: length // 2], text[-length // 2 :]
    # Not within an address: `redact` would not find the password in a part of it.
    if "://" in start.rpartition(" ")[2]:
        start = start.rpartition(" ")[0]
    return f"{start}… …{end.partition(' ')[2]}"


def one_line(error: Exception) -> str:
    """Return an error as one line without passwords: the root cause if it can be found."""
    if isinstance(error, OSError) and error.strerror:
        text = ": ".join(str(part) for part in (error.strerror, error.filename) if part)
    else:
        # An HTTP client wraps "[Errno 111] Connection refused" three times.
        text = str(error) or type(error).__name__
        # The last one is the innermost: the system's own words.
        text = (re.findall(r"\[Errno -?\d+\] ([^'\"()\[\]]+)", text) or [text])[-1]
    return cut(" ".join(redact(text).split()), REASON_LENGTH)
