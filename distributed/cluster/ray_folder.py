"""The folder of a Ray on this machine: for its user alone, and deleted also after a kill."""

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mixunlearn.errors import MixUnlearnError

# Ray lets every user write in its folder (INNER). The one around it (PREFIX) lets nobody in.
PREFIX, INNER, LOCK = "mu-", "s", "lock"
LONGEST_SESSION = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
# The kernel allows 107 bytes for the path of a socket.
LONGEST_PLACE = 107 - len(f"/{PREFIX}12345678/{INNER}/{LONGEST_SESSION}")


@contextmanager
def private_folder(*, keep: bool = False) -> Iterator[Path]:
    """Make a folder for a Ray on this machine, which no other user can enter; delete it at the end.

    It is in the first of RAY_TMPDIR, TMPDIR and /tmp that can be written and has a name short
    enough for the sockets in it (`LONGEST_PLACE`). Folders there that a killed process of this
    user has left are deleted, and what still runs of their Ray is ended.

    Args:
        keep: whether it stays until the next start; Ray's logs are in it.

    Raises:
        MixUnlearnError: there is no such folder.
    """
    folder = _made()
    # The lock ends with this process, however that ends. Nobody finds it before it is locked.
    with (folder / "new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Path(lock.name).rename(folder / LOCK)
        for other in folder.parent.glob(f"{PREFIX}*"):
            _delete_left(other)
        try:
            yield folder
        finally:
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)  # a process of Ray may still write there


def _made() -> Path:
    reasons = list[str]()
    for place in filter(None, (os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR"), "/tmp")):
        if len(os.fsencode(place)) > LONGEST_PLACE:
            reasons.append(f"{place} has more than {LONGEST_PLACE} bytes")
            continue
        try:
            return Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        except OSError as error:
            reasons.append(f"{place}: {(error.strerror or str(error)).lower()}")
    raise MixUnlearnError(
        f"no folder for Ray: {', '.join(reasons)}; set RAY_TMPDIR to a short path that is writable"
    )


def _delete_left(folder: Path) -> None:
    """Delete the folder of a Ray whose driver has ended, if it is one of this user."""
    with suppress(OSError):  # it has no lock, or a driver has locked it
        if folder.lstat().st_uid != os.getuid():
            return
        with (folder / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _end_ray(folder)
            shutil.rmtree(folder, ignore_errors=True)


def _end_ray(folder: Path) -> None:
    """End the processes of Ray that were started for a folder: its agents outlive a driver."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended, or it is another user's
            words = path.read_bytes().split(b"\0")
            ray = any(b"/ray/" in word for word in words[:3])
            if ray and any(os.fsencode(folder) in word for word in words):
                os.kill(int(path.parent.name), signal.SIGKILL)
