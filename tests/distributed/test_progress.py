"""What is shown of work: the time left without jumps, a heartbeat, a display in any terminal."""

import io
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from rich.console import Console

from distributed.runtime import terminal
from distributed.runtime.count import Count, clock
from distributed.runtime.progress import Progress
from distributed.runtime.signals import Interrupted, Stop
from distributed.runtime.text import Logs

COLOURS, MOVES = re.compile(r"\x1b\[[0-9;]*m"), re.compile(r"\x1b\[[?0-9;]*[A-Za-z]|\r|\n")


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class Sheet(io.StringIO):
    """Text that says when it has as many lines as were waited for."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.lines, self.full = lines, threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.getvalue().count("\n") >= self.lines:
            self.full.set()
        return written


def seconds(left: str) -> int:
    """Return a time left as a number."""
    minutes, rest = left.removesuffix(" left").split(":")
    return 60 * int(minutes) + int(rest)


def test_the_time_left_does_not_jump_though_workers_took_long_to_start() -> None:
    now = Clock()
    count = Count(10, unit="images", now=now)
    shown: list[tuple[float, str]] = []
    for epoch in range(1, 201):  # ten models of 20 epochs, half a second each, after a minute
        now.time = 60 + epoch / 2
        count.reach(epoch / 20, amount=1000)
        shown.append((160 - now.time, count.left()))
    known = [(true, seconds(left)) for true, left in shown[:-1] if left]
    assert len(known) > 180  # after a tenth of the time to start
    assert all(abs(true - left) <= 2 for true, left in known)
    assert count.rate() == "2,000 images/s"
    assert count.left() == ""


def test_between_two_reports_the_time_left_goes_on() -> None:
    now = Clock()
    count = Count(4, done=1, now=now)
    assert count.left() == count.rate() == ""
    now.time = 100
    count.finish()
    assert (count.done, count.left()) == (2, "3:20 left")
    now.time = 130
    assert count.left() == "2:50 left"
    now.time = 1000  # later than estimated: not below zero
    assert count.left() == "0:01 left"


def test_a_trial_that_is_retried_does_not_take_work_back() -> None:
    count = Count(2)
    count.reach(0.5)
    count.reach(0.1)
    assert count.share == 0.25


@pytest.mark.parametrize(
    ("each_s", "rate"), [(0.5, "2 trials/s"), (20, "3 trials/min"), (1800, "2 trials/h")]
)
def test_a_rate_has_the_unit_that_makes_it_readable(each_s: float, rate: str) -> None:
    now = Clock()
    count = Count(100, unit="trials", now=now)
    for done in range(1, 50):
        now.time = done * each_s
        count.finish()
    assert count.rate() == rate


def test_a_duration_is_written_like_a_clock() -> None:
    assert [clock(each) for each in (0, 9.6, 61, 3599, 3600, 90_061)] == [
        *("0:00", "0:10", "1:01", "59:59", "1:00:00", "25:01:01")
    ]


def test_a_silent_stage_in_a_pipe_has_a_heartbeat() -> None:
    sheet = Sheet(3)
    with Progress(Console(file=sheet, width=20), first_s=0.01, every_s=0.02) as progress:
        progress.show("starting Ray, in words that are longer than [20] columns")
        assert sheet.full.wait(60)
    first, *later = sheet.getvalue().splitlines()
    assert first == "starting Ray, in words that are longer than [20] columns, 0:00 so far"
    assert later[0].startswith("starting Ray, ")


def test_a_pipe_gets_a_line_for_an_event_only() -> None:
    sheet = io.StringIO()
    with Progress(Console(file=sheet), first_s=600, every_s=600) as progress:
        progress.show("epoch 1")
        progress.show("epoch 2", event=True)
        progress.head("cell 1 of 2")
        ended = progress.stage("test", "models evaluated", 2)
        ended()
        ended()
    lines = sheet.getvalue().splitlines()
    assert lines[:2] == ["epoch 2", "cell 1 of 2"]
    assert lines[2].startswith("test: 1 of 2 models evaluated, 0:0")
    assert lines[3:] == ["test: 2 of 2 models evaluated"]


def test_rich_in_a_pipe_does_not_move_though_colours_are_forced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not Progress(Console(file=io.StringIO())).moving


@contextmanager
def pseudo_terminal(encoding: str = "utf-8") -> Iterator[tuple[io.TextIOBase, int]]:
    """Give the end that a program writes to, and the number of the end that shows it."""
    shown, written = os.openpty()
    terminal.show_any_text()  # registers how characters are replaced
    try:
        with os.fdopen(written, "w", encoding=encoding, errors="mixunlearn.plain") as file:
            yield file, shown
    finally:
        os.close(shown)


def all_of(file: io.TextIOBase, shown: int) -> bytes:
    """Close the written end; return everything that was shown."""
    file.close()
    found = b""
    with suppress(OSError):  # the end, on Linux
        while more := os.read(shown, 65536):
            found += more
    return found


def interrupted(progress: Progress) -> None:
    with progress, Stop(progress.say) as stop, stop.patiently():
        progress.show("trials: 0 of 4 done")
        signal.raise_signal(signal.SIGINT)


def displayed(
    monkeypatch: pytest.MonkeyPatch, columns: int, encoding: str = "utf-8", term: str = "xterm"
) -> list[str]:
    """Return the lines of a terminal as a display in it begins, without colours and movements."""
    monkeypatch.setenv("TERM", term)
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    now = Clock()
    count = Count(10, unit="images", now=now)
    for now.time in (60.0, 70.0):
        count.reach(now.time / 20, amount=10_000)
    with pseudo_terminal(encoding) as (file, shown):
        # The width is given: Rich asks the terminal of standard output, not this one.
        progress = Progress(Console(file=file, width=columns))  # type: ignore[arg-type]
        progress.head("cell 2 of 5: finetune × class … [0], seed 0")
        progress.show("models: 3 of 10 trained, epoch 70 of 200, and more words", count=count)
        with progress:
            pass
        raw = all_of(file, shown).decode(encoding)
    return [line.rstrip() for line in MOVES.split(COLOURS.sub("", raw)) if line.strip()]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("columns", [120, 80, 60, 40, 20, 10])
def test_no_line_of_the_display_is_wider_than_the_terminal(
    columns: int, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = displayed(monkeypatch, columns, encoding)
    heading, state, bar = lines[:3]
    assert all(len(line) < columns for line in lines)
    assert heading.startswith("cell 2 of")
    assert state == "models: 3 of 10 trained, epoch 70 of 200, and more words"[: columns - 1]
    assert "35 %" in bar
    assert (" left  " in bar) == (columns >= 60)
    assert ("images/s" in bar) == (columns >= 60)
    assert all(line.isascii() for line in lines) or encoding == "utf-8"
    assert ("━" in bar) == (encoding == "utf-8" and columns > 10)


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert displayed(monkeypatch, 80, term="dumb") == [
        "cell 2 of 5: finetune × class … [0], seed 0"
    ]


def test_ctrl_c_leaves_the_cursor_and_the_line_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with pseudo_terminal() as (file, shown):
        progress = Progress(Console(file=file))  # type: ignore[arg-type]
        with pytest.raises(Interrupted):
            interrupted(progress)
        raw = all_of(file, shown).decode()
    assert "SIGINT: waiting up to" in raw
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l")  # the cursor is shown again


def test_a_log_message_does_not_break_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    logger, logs = logging.getLogger("mixunlearn.tests.display"), Logs()
    logger.addHandler(logs)
    with pseudo_terminal() as (file, shown):
        monkeypatch.setattr(sys, "stderr", file)
        with Progress(Console(file=file, width=80)) as progress:  # type: ignore[arg-type]
            progress.show("starting Ray")
            logger.warning("a node has left")
        raw = all_of(file, shown).decode()
    logger.removeHandler(logs)
    lines = [line.strip() for line in MOVES.split(COLOURS.sub("", raw))]
    assert "a node has left" in lines


def test_lines_that_stay_are_broken_between_words_and_paths_never() -> None:
    with pseudo_terminal() as (file, shown):
        progress = Progress(Console(file=file, width=40, force_terminal=True))  # type: ignore[arg-type]
        progress.moving = True
        progress.say("forget      all 106 training images of class 0")
        progress.say(f"study       digits in /{'x' * 60}")
        raw = all_of(file, shown).decode()
    assert [line.rstrip() for line in raw.splitlines()] == [
        "forget      all 106 training images of",
        "class 0",
        f"study       digits in /{'x' * 60}",
    ]
