"""Counts the work of a stage; its rate and the time left, without jumps."""

import time
from collections.abc import Callable

SETTLED_S, SETTLED = 5.0, 0.1  # before a pace is measured: seconds, and share of the time to start
COARSE = 0.05  # share of the work in a first report from which it counts on its own
CHANGE = 0.3  # by how much a new estimate of the end moves the shown one
HOUR_S, MINUTE_S = 3600, 60
SECONDS = {"s": 1, "min": MINUTE_S, "h": HOUR_S}
MANY = 100  # a rate from which it is written without decimals


class Count:
    """Counts the work of a stage and estimates the time left.

    Work is measured in parts; a part that runs counts as a fraction. The first report of work comes
    after workers have started, so the pace is measured from there as soon as that can be done.

    Args:
        total: total number of parts.
        done: number of parts that were finished before; they do not count in the estimate.
        unit: what the rate counts, in the plural; without it there is no rate.
        now: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        total: int,
        done: int = 0,
        *,
        unit: str = "",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.done, self._unit, self._now = total, done, unit, now
        self._before, self._work, self._amount = done, float(done), 0.0
        self._start = now()
        self._first: tuple[float, float] | None = None  # when work was reported first, and how much
        self._pace: float | None = None  # seconds for a part
        self._end: float | None = None

    @property
    def share(self) -> float:
        """The share of the work that is done, from 0 to 1."""
        return self._work / self.total if self.total else 1.0

    def finish(self, parts: int = 1) -> None:
        """Count finished parts."""
        self.done += parts
        self.reach(self.done)

    def reach(self, work: float, amount: float = 0.0) -> None:
        """Report how much is done.

        Args:
            work: number of parts in all, with fractions of those that run.
            amount: what was done since the last report, in the unit of the rate; 0: parts.
        """
        self._work = min(max(self._work, work), self.total)  # a part that is retried goes back
        self._amount += amount
        now = self._now()
        self._first = self._first or (now, self._work)
        self._pace = self._measured(now) or self._pace
        if self._pace is not None:
            end = now + self._pace * (self.total - self._work)
            self._end = end if self._end is None else self._end + CHANGE * (end - self._end)

    def left(self) -> str:
        """Return the time left; empty while it is unknown, and at the end."""
        if self._end is None or self._work >= self.total:
            return ""
        return f"{clock(max(1.0, self._end - self._now()))} left"

    def rate(self) -> str:
        """Return the rate; empty while it is unknown."""
        if not self._pace or not self._unit:
            return ""
        each = self._amount / (self._work - self._before) if self._amount else 1.0
        speed = each / self._pace
        name = "s" if speed >= 1 else "min" if speed * MINUTE_S >= 1 else "h"
        number = speed * SECONDS[name]
        digits = f"{number:,.0f}" if number >= MANY else f"{number:.2g}"
        return f"{digits} {self._unit}/{name}"

    def _measured(self, now: float) -> float | None:
        """Return the mean time for a part; `None` while too little is known."""
        assert self._first
        started, at_start = self._first
        settled = max(SETTLED_S, SETTLED * (started - self._start))
        if now - started >= settled and self._work > at_start:
            return (now - started) / (self._work - at_start)
        # Parts so large that the first one says something; the time to start is small beside them.
        if at_start - self._before >= COARSE * (self.total - self._before) > 0:
            return (now - self._start) / (self._work - self._before)
        return None


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds, with hours if there are any."""
    minutes, rest = divmod(round(seconds), MINUTE_S)
    hours, minutes = divmod(minutes, HOUR_S // MINUTE_S)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
