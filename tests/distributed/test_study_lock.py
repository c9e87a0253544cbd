"""One driver per study: real processes, a real PostgreSQL, real kills."""

import contextlib
import fcntl
import gc
import itertools
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from distributed.runtime.progress import Progress
from distributed.runtime.signals import Stop
from distributed.search import session
from distributed.search.session import Session
from distributed.study import lock as study_lock
from distributed.study.folder import StudyFolder
from distributed.study.lock import DatabaseLock, FileLock, StudyLock
from distributed.study.storage import open_record
from mixunlearn.errors import MixUnlearnError
from tests.warm import PARENT, Process

HOLD = """
import signal
import sys
from pathlib import Path
from distributed.study.lock import StudyLock
folder, database = sys.argv[1:]
with StudyLock("study", Path(folder), database or None, print, lambda: None):
    print("held", flush=True)
    signal.pause()
"""


def lock(folder: Path, database: str | None = None) -> StudyLock:
    return StudyLock("study", folder, database, print, lambda: None)


@contextmanager
def another(folder: Path, database: str = "") -> Iterator[Process | subprocess.Popen[bytes]]:
    """Run a driver in another process until the block ends."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as said:
        words = ["-c", HOLD, str(folder), database]
        process = PARENT.fork(words, writing, writing, os.environ)
        os.close(writing)
        try:
            assert said.readline() == "held\n"
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def test_a_lock_that_cannot_be_written_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock"
    path.symlink_to("/dev/full")
    with pytest.raises(MixUnlearnError, match=r"driver\.lock: .*; free space there"):
        FileLock(path, "study").acquire()
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_second_driver_is_refused_by_name(tmp_path: Path) -> None:
    with another(tmp_path) as process:
        with pytest.raises(MixUnlearnError) as refused, lock(tmp_path):
            pass
        said = str(refused.value)
        assert f"process {process.pid} on {socket.gethostname()} since 20" in said
        assert "\n" not in said
        # The refused driver has changed nothing: the next one gets the same message.
        with pytest.raises(MixUnlearnError, match=f"process {process.pid}"), lock(tmp_path):
            pass


def test_without_the_lock_file_no_second_driver_gets_in(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock"
    with lock(tmp_path) as mine:
        path.unlink()
        with pytest.raises(MixUnlearnError, match="is locked by another process"), lock(tmp_path):
            pass
        mine.check()  # as before each write: others learn again who it is
        with pytest.raises(MixUnlearnError, match=f"process {os.getpid()} on"), lock(tmp_path):
            pass
        path.unlink()
        path.touch()
        with pytest.raises(MixUnlearnError, match="is locked by"), lock(tmp_path):
            pass
    with lock(tmp_path):
        pass


def test_a_folder_that_was_moved_is_still_locked(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    with lock(before):
        before.rename(after)
        with pytest.raises(MixUnlearnError, match=f"process {os.getpid()} on"), lock(after):
            pass
        with lock(before):  # a new folder, and another study
            pass


def test_where_folders_have_no_locks_a_driver_that_lost_its_file_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def files_only(descriptor: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(9, "Bad file descriptor")  # what network file systems may answer
        flock(descriptor, operation)

    monkeypatch.setattr("distributed.study.lock.fcntl.flock", files_only)
    with lock(tmp_path) as mine:
        (tmp_path / "driver.lock").unlink()
        mine.check()
        with pytest.raises(MixUnlearnError, match=f"process {os.getpid()} on"), lock(tmp_path):
            pass
        (tmp_path / "driver.lock").unlink()
        with (
            lock(tmp_path),
            pytest.raises(MixUnlearnError, match=f"is locked by process {os.getpid()} on"),
        ):
            mine.check()


def test_the_study_of_a_killed_driver_is_free_at_once(tmp_path: Path) -> None:
    with another(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with lock(tmp_path):
            assert json.loads((tmp_path / "driver.lock").read_text())["pid"] == os.getpid()
    with lock(tmp_path), lock(tmp_path / "other"):
        pass


class Interruption:
    """A trace function that raises KeyboardInterrupt before the n-th instruction, as Ctrl-C may.

    Only instructions of the lock, of the session and of `with` statements count.
    """

    FILES = (study_lock.__file__, session.__file__, contextlib.__file__)

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, frame: FrameType, event: str, _: object) -> "Interruption | None":
        # Python swallows what is raised in `__del__`.
        if frame.f_code.co_filename not in self.FILES or frame.f_code.co_name == "__del__":
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt  # it also ends the tracing
        return self


def interrupted(work: Callable[[], None], every: int = 1) -> Iterator[None]:
    """Interrupt work before its first instruction, then anew before each later one, or every n-th.

    Yields:
        Nothing, each time after the work has ended.
    """
    gc.collect()
    gc.freeze()  # what other tests have left would be looked through hundreds of times
    for at in itertools.count(1, every):
        interruption = Interruption(at)
        with contextlib.suppress(KeyboardInterrupt):
            try:
                sys.settrace(interruption)
                work()
            finally:
                sys.settrace(None)
        if interruption.left:
            break  # there are fewer instructions
        yield
    gc.unfreeze()
    assert at > 500


def test_a_session_that_is_interrupted_anywhere_leaves_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "studies" / "study"
    plan: Any = SimpleNamespace(
        study="study",
        home=tmp_path,
        folder=folder,
        study_folder=StudyFolder(path=folder),
        database=None,
    )

    def work() -> None:
        whole = Session(address=None, progress=Progress(), stop=Stop())
        with whole, whole.part() as part:
            part.lock(plan)

    for _ in interrupted(work):
        with lock(folder):  # no error
            pass


def test_a_driver_that_is_interrupted_leaves_no_lock_in_a_database(
    tmp_path: Path, postgres: str
) -> None:
    def work() -> None:
        with lock(tmp_path, postgres):
            pass

    def work_soon() -> None:
        # The server frees the lock when it notices that the connection is closed.
        end = time.monotonic() + 30
        while True:
            try:
                return work()
            except MixUnlearnError:
                if time.monotonic() > end:
                    raise

    for _ in interrupted(work, every=17):
        work_soon()


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("distributed.study.lock.fcntl.flock", unsupported)
    with pytest.raises(MixUnlearnError, match=r"cannot be locked: Operation not supported"):
        FileLock(tmp_path / "driver.lock", "study").acquire()


def test_a_shared_database_refuses_drivers_of_other_homes(tmp_path: Path, postgres: str) -> None:
    with another(tmp_path / "a", postgres) as process:
        with (
            pytest.raises(MixUnlearnError, match=f"process {process.pid} on "),
            lock(tmp_path / "b", postgres),
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with lock(tmp_path / "b", postgres):
            pass


def test_a_lock_that_a_database_forgot_is_taken_anew(tmp_path: Path, postgres: str) -> None:
    with lock(tmp_path / "a", postgres) as mine:
        disconnect(postgres)
        mine.check()
        with pytest.raises(MixUnlearnError, match="is locked by"), lock(tmp_path / "b", postgres):
            pass


def test_a_driver_that_lost_its_study_stops(tmp_path: Path, postgres: str) -> None:
    with lock(tmp_path / "a", postgres) as mine:
        disconnect(postgres)
        with (
            another(tmp_path / "b", postgres) as process,
            pytest.raises(MixUnlearnError, match=f"is locked by process {process.pid} on"),
        ):
            mine.check()


def test_a_database_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    address = "postgresql://me:secret@127.0.0.1:1/none"
    for attempt in (DatabaseLock(address, "study").acquire, lambda: open_record(address, "study")):
        with pytest.raises(MixUnlearnError) as error:
            attempt()
        assert "Connection refused" in str(error.value)
        assert "secret" not in str(error.value)
        assert "\n" not in str(error.value)


def disconnect(postgres: str) -> None:
    """Cut all connections of drivers, as a restart of the server does."""
    with create_engine(postgres, poolclass=NullPool).connect() as connection:
        cut = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name LIKE 'process %'"
        )
        assert connection.execute(text(cut)).scalar() == 1
