"""The lock of a study: one process at a time may change it.

A lock ends with the process that holds it, so the study of a killed process is unlocked at once.
"""

import contextlib
import fcntl
import gc
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

KEEPALIVE_S = 30  # idle time after which PostgreSQL checks whether a connection is still alive
NAME_LENGTH = 63  # of PostgreSQL's application_name


class StudyLock:
    """Locks a study within a `with`: in this home, and in a shared database.

    Args:
        study: name of the study.
        folder: folder of the study in the home.
        database: address of a PostgreSQL record; `None` if the record is a file.
        say: called once with a message when waiting for the database begins.
        check: called while waiting; raises to give up.

    Raises:
        MixUnlearnError: another process has locked it; the message names the process.
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
        # The file first: it answers at once, even if the database does not.
        self._file.acquire()
        if self._database:
            try:
                self._database.acquire()
            except BaseException:
                # Also after Ctrl-C: a session of this process may try the same study again.
                self._file.release()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # In reverse order: who gets the file must not find the database still locked.
        try:
            if self._database:
                self._database.release()
        finally:
            self._file.release()

    def check(self) -> None:
        """Make sure that this process still holds the lock: a restarted database loses locks.

        Raises:
            MixUnlearnError: another process has locked the study.
            OSError: the folder is not there.
            SQLAlchemyError: the database does not answer.
        """
        self._file.check()
        if self._database:
            self._database.check()

    def waiting(self, reason: str) -> None:
        """Show the reason for waiting; only the first call shows it.

        Raises:
            KeyboardInterrupt: a stop was requested.
        """
        self._check()
        if not self._waited:
            self._say(reason)
        self._waited = True


class FileLock:
    """A lock on a folder and on a file in it; both end with the process, however it ends.

    The folder's lock does not depend on a name: it holds if the file is removed, and if the folder
    is moved. On a network file system a folder's lock may exist on this machine alone; there, the
    file's lock keeps other machines away.

    Args:
        path: path of the file; the holder of the lock writes its process into it.
        study: name of the study, for the error message.
    """

    def __init__(self, path: Path, study: str) -> None:
        self.path, self.study = path, study
        self._folder: Lockable | None = None
        self._file: Lockable | None = None

    def acquire(self) -> None:
        """Take the lock at once.

        Raises:
            MixUnlearnError: another process has it, or the file system is full or has no locks.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._folder = Lockable(self.path.parent, os.O_RDONLY)
            self._lock_folder(self._folder)
            self._take_file()
        except BaseException:
            self.release()
            raise

    def check(self) -> None:
        """Make sure that the lock still is where others look for it.

        A file that was removed is made again, so that others learn who has the lock.

        Raises:
            MixUnlearnError: another process has locked the study.
            OSError: the folder is not there.
        """
        if self._file is not None and not _names(self.path, self._file.number):
            before = self._file
            self._take_file()
            before.close()

    def holds(self, folder: Path) -> bool:
        """Return whether a path leads to the folder that this lock is on."""
        return self._folder is not None and _names(folder, self._folder.number)

    def release(self) -> None:
        """Release the lock, if this process holds it."""
        # The file stays: if it were removed, two processes could lock two files of this name.
        for each in (self._file, self._folder):
            if each is not None:
                each.close()
        self._file = self._folder = None

    def _lock_folder(self, folder: "Lockable") -> None:
        try:
            folder.lock()
        except BlockingIOError as error:
            holder = self.path.read_bytes() if self.path.exists() else b""
            raise refused(self.study, _named(holder)) from error
        except OSError:  # some file systems lock files only
            return

    def _take_file(self) -> None:
        """Lock the file and write this process into it."""
        # Not truncated here: until the lock is ours, the file names its holder.
        file = Lockable(self.path, os.O_RDWR | os.O_CREAT)
        try:
            file.lock()
        except BlockingIOError as error:
            raise refused(self.study, _named(os.pread(file.number, 4096, 0))) from error
        except OSError as error:
            what = f"{self.path} cannot be locked: {one_line(error)}"
            remedy = "choose a --home on a file system that supports locks"
            raise MixUnlearnError(f"{what}; {remedy}") from error
        try:
            os.ftruncate(file.number, 0)
            os.pwrite(file.number, json.dumps(me()).encode(), 0)
        except OSError as error:
            raise MixUnlearnError(f"{self.path}: {one_line(error)}; free space there") from error
        self._file = file


class Lockable:
    """An open file or folder; its lock ends with this object at the latest.

    Ctrl-C may come between any two instructions: between the system's lock and the line that
    notes it, or while it is released. A mere number would then stay open until the process ends.

    Args:
        path: path of the file or folder.
        flags: how to open it, as for `os.open`.
    """

    number = -1  # until it is open, and once it is closed

    def __init__(self, path: Path, flags: int) -> None:
        self.number = os.open(path, flags, 0o644)

    def __del__(self) -> None:
        # Closed, not unlocked: a child process that has a copy of this object shares its lock.
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)

    def lock(self) -> None:
        """Lock it at once.

        Raises:
            BlockingIOError: it is locked already.
            OSError: the file system has no such locks.
        """
        try:
            fcntl.flock(self.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # The lock of an interrupted command of this process may await garbage collection.
            gc.collect()
            fcntl.flock(self.number, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        """Unlock and close it, unless it is closed already."""
        if self.number >= 0:
            # Unlocked first: if Ctrl-C comes after the next line, the number stays open, unlocked.
            with contextlib.suppress(OSError):
                fcntl.flock(self.number, fcntl.LOCK_UN)
            number, self.number = self.number, -1
            os.close(number)


class DatabaseLock:
    """An advisory lock of PostgreSQL on its own connection; it ends with the connection.

    Args:
        address: address of the database.
        study: name of the study to lock.
    """

    def __init__(self, address: str, study: str) -> None:
        self.address, self.study = address, study
        digest = hashlib.sha256(f"mixunlearn study {study}".encode()).digest()
        # PostgreSQL's locks have no names: two integers of 32 bits stand for the study.
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
        """Make sure that this process holds the lock; take it again if the connection broke."""
        from sqlalchemy import text  # noqa: PLC0415
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

        if self._connection is not None:
            try:
                # The lock lives as long as its connection: if that answers, the lock is held.
                self._connection.execute(text("SELECT 1"))
            except SQLAlchemyError:
                self.release()
            else:
                return
        connection = self._connect()
        keys = dict(zip(("a", "b"), self._keys, strict=True))
        take = text("SELECT pg_try_advisory_lock(:a, :b)")
        taken = connection.execute(take, keys).scalar()
        if not taken:
            gc.collect()  # as in `Lockable.lock`
            taken = connection.execute(take, keys).scalar()
        if not taken:
            holder = connection.execute(text(_HOLDER), keys).scalar()
            connection.close()
            raise refused(self.study, str(holder or ""))
        self._connection = connection

    def release(self) -> None:
        """Release the lock by closing its connection."""
        if self._connection is not None:
            with contextlib.suppress(Exception):  # it may be broken already
                self._connection.close()
        self._connection = None

    def _connect(self) -> "Connection":
        from sqlalchemy import create_engine, text  # noqa: PLC0415
        from sqlalchemy.pool import NullPool  # noqa: PLC0415

        # The server shows this name for the connection: others read from it who holds the lock.
        named = {"application_name": _sentence(me())[:NAME_LENGTH]}
        # NullPool: any other pool would keep a closed connection open, and with it the lock.
        # AUTOCOMMIT: otherwise a transaction would stay open during the whole sweep.
        engine = create_engine(
            self.address, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=named
        )
        connection = engine.connect()
        # If a machine dies, its connections stay open: without this, its lock would stay for hours.
        for name, value in (("idle", KEEPALIVE_S), ("interval", 10), ("count", 3)):
            connection.execute(text(f"SET tcp_keepalives_{name} = {value}"))
        return connection


# `objsubid = 2` marks locks with two keys; the two integers are shown as unsigned oids.
_HOLDER = """
SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 2
  AND classid = (:a)::int::bit(32)::bigint::oid AND objid = (:b)::int::bit(32)::bigint::oid
"""


def me() -> dict[str, object]:
    """Return host and id of this process, and the present time."""
    now = datetime.now().astimezone()
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": f"{now:%Y-%m-%d %H:%M:%S}"}


def refused(study: str, holder: str) -> MixUnlearnError:
    """Return the error for a process that finds the study locked.

    Args:
        study: name of the study.
        holder: the process that holds the lock; empty if it is unknown.
    """
    who = holder or "another process"
    remedy = "let it finish, or end that process, which unlocks the study at once"
    return MixUnlearnError(f"the study {study} is locked by {who}; {remedy}")


def _names(path: Path, descriptor: int) -> bool:
    """Return whether a path leads to an open file or folder."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sentence(holder: dict[str, object]) -> str:
    return f"process {holder['pid']} on {holder['host']} since {holder['since']}"


def _named(content: bytes) -> str:
    """Return the process that wrote a lock file; empty if the file is not written yet."""
    try:
        return _sentence(json.loads(content))
    except (ValueError, KeyError, TypeError):
        return ""
