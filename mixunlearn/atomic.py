"""Atomic file writes: write a temporary file next to the target, sync it to disk, rename it."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LONGEST_NAME = 255  # bytes that a file system allows for a file name


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; it then replaces `path`, or is deleted on an error.

    A reader sees the old or the new content, never a part of it, even after a power cut.

    Args:
        path: the file to replace; its folder is created if missing.

    Raises:
        OSError: the file cannot be written; its old content is unchanged.
    """
    temporary = path.with_name(_temporary_name(path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)  # otherwise, a power cut could leave the new name with an empty file
        # The folder is not synced: a power cut may bring the old content back, never a part of one.
        temporary.replace(path)
    finally:
        with suppress(OSError):  # otherwise, this error would hide the one above
            temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until the content of a file or folder is on the disk.

    Raises:
        OSError: it cannot be written to the disk.
    """
    # A folder cannot be opened for writing, and fsync needs only a descriptor.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary_name(name: str) -> str:
    """Return a hidden name that no other process, on no other machine, uses at the same time."""
    ending = f".{uuid.uuid4().hex}.tmp"
    start = os.fsencode(f".{name}")[: LONGEST_NAME - len(ending)]
    return start.decode(errors="ignore") + ending  # a character that was cut in two is dropped
