"""A thread that keeps slow and unreliable work away from the event loop of a sweep."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

from distributed.runtime.text import one_line

Message = Callable[[], object]

IDLE_S = 1.0  # how often an idle thread looks whether its program ended without closing it
# Between deliveries: one call for several epochs costs little more than for one.
SHARE = 0.01  # of the time that deliveries may take: trials want the processors
SHORTEST_S, LONGEST_S = 2.0, 30.0
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0

log = logging.getLogger(__name__)


class Work(Protocol):
    """What is done in the thread; messages note down what to do it with."""

    def take(self) -> None:
        """Put away what messages noted; quick."""

    def deliver(self) -> bool:
        """Send what waits, or a part of it; return whether there is more to send at once.

        Raises:
            Exception: it did not work, and is to be tried again later.
        """

    def leave(self) -> None:
        """Put away what was not delivered: the thread ends."""


class Background:
    """One thread that takes messages in order, then tries to deliver what they amount to.

    A message notes down what is wanted and is quick; a delivery sends it, may fail, and is then
    tried again later with all that was noted since. Deliveries take a hundredth of the time, so
    that what is noted within two seconds, or up to half a minute, is delivered together. Actions
    run once after a delivery was tried, whether it succeeded or not. The thread is no daemon:
    nothing noted is lost when a program ends without `close`.

    Args:
        work: what is done.
        name: the thread's name.
    """

    def __init__(self, work: Work, name: str) -> None:
        self.failure: Exception | None = None  # of the last delivery
        self.problems: list[Exception] = []  # of messages and actions
        self.hurried = threading.Event()  # nobody waits any longer: deliver no more
        self._work = work
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._actions: list[Message] = []
        self._closing = False
        self._more = False  # to deliver at once
        self._retry_s, self._next_at, self._took_s = FIRST_RETRY_S, 0.0, 0.0
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, message: Message) -> None:
        """Enqueue a message; returns at once."""
        self._inbox.put(message)

    def put_action(self, action: Message, *, at_once: bool = False) -> None:
        """Run `action` in the thread, after all that was put before it was tried to deliver.

        Args:
            action: what to run.
            at_once: whether somebody waits for it: then the next delivery is not put off.
        """
        self._inbox.put(lambda: self._note(action, at_once))

    def close(self, timeout_s: float) -> bool:
        """Deliver what waits and stop; False if that took longer than `timeout_s` seconds."""
        self._inbox.put(self._close)
        try:
            self._thread.join(timeout_s)
        finally:  # also when a signal ends the waiting
            if self._thread.is_alive():
                self.hurried.set()
        return not self._thread.is_alive()

    def _note(self, action: Message, at_once: bool) -> None:
        self._actions.append(action)
        if at_once:
            self._next_at = 0.0

    def _close(self) -> None:
        self._closing = True

    def _run(self) -> None:
        while self._more or not self._closing:
            self._receive()
            self._attempt(self._work.take)
            due = self._more or self._closing or time.monotonic() >= self._next_at
            if due:
                self._try_to_deliver()
            if not self._more and (due or self.failure):
                self._act()
        self._attempt(self._work.leave)

    def _receive(self) -> None:
        """Wait for a message, then take all that are there."""
        try:
            self._attempt(self._inbox.get(timeout=0 if self._more else IDLE_S))
            while True:
                self._attempt(self._inbox.get_nowait())
        except queue.Empty:
            # The program ended: whoever would have closed us is gone.
            self._closing = self._closing or not threading.main_thread().is_alive()

    def _try_to_deliver(self) -> None:
        self._more = False
        if self.hurried.is_set():
            return
        start = time.monotonic()
        try:
            self._more = self._work.deliver()
            self.failure, self._retry_s = None, FIRST_RETRY_S
            now = time.monotonic()
            before, self._took_s = self._took_s, now - start
            usual_s = min(before, self._took_s)  # not the first one: MLflow is imported in it
            self._next_at = now + min(max(SHORTEST_S, usual_s / SHARE), LONGEST_S)
        except Exception as error:
            log.info("not delivered, next try in %g s: %s", self._retry_s, one_line(error))
            self.failure = error
            self._next_at = time.monotonic() + self._retry_s
            self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)

    def _act(self) -> None:
        actions, self._actions = self._actions, []
        for action in actions:
            self._attempt(action)

    def _attempt(self, message: Message) -> None:
        try:
            message()
        except Exception as error:
            self.problems.append(error)
