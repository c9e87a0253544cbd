"""Progress on standard error: on a terminal a display that moves, else lines and a heartbeat."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from distributed.runtime.count import Count, clock
from distributed.runtime.terminal import plain

FIRST_S, EVERY_S = 10.0, 30.0  # until the first line of a silent stage, and between later lines
LOOK_S = 1.0  # interval at which is checked whether a line is due
BAR, SHORTEST_BAR = 40, 8  # columns
GAP = 2  # columns between the parts of a line


class Progress:
    """Shows what is going on; used in a `with`.

    A terminal shows the present state, its time so far, and in a stage with parts a bar, the rate
    and the time left. A pipe, a file, or a terminal that cannot move its cursor gets one line per
    event, and as a heartbeat the present state: once soon after a stage began, then from time to
    time while nothing else is printed.

    Args:
        console: where to print; by default standard error.
        first_s: seconds of a stage without a line, after which its state is printed; by default
            FIRST_S.
        every_s: seconds without any line, after which the state is printed again.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        first_s: float | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        # `isatty` as well: with FORCE_COLOR, Rich takes every file for a terminal.
        self.moving = self.console.is_interactive and self.console.file.isatty()
        self._first_s = FIRST_S if first_s is None else first_s
        self._every_s = every_s
        self._state: _State | None = None
        self._heading = ""
        self._printed = time.monotonic()
        self._over = Event()
        self._heart = Thread(target=self._beat, name="heartbeat", daemon=True)
        # What is printed to standard output meanwhile must not land on standard error.
        self._live = Live(
            console=self.console,
            get_renderable=self._display,
            transient=True,
            redirect_stdout=False,
        )

    def __enter__(self) -> "Progress":
        if self.moving:
            self._live.start()
        else:
            self._heart.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._live.stop()
        if self._heart.is_alive():
            self._heart.join()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._printed = time.monotonic()
        # Between words on a terminal; but a path that is broken into lines cannot be copied.
        whole = not self.moving or max(map(len, line.split()), default=0) >= self.console.width
        # As `Text`: in a string, rich would take `[...]`, as in a list of values, for markup.
        self.console.print(Text(line), soft_wrap=whole)

    def head(self, line: str) -> None:
        """Show what the following stages belong to; a terminal keeps it above their states."""
        self._heading = line
        if not self.moving:
            self.say(line)

    def show(self, line: str, *, event: bool = False, count: Count | None = None) -> None:
        """Show the present state; if the output does not move, only at an event.

        Args:
            line: the state, in words.
            event: whether it is worth a line that stays.
            count: the work of the stage.
        """
        before = self._state
        same = before is not None and (count is not None and count is before.count)
        since = before.since if before is not None and same else time.monotonic()
        self._state = state = _State(line=line, count=count, since=since)
        if event and not self.moving:
            self.say(state.text())

    def stage(self, title: str, ended: str, total: int, done: int = 0) -> Callable[[], None]:
        """Show a stage whose parts end one by one; return what to call at the end of each part.

        Args:
            title: name of the stage.
            ended: what an ended part is, for example "models evaluated".
            total: number of parts.
            done: number of parts that ended before.
        """
        count = Count(total, done)

        def show(*, event: bool) -> None:
            self.show(f"{title}: {count.done} of {total} {ended}", event=event, count=count)

        def finished() -> None:
            count.finish()
            show(event=True)

        show(event=False)
        return finished

    def _display(self) -> "_Display":
        return _Display(heading=self._heading, state=self._state)

    def _due(self) -> float:
        """Return when the next heartbeat is due."""
        state = self._state
        if state is not None and state.since > self._printed:
            return state.since + self._first_s
        return self._printed + self._every_s

    def _beat(self) -> None:
        # A shorter wait than until the next line: that moment changes with each line and stage.
        while not self._over.wait(min(LOOK_S, self._first_s)):
            if self._state and time.monotonic() >= self._due():
                self.say(self._state.text(so_far=True))


@dataclass(frozen=True, kw_only=True)
class _State:
    """What is going on: in words, as counted work, and since when, on a monotonic clock."""

    line: str
    count: Count | None
    since: float

    def so_far(self) -> str:
        return clock(time.monotonic() - self.since)

    def text(self, *, so_far: bool = False) -> str:
        """Return the state as a line of a log."""
        numbers = [self.count.rate(), self.count.left()] if self.count else []
        known = [each for each in numbers if each]
        if so_far and not known:
            known = [f"{self.so_far()} so far"]
        return ", ".join((self.line, *known))


@dataclass(frozen=True, kw_only=True)
class _Display:
    """The state on a terminal, in as many lines as it has parts, none wider than the terminal."""

    heading: str
    state: _State | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Plain before it is measured: a character may become three.
        write = plain if options.ascii_only else str
        # One column less: some terminals go to a new line as soon as the last one is filled.
        width = options.max_width - 1
        if self.heading:
            yield _line(write(self.heading), width)
        if not self.state:
            return
        count, so_far = self.state.count, self.state.so_far()
        if count is None:
            room = width - len(so_far) - GAP
            yield _line(f"{write(self.state.line)[:room]}{' ' * GAP}{so_far}", width)
            return
        yield _line(write(self.state.line), width)
        yield _bar(count, so_far, width)


def _line(text: str, width: int) -> Text:
    return Text(text[: max(1, width)], no_wrap=True, overflow="crop")


def _bar(count: Count, so_far: str, width: int) -> Table:
    """Return a bar with numbers; in a narrow terminal without the less important ones."""
    share = f"{100 * count.share:.0f} %"
    numbers, room = share, width - BAR // 2
    for number in (count.left(), count.rate(), f"{so_far} so far"):
        longer = f"{numbers}{' ' * GAP}{number}"
        numbers = longer if number and len(longer) <= room else numbers
    columns = min(BAR, width - len(numbers) - GAP)
    row = Table.grid(padding=(0, GAP))
    if columns < SHORTEST_BAR:
        row.add_row(_line(numbers, width))
    else:
        bar = ProgressBar(1.0, count.share, columns, complete_style="cyan", finished_style="green")
        row.add_row(bar, Text(numbers, no_wrap=True))
    return row
