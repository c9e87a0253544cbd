"""Progress on standard error: on a terminal one line that changes, else one line per event."""

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text


class Progress:
    """Shows what is going on; used in a `with`.

    Args:
        console: where to print; by default standard error.
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
        # As `Text`: in a string, rich would take `[...]`, as in a list of values, for markup.
        self.console.print(Text(line), soft_wrap=True)

    def show(self, line: str, *, event: bool = False) -> None:
        """Show the present state; if the output is not a terminal, only at an event."""
        if self.console.is_terminal:
            self._live.update(Text(line))
        elif event:
            self.say(line)


class Count:
    """Counts the finished parts of a stage and estimates the time left.

    Args:
        total: total number of parts.
        done: number of parts that were finished before.
    """

    def __init__(self, total: int, done: int = 0) -> None:
        # Earlier parts took no time of this run: they do not count in the estimate.
        self.total, self.done, self._before = total, done, done
        self._start = time.monotonic()

    def left(self) -> str:
        """Return the time left, estimated from finished parts; empty before the first one."""
        finished = self.done - self._before
        if not finished:
            return ""
        seconds = (time.monotonic() - self._start) / finished * (self.total - self.done)
        return f", about {seconds:.0f} s left"
