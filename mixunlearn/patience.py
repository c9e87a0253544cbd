"""Waiting for storage or a database that does not answer for a while."""

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S, RETRY_S = 600.0, 1.0  # how long something may be away; pause between two tries
# Of SQLite, Linux and PostgreSQL, whose errors share no code.
DISK_FULL_WORDS = ("disk is full", "no space left", "quota exceeded", "disk full")
Answer = TypeVar("Answer")


def patiently(
    action: Callable[[], Answer],
    errors: tuple[type[Exception], ...],
    waiting: Callable[[Exception], None],
) -> Answer:
    """Repeat an action until it succeeds, for at most `PATIENCE_S` seconds.

    Args:
        action: what to do; it may be repeated.
        errors: the errors that may pass.
        waiting: called with the error before each pause; it may raise, which ends the waiting.

    Raises:
        Exception: the last of `errors`, or what `waiting` raises.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return action()
        except errors as error:
            if time.monotonic() > deadline:
                raise
            waiting(error)
        time.sleep(RETRY_S)


def disk_full(reason: str) -> bool:
    """Return whether an error says that a disk is full: waiting would only hide the reason."""
    return any(words in reason.lower() for words in DISK_FULL_WORDS)
