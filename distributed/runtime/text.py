"""Text for users: without passwords, in one line, not too long."""

import re

from mixunlearn.redaction import redact, redact_address, require_whole, without_account

__all__ = ["cut", "one_line", "redact", "redact_address", "require_whole", "without_account"]

REASON_LENGTH = 240


def cut(text: str, length: int) -> str:
    """Return `text` with at most `length` characters; an ellipsis marks a cut."""
    return text if len(text) <= length else text[: length - 1] + "…"


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
