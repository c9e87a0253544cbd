"""SIGINT and SIGTERM: the first ends a sweep in order, the second at once."""

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
GRACE_S = 15.0  # for running epochs to end; with what follows a sweep ends within 30 seconds


class Interrupted(KeyboardInterrupt):
    """A stop was asked for; what is not finished continues another time."""


class Stop:
    """Listens to SIGINT and SIGTERM within a `with`.

    The first raises `Interrupted` where the program is, but within `patiently()` only sets
    `asked`, for those who look. The second ends the process.

    Args:
        say: told that a stop was asked for.
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
        """Take the signals over, again after a library took them; return who had them."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._take) for number in SIGNALS}

    @property
    def overdue(self) -> bool:
        """Whether there is no time left to wait for anything."""
        return self.asked is not None and time.monotonic() > self._at + GRACE_S

    def ask(self, reason: str) -> None:
        """Ask for a stop as a signal does, from any thread; noticed by those who look."""
        if not self.asked:
            self.asked, self._at = reason, time.monotonic()

    def withdraw(self, reason: str) -> None:
        """Take back what was asked for with this reason: what follows is to be done after all."""
        if self.asked == reason:
            self.asked = None

    def check(self) -> None:
        """Raise if a stop was asked for.

        Raises:
            Interrupted: it was.
        """
        if self.asked:
            raise Interrupted(self.asked)

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Let the work within look at `asked` itself.

        Raises:
            Interrupted: a stop was asked for, and the work ended.
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
            os.write(2, b"mixunlearn: stopped at once; run the same command again\n")
            os._exit(1)
        self.asked, self._at = name, time.monotonic()
        if not self._patient:
            raise Interrupted(name)
        self.say(
            f"{name}: waiting up to {GRACE_S:.0f} s for running epochs, to save them; "
            "again to stop at once"
        )


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end a block as Ctrl-C does. Only the main thread may say so."""
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
    """Let no signal disturb a block: what ends already needs no second one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
