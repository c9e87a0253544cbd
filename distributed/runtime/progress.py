"""Progress on standard error: one line that changes on a terminal, one line an event elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text


class Progress:
    """Says what is going on; used in a `with`.

    Args:
        console: where to; by default standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._live = Live(console=self.console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self.console.print(Text(line), soft_wrap=True)

    def show(self, line: str, *, event: bool = False) -> None:
        """Show the present state; where lines cannot be changed, only at an event."""
        if self.console.is_terminal:
            self._live.update(Text(line))
        elif event:
            self.say(line)


class Count:
    """How far a stage is: done, running, time left.

    Args:
        total: how many there are.
        done: how many were done before.
    """

    def __init__(self, total: int, done: int = 0) -> None:
        self.total, self.done, self._before = total, done, done
        self._start = time.monotonic()

    def left(self) -> str:
        """Return the time left, from the time that those done took; empty before the first."""
        finished = self.done - self._before
        if not finished:
            return ""
        seconds = (time.monotonic() - self._start) / finished * (self.total - self.done)
        return f", about {seconds:.0f} s left"
