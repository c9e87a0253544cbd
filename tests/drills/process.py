"""The real command as a process: started, watched, signalled, cleaned up."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.warm import PARENT, PATIENCE
from tests.worker import COMMAND

ROOT = Path(__file__).resolve().parents[2]
# What the drills set for one command must not come from the shell that started them.
FOREIGN = ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "MIXUNLEARN_HOME", "DRILL_FAULTS", "DRILL_KILL")
PATIENCE_S = 480.0 * PATIENCE  # for a whole command on a busy machine
LEAVING_S = 90.0  # for Ray's processes after the driver's end: its agents need a minute


class DrillError(Exception):
    """The system did not do what was expected."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the command on standard error, and its time (seconds since the epoch)."""

    time: float
    text: str


class Command:
    """A running `mixunlearn`, in a session of its own.

    Args:
        words: its arguments.
        log: where standard error is kept; standard output is kept next to it.
        environment: variables that override the present ones.
    """

    def __init__(
        self, words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        self.lines: list[Line] = []
        self.ended: float | None = None
        self._news = threading.Condition()
        inherited = {name: text for name, text in os.environ.items() if name not in FOREIGN}
        reading, writing = os.pipe()
        self._pipe = os.fdopen(reading)
        with log.with_suffix(".out").open("w") as out, os.fdopen(writing, "w") as err:
            given = {**inherited, **(environment or {})}
            self.process = PARENT.fork([COMMAND, *words], out.fileno(), err.fileno(), given)
        self.began = time.time()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def said(self) -> str:
        """All of standard error so far."""
        return "\n".join(line.text for line in self.lines)

    @property
    def last(self) -> str:
        """The last line that was not empty."""
        return next((line.text for line in reversed(self.lines) if line.text.strip()), "")

    @property
    def result(self) -> dict[str, Any]:
        """The JSON line that ends standard output."""
        text = self.log.with_suffix(".out").read_text()
        found: dict[str, Any] = json.loads(text.splitlines()[-1])
        return found

    def when(self, pattern: str, after: float = 0.0) -> float | None:
        """Return the time of the first matching line after a given time."""
        for line in list(self.lines):
            if line.time > after and re.search(pattern, line.text):
                return line.time
        return None

    def await_line(self, pattern: str, limit_s: float = PATIENCE_S) -> bool:
        """Wait for a line; return False if the command ended without it.

        Raises:
            DrillError: neither came in time.
        """
        deadline = time.monotonic() + limit_s
        with self._news:
            while self.when(pattern) is None:
                if self.ended is not None:
                    return False
                if not self._news.wait(deadline - time.monotonic()):
                    raise DrillError(f"no line {pattern!r} within {limit_s:.0f} s: {self.last}")
        return True

    def wait(self, limit_s: float = PATIENCE_S) -> int:
        """Wait for the end and return the exit code.

        Raises:
            DrillError: it did not end in time.
        """
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            raise DrillError(f"still running after {limit_s:.0f} s: {self.last}") from error
        self.ended = self.ended or time.time()
        self._reader.join(1)  # ends late if a process of Ray still holds the pipe
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the driver, and to no other process."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End the driver as `kill -9` does."""
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.ended = time.time()

    def clear(self, patience_s: float) -> list[str]:
        """End what is left of the session and return the names of those processes.

        Ray's processes end without a signal when the driver is gone; they get time for that.
        """
        if self.process.poll() is None:
            self.kill()
        deadline = (self.ended or time.time()) + patience_s
        while (left := self._left()) and time.time() < deadline:
            time.sleep(0.1)
        names = [name_of(pid) for pid in left]
        for pid in left:
            end(pid)
        return names

    def _left(self) -> list[int]:
        """Return the processes of the session after its leader's end."""
        # A number that is reused belongs to an unrelated process, and so does its session.
        reused = Path(f"/proc/{self.process.pid}").exists()
        return [] if reused else members(self.process.pid)

    def _read(self) -> None:
        with self._pipe, self.log.open("w") as log:
            for text in self._pipe:
                with self._news:
                    self.lines.append(Line(time=time.time(), text=text.rstrip("\n")))
                    self._news.notify_all()
                log.write(text)
                log.flush()
        self.process.wait()
        with self._news:
            self.ended = self.ended or time.time()
            self._news.notify_all()


def members(session: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = path.read_text().rpartition(") ")[2].split()[:4]
        except (OSError, ValueError):  # it has just ended
            continue
        if int(of) == session and state not in "ZX":
            found.append(int(path.parent.name))
    return found


def name_of(pid: int) -> str:
    """Return a process's name; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def end(pid: int) -> None:
    """Kill a process that may be gone already."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
