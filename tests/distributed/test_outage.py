"""MLflow becomes unreachable during a study, in every possible way, and comes back."""

import contextlib
import http.client
import json
import math
import os
import queue
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from distributed.runtime.addresses import embedded
from distributed.serve import pages as ui
from distributed.tracking import delivery_queue
from distributed.tracking.delivery_queue import Spool, from_line, to_line
from distributed.tracking.run_buffer import Record
from distributed.tracking.tracker import Tracker
from tests.distributed.test_tracking import INPUT, PATIENCE_S, REMEDY, ROOT, Gate, Place
from tests.quick_server import quick_server
from tests.warm import PARENT

# SQLAlchemy warns MLflow about its next release.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")

Said = queue.Queue[str]
Answer = Callable[[bytes], str]  # what to do with a request that has this body


def works(_: bytes) -> str:
    return "forwarded"


def fails(_: bytes) -> str:
    return "failed"


class Front(ThreadingHTTPServer):
    """A server in front of MLflow's: forwards requests, answers 500, or never answers."""

    def __init__(self, link: str) -> None:
        super().__init__(("127.0.0.1", 0), Visit)
        self.real = urlsplit(link).netloc
        self.answer: Answer = works
        self.asked, self.released = threading.Event(), threading.Event()

    @property
    def uri(self) -> str:
        return f"http://ann:hunter2@127.0.0.1:{self.server_port}"


class Visit(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        front = self.server
        assert isinstance(front, Front)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        front.asked.set()
        match front.answer(body):
            case "forwarded":
                self._answer(*self._forwarded(front.real, body))
            case "failed":
                self._answer(500, b"out of order")
            case "lost":
                self._forwarded(front.real, body)
                self._answer(502, b"the answer was lost")
            case "hanging":
                front.released.wait()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _forwarded(self, real: str, body: bytes) -> tuple[int, bytes]:
        with contextlib.closing(http.client.HTTPConnection(real)) as connection:
            headers = {name: v for name, v in self.headers.items() if name.lower() != "host"}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Real:
    """MLflow's server: it can be killed and restarted with the same address and database."""

    def __init__(self, home: Path, stack: contextlib.ExitStack) -> None:
        self._home, self._stack = home, stack
        self._running = self._start(None)
        self.link = self._running.link
        self._port = int(self.link.rpartition(":")[2])

    def _start(self, port: int | None) -> ui.Server:
        server = quick_server(self._home, embedded(self._home)[0], None, port)
        return self._stack.enter_context(server)

    def kill(self) -> None:
        os.killpg(self._running.process.pid, signal.SIGKILL)
        self._running.process.wait()
        # Its last process may be a fork, which is killed by another one.
        while self._answers():
            pass

    def _answers(self) -> bool:
        with socket.socket() as line:
            return line.connect_ex((ui.HOST, self._port)) == 0

    def restart(self) -> None:
        self._running = self._start(self._port)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    home = tmp_path_factory.mktemp("home")
    MlflowClient(tracking_uri=embedded(home)[0]).search_experiments()
    with contextlib.ExitStack() as stack:
        yield Real(home, stack)


@pytest.fixture
def front(real: Real) -> Iterator[Front]:
    with Front(real.link) as front:
        thread = threading.Thread(target=front.serve_forever)
        thread.start()
        yield front
        front.released.set()
        front.shutdown()
        thread.join()


@pytest.fixture
def place(real: Real, front: Front, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    found = Place(front.uri, None, request.node.name, tmp_path / "tracking.spool")
    found._replace(uri=real.link).leave()
    return found


@pytest.fixture
def said() -> Said:
    return queue.Queue()


def epochs(tracker: Tracker, trial: int, first: int, last: int) -> None:
    for step in range(first, last + 1):
        tracker.log_epoch(trial, step, {"loss": 1.0 / step})


def logged(place: Place, name: str) -> list[int]:
    """Return the steps of a run in the order in which they were stored; check their values."""
    history = place.history(place.run(name), "loss")
    assert all(value == 1.0 / step for step, value in history)
    return [step for step, _ in history]


def went_by(tracker: Tracker) -> None:
    """Return after a delivery was attempted."""
    Gate(tracker).open()


def test_a_server_killed_in_mid_study(real: Real, tmp_path: Path, said: Said) -> None:
    place = Place(real.link, None, "killed", tmp_path / "tracking.spool")
    tracker = place.tracker(say=said.put)
    tracker.start_study("study", {}, {}, "")
    tracker.start_trial(0, "trial 0", {"lr": 0.1}, {})
    epochs(tracker, 0, 1, 3)
    went_by(tracker)
    real.kill()
    epochs(tracker, 0, 4, 6)
    line = said.get(timeout=PATIENCE_S)
    assert line.startswith(f"MLflow at {place.uri} does not answer: Connection refused; going on,")
    assert line.endswith(str(place.spool))
    epochs(tracker, 0, 7, 9)
    tracker.start_trial(1, "trial 1", {"lr": 0.2}, {})
    epochs(tracker, 1, 1, 5)
    tracker.finish_trial(0, "complete", {"loss": 1.0 / 9}, None)
    went_by(tracker)
    assert place.spool.exists()
    real.restart()
    assert tracker.close(PATIENCE_S) == []
    assert said.get_nowait() == f"MLflow at {place.uri} answers again"
    assert said.empty()
    assert logged(place, "trial 0") == [*range(1, 10)]
    assert logged(place, "trial 1") == [*range(1, 6)]
    assert place.run("trial 0").info.status == "FINISHED"
    assert place.run("trial 1").data.params == {"lr": "0.2"}
    assert not place.spool.exists()


def test_a_server_that_answers_500_for_a_while(
    front: Front, place: Place, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        delivery_queue, "CHUNK_BYTES", 300
    )  # some epochs: it is sent in many pieces
    seen: list[int] = []
    file = place.spool.with_name("report.html")
    file.write_text("<p>fine</p>")
    front.answer = fails
    tracker = place.tracker(say=said.put)
    tracker.start_study("study", {}, {}, "")
    tracker.start_trial(0, "trial 0", {"from": "http://ann:secret@host"}, {})
    went_by(tracker)
    epochs(tracker, 0, 1, 20)
    tracker.log_artifact(0, file, "pages")
    tracker.log_reference("c0ffee00", "reference", {"seed": 1}, {"acc/val": 97.5}, {})
    tracker.log_inputs([{**INPUT, "source": "http://ann:secret@host"}])
    tracker.call(lambda run_ids: seen.append(len(run_ids)))
    went_by(tracker)
    assert seen == [0]
    assert b"secret" not in place.spool.read_bytes()
    front.answer = works
    assert "hunter2" not in (line := said.get(timeout=PATIENCE_S))
    assert "does not answer: API request to http" in line
    assert said.get(timeout=PATIENCE_S).endswith("answers again")
    epochs(tracker, 0, 21, 22)
    tracker.finish_trial(0, "complete", {}, None)
    assert tracker.close(PATIENCE_S) == []
    assert logged(place, "trial 0") == [*range(1, 23)]
    run = place.run("trial 0")
    assert run.info.status == "FINISHED"
    (page,) = place.client.list_artifacts(run.info.run_id, "pages")
    assert page.path == "pages/report.html"
    (reference,) = place.references()
    assert place.history(reference, "acc/val") == [(0, 97.5)]
    named = place.inputs(place.run("study"))["digits forget"].dataset
    assert named.source == "http://***@host"
    assert not place.spool.exists()


def test_answers_that_are_lost_double_nothing(front: Front, place: Place, said: Said) -> None:
    tracker = place.tracker(say=said.put)
    tracker.start_study("study", {}, {}, "")
    epochs(tracker, 0, 1, 3)
    went_by(tracker)
    front.answer = lambda body: "lost" if b"metrics" in body or b"run_name" in body else "forwarded"
    epochs(tracker, 0, 4, 6)
    epochs(tracker, 1, 1, 3)
    went_by(tracker)
    went_by(tracker)
    front.answer = works
    assert tracker.close(PATIENCE_S) == []
    assert logged(place, "trial-0") == [*range(1, 7)]
    assert logged(place, "trial-1") == [*range(1, 4)]
    assert len(place.runs()) == 3


def test_a_server_that_never_answers(
    front: Front, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
    front.answer = lambda _: "hanging"
    tracker = place.tracker()
    tracker.start_study("study", {}, {}, "")
    assert front.asked.wait(PATIENCE_S)
    epochs(tracker, 0, 1, 1000)  # would never end if it waited for the server
    (problem,) = tracker.close(0.1)
    assert problem.endswith(f"did not get everything within 0.1 s{REMEDY}")
    front.answer = fails
    front.released.set()
    (problem,) = tracker.close(PATIENCE_S)  # the thread ends with the call that hung
    assert "lacks parts of 2 runs: " in problem
    assert place.spool.exists()
    front.answer = works
    assert place.tracker().close(PATIENCE_S) == []
    assert logged(place, "trial-0") == [*range(1, 1001)]


def test_the_spool_is_bounded_and_what_it_drops_can_be_repaired(
    front: Front, place: Place, said: Said
) -> None:
    front.answer = fails
    tracker = place.tracker(say=said.put, spool_bytes=20_000)
    tracker.start_study("study", {}, {}, "")
    tracker.start_trial(0, "trial 0", {}, {})
    for step in range(1, 401):
        tracker.log_epoch(0, step, {"loss": 1.0 / step})
        if step % 20 == 0:
            went_by(tracker)
    assert "does not answer" in said.get_nowait()
    assert "tracking.spool is nearly full (0.01" in (near := said.get_nowait())
    assert near.endswith("of 0.0191 MiB); records beyond are dropped")
    assert "dropped, but the study has them: " in (full := said.get_nowait())
    assert full.endswith("tracking.spool has reached its limit of 0.0190735 MiB")
    assert 0.8 * 20_000 < place.spool.stat().st_size <= 20_000
    front.answer = works
    assert said.get(timeout=PATIENCE_S).endswith("answers again")
    epochs(tracker, 0, 401, 402)  # after a gap, which sync could no longer fill
    epochs(tracker, 1, 1, 2)
    (problem,) = tracker.close(PATIENCE_S)
    held = logged(place, "trial 0")
    assert 100 < len(held) < 400
    assert held == [*range(1, len(held) + 1)]
    assert problem.startswith(f"{402 - len(held)} record(s) were dropped: ")
    assert problem.endswith(REMEDY)
    assert logged(place, "trial-1") == [1, 2]
    assert not place.spool.exists()
    again = place.tracker()
    epochs(again, 0, 1, 402)
    assert again.close(PATIENCE_S) == []
    assert logged(place, "trial 0") == [*range(1, 403)]


KILLED = """
import sys, time
from pathlib import Path
from distributed.tracking.tracker import Tracker
uri, experiment, spool = sys.argv[1:]
tracker = Tracker(uri=uri, artifact_location=None, experiment=experiment, study="night-1",
                  spool=Path(spool), say=lambda line: print(line, flush=True))
tracker.start_study("study", {}, {}, "")
tracker.start_trial(0, "trial 0", {"lr": 0.1}, {})
for step in range(1, 31):
    tracker.log_epoch(0, step, {"loss": 1.0 / step})
tracker.call(lambda run_ids: print("kept", flush=True))
time.sleep(600)
"""


def test_what_a_killed_process_left_is_sent_by_the_next(front: Front, place: Place) -> None:
    front.answer = fails
    arguments = [place.uri, place.experiment, str(place.spool)]
    with subprocess.Popen(
        [*PARENT.quick, "-c", KILLED, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        try:
            assert any(line == "kept\n" for line in process.stdout)
        finally:
            process.send_signal(signal.SIGKILL)
            process.stdout.read()  # until it has ended, also if it is a fork
    now_ms = time.time_ns() // 1_000_000
    with place.spool.open("ab") as file:
        file.write(b'{"run":0,"status":"__import__"}\n')
        file.write(to_line(Record(run=0, time_ms=now_ms, step=31, metrics={"loss": 1.0 / 31})))
        file.write(b'{"run":0,"time_ms":1,"step":32,"metr')
    front.answer = works
    tracker = place.tracker()
    tracker.start_study("study", {}, {}, "")
    epochs(tracker, 0, 1, 33)  # the trial is repeated from its start
    (problem,) = tracker.close(PATIENCE_S)
    assert problem == f"1 line(s) of {place.spool} could not be read{REMEDY}"
    assert logged(place, "trial 0") == [*range(1, 34)]
    assert place.run("trial 0").data.params == {"lr": "0.1"}
    assert not place.spool.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(front: Front, place: Place, small_disk: Path, said: Said) -> None:
    place = place._replace(spool=small_disk / "tracking.spool")
    front.answer = fails
    tracker = place.tracker(say=said.put)
    for step in range(1, 401):
        tracker.log_epoch(0, step, {"loss": 1.0 / step})
        if step % 40 == 0:
            went_by(tracker)
    assert "does not answer" in said.get_nowait()
    assert said.get_nowait().endswith("dropped, but the study has them: No space left on device")
    front.answer = works
    (problem,) = tracker.close(PATIENCE_S)
    assert "record(s) were dropped: No space left on device" in problem
    assert problem.endswith(REMEDY)
    held = logged(place, "trial-0")
    assert held == [*range(1, len(held) + 1)]
    assert list(small_disk.iterdir()) == []


def test_runs_that_always_fail_do_not_keep_the_others(
    front: Front, place: Place, said: Said
) -> None:
    poison = (b'"trial 0"', b'"trial 1"')
    front.answer = lambda body: "failed" if any(p in body for p in poison) else "forwarded"
    tracker = place.tracker(say=said.put)
    tracker.start_study("study", {}, {}, "")
    for trial in range(5):
        tracker.start_trial(trial, f"trial {trial}", {}, {})
        epochs(tracker, trial, 1, 3)
    went_by(tracker)
    tracker.finish_study("complete", {})
    (problem,) = tracker.close(PATIENCE_S)
    assert "lacks parts of 2 runs: " in problem
    assert place.run("study").info.status == "FINISHED"
    assert [logged(place, f"trial {trial}") for trial in (2, 3, 4)] == 3 * [[1, 2, 3]]
    assert said.empty()  # MLflow was there
    front.answer = works
    assert place.tracker().close(PATIENCE_S) == []
    assert [logged(place, f"trial {trial}") for trial in (0, 1)] == 2 * [[1, 2, 3]]


def test_a_delivery_that_broke_off_says_nothing_of_its_last_steps(
    front: Front, place: Place
) -> None:
    front.answer = lambda body: "failed" if b"mixunlearn.step" in body else "forwarded"
    tracker = place.tracker()
    names = [f"m/{number}" for number in range(20)]
    for step in range(1, 61):
        tracker.log_epoch(0, step, dict.fromkeys(names, float(step)))
    tracker.close(PATIENCE_S)
    assert "mixunlearn.step" not in place.run("trial-0").data.tags
    assert 0 < len(place.history(place.run("trial-0"), "m/0")) < 60
    front.answer = works
    assert place.tracker().close(PATIENCE_S) == []
    run = place.run("trial-0")
    for name in names:
        assert place.history(run, name) == [(step, float(step)) for step in range(1, 61)]


def test_a_record_becomes_a_line_and_a_record_again() -> None:
    record = Record(
        run=7,
        time_ms=1,
        step=0,
        metrics={"loss": 0.5, "inf": math.inf, "gone": None},
        tags={"error": "a\nb “c”"},
        inputs=[{"name": "digits"}],
    )
    line = to_line(record)
    assert line.count(b"\n") == 1
    assert from_line(line) == record
    names = {"run", "time_ms", "step", "metrics", "tags", "inputs"}
    assert json.loads(line).keys() == names
    nan = from_line(to_line(Record(time_ms=1, metrics={"loss": math.nan})))
    assert str(nan.metrics) == "{'loss': nan}"
    assert b"hunter2" not in to_line(Record(time_ms=1, params={"a": "http://u:hunter2@h"}))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\x00\xff",
        b"[]",
        b"{}",
        b'{"time_ms":"1"}',
        b'{"time_ms":-1}',
        b'{"time_ms":1,"run":1.5}',
        b'{"time_ms":1,"step":9223372036854775808}',
        b'{"time_ms":1,"status":"DONE"}',
        b'{"time_ms":1,"metrics":{"a":"1"}}',
        b'{"time_ms":1,"params":["a"]}',
        b'{"time_ms":1,"inputs":[{"name":1}]}',
        b'{"time_ms":1,"call":"os.system"}',
        b'{"time_ms":1,"path":"/etc/passwd"}',
        b'{"time_ms":1,"run":0,"path":"/tmp","model":"unlearned"}',
        b'{"time_ms":1',
        b"[" * 10_000,
    ],
)
def test_a_line_that_is_no_record(line: bytes) -> None:
    with pytest.raises(ValueError, match="Record"):
        from_line(line)


def test_a_spool_that_somebody_cut_is_read_no_further(tmp_path: Path) -> None:
    cut = Spool(tmp_path / "tracking.spool")
    cut.append([Record(time_ms=1), Record(time_ms=2)], math.inf)
    cut.path.write_bytes(b"")
    assert cut.read() == []
    assert (cut.unread, cut.unreadable) == (False, 1)
