"""Who has a device to itself: work that is timed; other work of this machine waits meanwhile."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


@contextmanager
def alone(device: torch.device, folder: Path | None = None) -> Iterator[bool]:
    """Have a device to itself, once all work that is `beside` other work has ended.

    Args:
        device: of this process. All work on CPUs shares one: a machine's memory and clock are
            shared by its cores.
        folder: of the lock; `None`: one that all processes of this user and machine share.

    Yields:
        Whether it has the device to itself; if not, there is no place for a lock.
    """
    with _locked(device, fcntl.LOCK_EX, folder) as locked:
        yield locked


@contextmanager
def beside(device: torch.device, folder: Path | None = None) -> Iterator[bool]:
    """Share a device with other work, but not with work that has it `alone`; see there."""
    with _locked(device, fcntl.LOCK_SH, folder):
        yield False


@contextmanager
def _locked(device: torch.device, kind: int, folder: Path | None) -> Iterator[bool]:
    path = (folder or Path(tempfile.gettempdir())) / f".mixunlearn-{os.getuid()}-{_name(device)}"
    try:
        # Links are not followed, and nobody else may open it: the folder is everybody's.
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:  # another user has taken the name, or the disk is full
        yield False
        return
    try:
        fcntl.flock(number, kind)
        yield True
    finally:
        os.close(number)  # ends the lock, as the end of the process does


def _name(device: torch.device) -> str:
    """Return a name of the hardware, the same in all processes, whatever number they know it by."""
    if device.type != "cuda":
        return device.type
    return str(torch.cuda.get_device_properties(device).uuid)
