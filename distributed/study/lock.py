"""The lock of a study: one process at a time may change it.

A lock ends with the process that holds it, so the study of a killed process is free at once.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from distributed.runtime.text import one_line
from distributed.study.folder import StudyFolder
from mixunlearn.errors import MixUnlearnError

if TYPE_CHECKING:
    from sqlalchemy import Connection

KEEPALIVE_S = 30  # after which PostgreSQL asks a silent process whether it is still alive
NAME_LENGTH = 63  # of PostgreSQL's application_name


class StudyLock:
    """Holds a study within a `with`: on this home, and on a shared database.

    Args:
        study: its name.
        folder: of the study under the home.
        database: address of a PostgreSQL record; `None` where the record is a file.
        say: told, once, that the database is being waited for.
        check: called while waiting; raises to give up.

    Raises:
        MixUnlearnError: another process has it; the message names it.
    """

    def __init__(
        self,
        study: str,
        folder: Path,
        database: str | None,
        say: Callable[[str], None],
        check: Callable[[], None],
    ) -> None:
        self._study, self._say, self._check = study, say, check
        self._file = FileLock(StudyFolder(path=folder).lock, study)
        self._database = DatabaseLock(database, study) if database else None
        self._waited = False

    def __enter__(self) -> "StudyLock":
        self._file.acquire()
        if self._database:
            try:
                self._database.acquire()
            except BaseException:
                self._file.release()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._database:
            self._database.release()
        self._file.release()

    def check(self) -> None:
        """Make sure that the study is still ours: a database forgets locks when it restarts.

        Raises:
            MixUnlearnError: another process has taken it.
            SQLAlchemyError: the database does not answer.
        """
        if self._database:
            self._database.check()

    def waiting(self, reason: str) -> None:
        """Say, once, why nothing continues.

        Raises:
            KeyboardInterrupt: a stop was asked for.
        """
        self._check()
        if not self._waited:
            self._say(reason)
        self._waited = True


class FileLock:
    """A lock on a file that the operating system frees when its process ends, however it ends.

    Args:
        path: of the file; who holds it is written into it.
        study: for the error message.
    """

    def __init__(self, path: Path, study: str) -> None:
        self.path, self.study = path, study
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock at once.

        Raises:
            MixUnlearnError: another process has it, the file system knows no locks, or is full.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 4096, 0)
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise refused(self.study, _named(holder)) from error
            what = f"{self.path} cannot be locked: {one_line(error)}"
            raise MixUnlearnError(f"{what}; choose a --home whose file system has locks") from error
        self._descriptor = descriptor
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(me()).encode(), 0)
        except OSError as error:
            self.release()
            raise MixUnlearnError(f"{self.path}: {one_line(error)}; free space there") from error

    def release(self) -> None:
        """Give the lock back, if it is ours."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


class DatabaseLock:
    """An advisory lock of PostgreSQL, on a connection of its own; it ends with the connection.

    Args:
        address: of the database.
        study: that is locked.
    """

    def __init__(self, address: str, study: str) -> None:
        self.address, self.study = address, study
        digest = hashlib.sha256(f"mixunlearn study {study}".encode()).digest()
        self._keys = [int.from_bytes(digest[at : at + 4], signed=True) for at in (0, 4)]
        self._connection: Connection | None = None

    def acquire(self) -> None:
        """Take the lock at once.

        Raises:
            MixUnlearnError: another process has it, or the database does not answer.
        """
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 (slow; needed by few)

        try:
            self.check()
        except (SQLAlchemyError, ImportError) as error:
            reason = one_line(error)
            what = f"the database of the study {self.study} does not answer: {reason}"
            raise MixUnlearnError(f"{what}; check storage.study") from error

    def check(self) -> None:
        """Make sure that the lock is ours; take it again where the connection broke."""
        from sqlalchemy import text  # noqa: PLC0415
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

        if self._connection is not None:
            try:
                self._connection.execute(text("SELECT 1"))
            except SQLAlchemyError:
                self.release()
            else:
                return
        connection = self._connect()
        keys = dict(zip(("a", "b"), self._keys, strict=True))
        if not connection.execute(text("SELECT pg_try_advisory_lock(:a, :b)"), keys).scalar():
            holder = connection.execute(text(_HOLDER), keys).scalar()
            connection.close()
            raise refused(self.study, str(holder or ""))
        self._connection = connection

    def release(self) -> None:
        """Give the lock back by closing its connection."""
        if self._connection is not None:
            with contextlib.suppress(Exception):  # it may be broken already
                self._connection.close()
        self._connection = None

    def _connect(self) -> "Connection":
        from sqlalchemy import create_engine, text  # noqa: PLC0415
        from sqlalchemy.pool import NullPool  # noqa: PLC0415

        # The name that the server shows beside the connection says who holds the lock.
        named = {"application_name": _sentence(me())[:NAME_LENGTH]}
        engine = create_engine(
            self.address, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=named
        )
        connection = engine.connect()
        # A process whose machine died closes no connection: its lock would stay for hours.
        for name, value in (("idle", KEEPALIVE_S), ("interval", 10), ("count", 3)):
            connection.execute(text(f"SET tcp_keepalives_{name} = {value}"))
        return connection


_HOLDER = """
SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 2
  AND classid = (:a)::int::bit(32)::bigint::oid AND objid = (:b)::int::bit(32)::bigint::oid
"""


def me() -> dict[str, object]:
    """Return host, process and time of this process."""
    now = datetime.now().astimezone()
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": f"{now:%Y-%m-%d %H:%M:%S}"}


def refused(study: str, holder: str) -> MixUnlearnError:
    """Return the error for a second process that wants the study."""
    who = holder or "another process"
    remedy = "let it finish, or end that process: its study is free at once"
    return MixUnlearnError(f"the study {study} is driven by {who}; {remedy}")


def _sentence(holder: dict[str, object]) -> str:
    return f"process {holder['pid']} on {holder['host']} since {holder['since']}"


def _named(content: bytes) -> str:
    """Return who wrote a lock file; empty if it was not written yet."""
    try:
        return _sentence(json.loads(content))
    except (ValueError, KeyError, TypeError):
        return ""
