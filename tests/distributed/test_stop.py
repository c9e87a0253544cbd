"""Signals: the first stops gracefully, the second immediately."""

import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from distributed.cluster.checkout import ROOT
from distributed.nightly.time_limit import limited
from distributed.runtime.signals import Interrupted, Stop, ignored
from tests.warm import PARENT

BUSY = """
from distributed.runtime.signals import Stop
import threading
with Stop() as stop, stop.patiently():
    print("ready", flush=True)
    threading.Event().wait()
"""

WITH_RAY = """
import os, signal
from types import SimpleNamespace
from distributed.runtime.progress import Progress
from distributed.runtime.signals import Interrupted, Stop
from distributed.search.session import Session
with Progress() as progress, Stop() as stop:
    with Session(address=None, progress=progress, stop=stop) as session:
        session.connect(SimpleNamespace(dataset=SimpleNamespace(restore=bool)), "")
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except Interrupted:
        print("in order")
"""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        assert signal.getsignal(number) is handler


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_work_where_it_is(number: signal.Signals) -> None:
    with pytest.raises(Interrupted, match=number.name), Stop():
        signal.raise_signal(number)


def test_patient_work_is_told_and_ends_itself() -> None:
    said: list[str] = []
    worked: list[bool] = []

    def work(stop: Stop) -> None:
        with stop.patiently():
            signal.raise_signal(signal.SIGTERM)
            assert stop.asked == "SIGTERM"
            worked.append(not stop.overdue)

    with Stop(said.append) as stop, pytest.raises(Interrupted, match="SIGTERM"):
        work(stop)
    assert worked == [True]
    assert "a second signal stops at once" in said[0]


def test_what_ends_already_is_not_disturbed() -> None:
    with ignored():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)


def test_a_stop_that_nobody_asked_for_is_none() -> None:
    with Stop() as stop, stop.patiently():
        stop.check()
    assert stop.asked is None


def test_the_second_signal_ends_the_process_at_once() -> None:
    with subprocess.Popen(
        [*PARENT.quick, "-c", BUSY],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert "SIGTERM: waiting" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 1
        assert "stopped at once; run the same command again" in process.stderr.read()


@pytest.mark.ray
def test_ray_that_has_ended_leaves_the_signals_to_us() -> None:
    """At its end Ray resets SIGTERM to kill the process, without Python noticing."""
    words = [*PARENT.quick, "-c", WITH_RAY]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "in order\n"), ended.stderr


def test_when_time_is_over_patient_work_is_asked_and_what_follows_is_done() -> None:
    with Stop() as stop:
        with limited(stop, 0.0), stop.patiently():
            while not stop.asked:
                threading.Event().wait(0.01)
        assert stop.asked is None
        stop.check()


def test_a_signal_counts_though_time_would_be_over_later() -> None:
    with Stop() as stop, pytest.raises(Interrupted, match="SIGTERM"), limited(stop, 3600):
        signal.raise_signal(signal.SIGTERM)


def test_without_a_limit_there_is_none() -> None:
    with Stop() as stop, limited(stop, None), stop.patiently():
        assert stop.asked is None
