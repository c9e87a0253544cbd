"""Atomic writes: a temporary file or folder next to the target, synced to disk, then renamed."""

import fcntl
import os
import shutil
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


def publish(temporary: Path, target: Path, *, marker: str) -> None:
    """Rename a finished local folder to its final name, after syncing its content to the disk.

    Raises:
        OSError: the folder cannot be renamed.
    """
    for path in (*temporary.iterdir(), temporary):
        sync(path)
    try:
        temporary.rename(target)
    except OSError:
        # Another process was faster with the same content, or a broken folder has the name.
        if (target / marker).is_file():
            return
        discard(target)
        temporary.rename(target)
    # Otherwise, a power cut could undo the rename.
    sync(target.parent)


def discard(folder: Path) -> None:
    """Delete a local folder; it is renamed first, so that no reader sees a part of it.

    Raises:
        OSError: the folder cannot be renamed.
    """
    aside = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    with suppress(FileNotFoundError):  # another process was faster
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def claim(temporary: Path, path: Path) -> bool:
    """Rename a finished file, but never over another one; return False if there is one.

    Of several processes that call this for one path, one succeeds.

    Args:
        temporary: the file, next to `path`; if it is not renamed, it stays.
        path: the new name.

    Raises:
        OSError: the file cannot be renamed.
    """
    try:
        # A link, unlike a rename, cannot replace a file.
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # some file systems have no links
        return _claim_locked(temporary, path)
    temporary.unlink()
    return True


def _claim_locked(temporary: Path, path: Path) -> bool:
    """Do what `claim` does with a lock of the folder, which exists only on this machine."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():
            return False
        temporary.rename(path)
    finally:
        os.close(descriptor)
    return True


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
