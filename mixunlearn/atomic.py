"""A file is replaced whole or not at all: written beside its place, synced to the disk, renamed."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LONGEST_NAME = 255  # bytes that a file system gives the name of a file


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name beside `path`; the file written there takes its place, or vanishes on error.

    A reader sees the old content or the new one, also after a power cut, never a part of it.

    Args:
        path: the file; its folder is made when missing.

    Raises:
        OSError: the file cannot be written; what was there before is still there.
    """
    temporary = path.with_name(_temporary_name(path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)  # or a power cut could leave the new name with nothing in it
        temporary.replace(path)
    finally:
        with suppress(OSError):  # or the reason above would be lost
            temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Return when the content of a file or folder is on the disk.

    Raises:
        OSError: it cannot be written there.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary_name(name: str) -> str:
    """Return a hidden name that no other process, on no other machine, uses at the same time."""
    ending = f".{uuid.uuid4().hex}.tmp"
    start = os.fsencode(f".{name}")[: LONGEST_NAME - len(ending)]
    return start.decode(errors="ignore") + ending  # half a letter at the cut is dropped
