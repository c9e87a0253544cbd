"""A thread for slow and unreliable work, so that the event loop of a sweep does not wait."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

from distributed.runtime.text import one_line

Message = Callable[[], object]

IDLE_S = 1.0  # interval at which an idle thread checks whether its program has ended
# Pause between deliveries: one call for several epochs costs little more than one for one epoch.
SHARE = 0.01  # share of the time that deliveries may take: trials need the CPU
SHORTEST_S, LONGEST_S = 2.0, 30.0
# Doubled each time: a server that is back is noticed within a minute.
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0

log = logging.getLogger(__name__)


class Work(Protocol):
    """What the thread does with what messages have recorded."""

    def take(self) -> None:
        """Queue what messages have recorded; must be quick."""

    def deliver(self) -> bool:
        """Send what waits, or a part of it; return whether there is more to send at once.

        Raises:
            Exception: it failed; the thread retries later.
        """

    def leave(self) -> None:
        """Save what was not delivered, because the thread ends."""


class Background:
    """One thread that handles messages in order, then tries to deliver what they have recorded.

    A message only records something and is quick. A delivery sends it; if it fails, it is retried
    later, together with everything recorded since. Deliveries take at most a hundredth of the
    time, and so do actions: everything recorded within 2 to 30 seconds is delivered together. An
    action runs once, after the next try to deliver, whether that succeeds or not; of several with
    one name, only the last. The thread is not a daemon, so that nothing is lost if a program ends
    without `close`.

    Args:
        work: what the thread does.
        name: name of the thread.
        first_s: seconds until the first delivery, unless somebody waits for it or `close` comes.
    """

    def __init__(self, work: Work, name: str, first_s: float = 0.0) -> None:
        self.failure: Exception | None = None  # error of the last delivery
        self.problems: list[Exception] = []  # errors of messages and actions
        self.hurried = threading.Event()  # set when `close` has given up: stop delivering
        self._work = work
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._actions: dict[object, Message] = {}  # by name
        self._closing = False
        self._more = False  # whether the next delivery follows at once
        self._retry_s, self._took_s = FIRST_RETRY_S, 0.0
        self._next_at = time.monotonic() + first_s
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, message: Message) -> None:
        """Enqueue a message; returns at once."""
        self._inbox.put(message)

    def put_action(self, action: Message, *, at_once: bool = False, name: str = "") -> None:
        """Run `action` in the thread, after a try to deliver all earlier messages.

        Args:
            action: what to run.
            at_once: whether the caller waits for it: then the next delivery is not delayed.
            name: an earlier action of this name that still waits does not run; empty: all run.
        """
        self._inbox.put(lambda: self._note(action, at_once, name or object()))

    def close(self, timeout_s: float) -> bool:
        """Deliver what waits and stop; return False if that takes longer than `timeout_s`.

        Args:
            timeout_s: how long to wait, in seconds.
        """
        self._inbox.put(self._close)
        try:
            self._thread.join(timeout_s)
        finally:  # also if a signal interrupts the waiting
            # The thread is no daemon: without this, the program would wait for MLflow for ever.
            if self._thread.is_alive():
                self.hurried.set()
        return not self._thread.is_alive()

    def _note(self, action: Message, at_once: bool, name: object) -> None:
        self._actions.pop(name, None)  # so that the new one is the last of all
        self._actions[name] = action
        if at_once:
            self._next_at = 0.0

    def _close(self) -> None:
        self._closing = True

    def _run(self) -> None:
        # Also while closing: what is left in the spool is sent in pieces.
        while self._more or not self._closing:
            self._receive()
            # Each time, due or not: while MLflow is away, this brings new records to the disk.
            self._attempt(self._work.take)
            due = self._more or self._closing or time.monotonic() >= self._next_at
            if due:
                self._try_to_deliver()
            # Also after a failure: trials.parquet is written by an action, and needs no MLflow.
            if not self._more and (due or self.failure):
                self._act()
        self._attempt(self._work.leave)

    def _receive(self) -> None:
        """Wait for a message, then handle all that are in the inbox."""
        try:
            self._attempt(self._inbox.get(timeout=0 if self._more else IDLE_S))
            while True:
                self._attempt(self._inbox.get_nowait())
        except queue.Empty:
            # If the main thread has ended, nothing will call `close` any more.
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
            usual_s = min(before, self._took_s)  # ignores the first, which imports MLflow
            self._next_at = now + min(max(SHORTEST_S, usual_s / SHARE), LONGEST_S)
        except Exception as error:
            log.info("not delivered, next try in %g s: %s", self._retry_s, one_line(error))
            self.failure = error
            self._next_at = time.monotonic() + self._retry_s
            self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)

    def _act(self) -> None:
        actions, self._actions = self._actions, {}
        start = time.thread_time()  # waiting for a disk takes no CPU from trials
        for action in actions.values():
            self._attempt(action)
        pause_s = min((time.thread_time() - start) / SHARE, LONGEST_S)
        if not self.failure:  # else the next delivery is a retry, which has its own pause
            self._next_at = max(self._next_at, time.monotonic() + pause_s)

    def _attempt(self, message: Message) -> None:
        try:
            message()
        except Exception as error:
            self.problems.append(error)
