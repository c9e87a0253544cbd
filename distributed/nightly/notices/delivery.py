"""Delivery of a notice: retries, a limit on the time, and no secret in what is reported."""

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
LIMIT_S = 30.0  # of one notice, retries and all: a server may answer a byte at a time
SHORTEST_SECRET = 4  # a shorter piece of an address gives nothing away

Attempt: TypeAlias = Callable[[], str]  # returns what was done, raises what prevented it


class RefusedError(Exception):
    """A server or a file did not take a notice.

    Args:
        reason: in a few words.
        final: whether a retry would fail like this attempt.
    """

    def __init__(self, reason: str, *, final: bool) -> None:
        super().__init__(reason)
        self.final = final


def deliver(attempt: Attempt) -> str:
    """Return what came of an attempt and its retries, in one line, within `LIMIT_S`."""
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    # In a thread: time-outs limit one wait each, and none limits the look-up of a host's address.
    thread = threading.Thread(target=lambda: answers.put(_tried(attempt, PAUSES_S)), daemon=True)
    try:
        thread.start()
        return answers.get(timeout=LIMIT_S)
    except queue.Empty:
        return f"not sent: no end within {LIMIT_S:g} seconds"
    except RuntimeError as error:  # no thread can be started
        return f"not sent: {one_line(error)}"


def _tried(attempt: Attempt, pauses: Sequence[float]) -> str:
    """Return what came of an attempt and of its retries, a pause before each."""
    try:
        return attempt()
    except Exception as error:
        if not pauses or is_final(error):
            return f"not sent: {scrubbed(one_line(error))}"
    time.sleep(pauses[0])
    return _tried(attempt, pauses[1:])


def is_final(error: Exception) -> bool:
    """Return whether a retry would fail with the same error."""
    if isinstance(error, RefusedError):
        return error.final
    if isinstance(error, ssl.SSLCertVerificationError):
        return True
    return not isinstance(error, OSError | HTTPException)


def scrubbed(reason: str) -> str:
    """Return a reason without password and without the webhook's path: servers repeat things."""
    _, *pieces = re.split(r"[/?&=#:@]+", os.environ.get(WEBHOOK, "").partition("://")[2])
    for secret in (os.environ.get(PASSWORD, ""), *pieces):
        if len(secret) >= SHORTEST_SECRET:
            reason = reason.replace(secret, "***")
    return reason
