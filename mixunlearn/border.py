"""The border to code of others: models, methods and tasks that a user or a package brings along."""

import io
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from types import FrameType

from mixunlearn.errors import MixUnlearnError

IMPORT_S = 30.0  # longest time that an import may take


@contextmanager
def code_of_others(refusal: Callable[[str], MixUnlearnError]) -> Iterator[None]:
    """Turn whatever goes wrong in a block into one error, also what ends the program.

    `sys.exit(0)` would make a command succeed that did nothing. Standard output is for results:
    what the block prints there is dropped, and it cannot close it.

    Args:
        refusal: makes the error from what happened, in a few words.

    Raises:
        MixUnlearnError: what `refusal` returns; errors of ours and Ctrl-C pass unchanged.
    """
    try:
        with redirect_stdout(io.StringIO()):
            yield
    except (MixUnlearnError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise refusal(what(error)) from error


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Interrupt a block that takes too long. Python allows this only in the main thread.

    Raises:
        TimeoutError: it took longer than `seconds`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"no end after {seconds:g} s")

    handler, start = signal.signal(signal.SIGALRM, stop), time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, handler)
        # Somebody else's alarm goes on.
        rest = max(left - (time.monotonic() - start), 1e-3) if left else 0
        signal.setitimer(signal.ITIMER_REAL, rest, interval)


def what(error: BaseException) -> str:
    """Return in one line what happened: an error's first line, or its type if it has none."""
    if not isinstance(error, Exception):
        return f"it raises {type(error).__name__}"
    return str(error).strip().partition("\n")[0] or type(error).__name__
