"""Ends what a killed driver leaves running on this machine: processes of the Ray that it started.

Ray ends most of them by itself, but not its agents.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

DRIVER = "MIXUNLEARN_DRIVER"  # environment variable that all processes of a Ray inherit
PATIENCE_S = 5.0


@contextmanager
def marked() -> Iterator[None]:
    """Mark all processes that are started within the `with` as those of this driver."""
    os.environ[DRIVER] = f"{_namespace()} {os.getpid()}"
    try:
        yield
    finally:
        os.environ.pop(DRIVER, None)


def end_orphans() -> int:
    """End all processes of this user whose driver is dead; return how many there were."""
    found = list(_orphans())
    for process in found:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, PATIENCE_S)
    return len(found)


def _orphans() -> Iterator[psutil.Process]:
    # Ours may have inherited the mark of a driver that is dead by now.
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            namespace, _, driver = process.environ().get(DRIVER, "").rpartition(" ")
            # In a container, the same number means another process.
            here = driver and namespace == _namespace()
            if here and process.pid not in own and not psutil.pid_exists(int(driver)):
                yield process


def _namespace() -> str:
    """Return what tells in which container a process number is valid; empty if unknown."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""
