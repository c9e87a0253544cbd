"""Delivers a notice: with retries, within a time limit, and without secrets in its report."""

import os
import queue
import re
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from http.client import HTTPException
from typing import TypeAlias

from distributed.runtime.text import one_line

PASSWORD = "MIXUNLEARN_SMTP_PASSWORD"  # names of environment variables
WEBHOOK = "MIXUNLEARN_WEBHOOK"

PAUSES_S = (1.0, 4.0)  # before the second attempt and the third
LIMIT_S = 30.0  # for one notice with its retries: a server may answer one byte at a time
SHORTEST_SECRET = 4  # a shorter piece of an address reveals nothing

Attempt: TypeAlias = Callable[[], str]  # returns what was done, raises what prevented it


class RefusedError(Exception):
    """A server or a file did not accept a notice.

    Args:
        reason: in a few words.
        final: whether a retry would fail like this attempt.
    """

    def __init__(self, reason: str, *, final: bool) -> None:
        super().__init__(reason)
        self.final = final


def deliver(attempt: Attempt) -> str:
    """Return the result of an attempt and its retries, in one line, within `LIMIT_S`."""
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    # In a thread: each time-out limits one wait only, and none limits the look-up of a host.
    # A daemon: a server that hangs must not keep the command alive.
    thread = threading.Thread(target=lambda: answers.put(_tried(attempt, PAUSES_S)), daemon=True)
    try:
        thread.start()
        return answers.get(timeout=LIMIT_S)
    except queue.Empty:
        return f"not sent: not finished within {LIMIT_S:g} seconds"
    except RuntimeError as error:  # no thread can be started
        return f"not sent: {one_line(error)}"


def _tried(attempt: Attempt, pauses: Sequence[float]) -> str:
    """Return the result of an attempt and its retries, with a pause before each retry."""
    try:
        return attempt()
    # Whatever goes wrong with a notice, the night has its verdict.
    except Exception as error:
        if not pauses or is_final(error):
            return f"not sent: {scrubbed(one_line(error))}"
    time.sleep(pauses[0])
    return _tried(attempt, pauses[1:])


def is_final(error: Exception) -> bool:
    """Return whether a retry would fail with the same error."""
    if isinstance(error, RefusedError):
        return error.final
    # Before the last line: it is an OSError, but trying again does not make it valid.
    if isinstance(error, ssl.SSLCertVerificationError):
        return True
    return not isinstance(error, OSError | HTTPException)


def scrubbed(reason: str) -> str:
    """Return a reason without the password and the webhook's path: servers may repeat them."""
    # The first piece is the host, which may be shown.
    _, *pieces = re.split(r"[/?&=#:@]+", os.environ.get(WEBHOOK, "").partition("://")[2])
    for secret in (os.environ.get(PASSWORD, ""), *pieces):
        if len(secret) >= SHORTEST_SECRET:
            reason = reason.replace(secret, "***")
    return reason
