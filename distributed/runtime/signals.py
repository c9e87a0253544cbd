"""SIGINT and SIGTERM: the first stops a sweep gracefully, the second at once."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 15.0  # time for running epochs to end; in all, a sweep stops within 30 seconds


# Not an Exception: libraries that catch every Exception must not swallow a stop.
class Interrupted(KeyboardInterrupt):
    """A stop was requested; unfinished work can be resumed later."""


class Stop:
    """Handles SIGINT and SIGTERM within a `with`.

    The first signal raises `Interrupted` at the current line; within `patiently()`, it only sets
    `asked`, which the running work checks itself. The second signal ends the process.

    Args:
        say: called with one line when a stop is requested.
    """

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self.say = say or (lambda line: print(line, file=sys.stderr))  # noqa: T201
        self.asked: str | None = None
        self._at = 0.0
        self._patient = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        self._before = self.listen()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def listen(self) -> dict[int, Any]:
        """Install our signal handlers, again after a library has replaced them; return the old."""
        if threading.current_thread() is not threading.main_thread():
            # Python refuses handlers in other threads, such as those of tests and servers.
            return {}
        return {number: signal.signal(number, self._take) for number in SIGNALS}

    @property
    def overdue(self) -> bool:
        """Whether the time to wait for running work is over."""
        return self.asked is not None and time.monotonic() > self._at + GRACE_S

    def ask(self, reason: str) -> None:
        """Request a stop from any thread; the work stops when it checks `asked`."""
        if not self.asked:
            self.asked, self._at = reason, time.monotonic()

    def withdraw(self, reason: str) -> None:
        """Withdraw a stop that was requested for this reason, so that later work runs."""
        if self.asked == reason:
            self.asked = None

    def check(self) -> None:
        """Raise if a stop was requested.

        Raises:
            Interrupted: a stop was requested.
        """
        if self.asked:
            raise Interrupted(self.asked)

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Let the work in this block check `asked` itself instead of being interrupted.

        Raises:
            Interrupted: a stop was requested, and the work has ended.
        """
        self._patient = True
        try:
            yield
        finally:
            self._patient = False
        self.check()

    def _take(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.asked:
            # Neither locks nor cleanup: the second signal must work whatever the process does.
            os.write(2, b"mixunlearn: stopped at once; run the same command again\n")
            os._exit(1)
        # Before anything else: code that is interrupted below may check `asked` in its cleanup.
        self.asked, self._at = name, time.monotonic()
        if not self._patient:
            raise Interrupted(name)
        self.say(
            f"{name}: waiting up to {GRACE_S:.0f} s for running epochs and their checkpoints; "
            "a second signal stops at once"
        )


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end a block as Ctrl-C does. Python allows this only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def ignored() -> Iterator[None]:
    """Ignore signals in a block, for a program that is ending anyway."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
