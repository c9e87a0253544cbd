"""A time limit on work that can be stopped gracefully."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from distributed.runtime.signals import Interrupted, Stop

TIME = "the night's time is over"


@contextmanager
def limited(stop: Stop, seconds: float | None) -> Iterator[None]:
    """Stop the work in the block gracefully when its time is over, then continue after the block.

    Args:
        stop: the stop request that the work checks.
        seconds: the limit; `None`: there is none.

    Raises:
        Interrupted: a signal requested a stop.
    """
    timer = threading.Timer(seconds, stop.ask, [TIME]) if seconds is not None else None
    if timer:
        # It must not keep a command that has finished alive.
        timer.daemon = True
        timer.start()
    try:
        yield
    except Interrupted:
        # A signal is the user's wish: it ends the night, not only this block.
        if stop.asked != TIME:
            raise
    finally:
        if timer:
            timer.cancel()
        stop.withdraw(TIME)  # the work after the block must not be stopped
