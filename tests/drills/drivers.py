"""Drills on the driver: killed, stopped by a signal, started twice."""

import random
import re
import signal
import time
from pathlib import Path

from tests.drills.ground import (
    DONE,
    FAILED,
    PAIR,
    SINGLE,
    Ground,
    Outcome,
    expect,
    strike,
    went_on,
)
from tests.drills.process import Command, DrillError
from tests.warm import PATIENCE

PHASES = ("trials", "start-up", "trials, twice", "final", "references")
STOPS = ("trials", "trials", "trials", "final", "start-up", "trials")
GRACEFUL_S, AT_ONCE_S = 30.0, 5.0
REFUSED_S = 60.0 * PATIENCE
GOES_ON = "resume with: |run the same command again"
REFUSAL = r"is locked by process \d+ on \S+ since \d{4}-"


def kill(seed: int, folder: Path, ground: Ground) -> Outcome:
    """Kill -9 the driver at a random moment, once or twice; the same command finishes."""
    rng, phase = random.Random(f"kill {seed}"), PHASES[seed % len(PHASES)]
    setting = PAIR if rng.random() < 1 / 4 else SINGLE
    scene = ground.scene(setting, folder, references=phase != "references")
    moments = []
    for again in ["", *([" again"] if "twice" in phase else [])]:
        command = scene.start()
        moments.append(strike(command, phase.split(",")[0], scene, rng) + again)
        command.kill()
    last = scene.finish()
    return scene.outcome(f"{setting.name}, {', '.join(moments)}", went_on(last))


def stop(seed: int, folder: Path, ground: Ground) -> Outcome:
    """SIGINT or SIGTERM: the driver ends gracefully; after a second signal, immediately."""
    rng = random.Random(f"stop {seed}")
    number = (signal.SIGINT, signal.SIGTERM)[seed % 2]
    twice = seed % 3 == 2
    scene = ground.scene(PAIR if rng.random() < 1 / 3 else SINGLE, folder)
    command = scene.start()
    moment = strike(command, STOPS[seed % len(STOPS)], scene, rng)
    problem = _stop(command, number, rng.uniform(0.1, 1.0) if twice else None)
    last = scene.finish()
    if problem:
        raise DrillError(f"{moment}, {number.name}: {problem}")
    words = f"{number.name}{' twice' if twice else ''}, {moment}"
    return scene.outcome(words, went_on(last))


def _stop(command: Command, number: signal.Signals, again: float | None) -> str:
    """Signal a command and return what is wrong with its end."""
    if command.process.poll() is not None:
        return ""
    command.signal(number)
    limit = GRACEFUL_S
    if again is not None:
        time.sleep(again)
        command.signal(number)
        limit = AT_ONCE_S
    start = time.monotonic()
    code = command.wait(limit)
    took = time.monotonic() - start
    if code == DONE:  # the signal came too late to change anything
        return ""
    if code != FAILED:
        return f"exit code {code} after {took:.1f} s: {command.last}"
    return "" if re.search(GOES_ON, command.said) else f"it said {command.last!r}"


def two(seed: int, folder: Path, ground: Ground) -> Outcome:
    """Two drivers at the same time: one is refused; if the other is killed, the next takes over."""
    rng = random.Random(f"two {seed}")
    scene = ground.scene(SINGLE, folder)
    wait = rng.choice((0.0, rng.uniform(0, 2), rng.uniform(2, 8)))
    first = scene.start()
    time.sleep(wait)
    second = scene.start()
    holder, refused = _sort(first, second)
    moment = f"second driver after {wait:.2f} s"
    if seed % 2:
        moment += f", its holder killed {strike(holder, 'trials', scene, rng)}"
        holder.kill()
        holder = scene.finish()
    expect(holder, DONE)
    if f"process {scene.commands[0 if refused is second else 1].process.pid} " not in refused.said:
        raise DrillError(f"the refusal names another process: {refused.last}")
    return scene.outcome(moment, went_on(holder))


def _sort(first: Command, second: Command) -> tuple[Command, Command]:
    """Wait until one of two drivers is refused; return the other, then the refused one.

    Raises:
        DrillError: neither is refused, or not in the right way.
    """
    deadline = time.monotonic() + REFUSED_S
    while time.monotonic() < deadline:
        for refused, holder in ((second, first), (first, second)):
            if refused.process.poll() is not None:
                expect(refused, FAILED)
                if not re.search(REFUSAL, refused.said):
                    raise DrillError(f"the refusal does not name the holder: {refused.last}")
                return holder, refused
        time.sleep(0.05)
    raise DrillError("two drivers run at once")
