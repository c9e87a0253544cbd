"""The folder of deletion records in a home: the names in it, and its lock."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed.runtime.text import one_line
from mixunlearn.errors import MixUnlearnError

RECORDS = "records"  # folder in the home
KEY, LOCK = "key", "lock"  # files in it, beside those of the records
NAME = re.compile(r"([0-9]{6,})\.json")


def records_folder(home: Path) -> Path:
    """Return the folder of a home's records; it need not exist."""
    return home / RECORDS


def record_file(home: Path, number: int) -> Path:
    """Return the file of a record; it need not exist."""
    return records_folder(home) / f"{number:06d}.json"


def record_files(home: Path) -> dict[int, Path]:
    """Return the files of a home's records by number, in order.

    Raises:
        OSError: the folder cannot be read.
    """
    folder = records_folder(home)
    if not folder.is_dir():
        return {}
    found = {
        int(match[1]): path for path in folder.iterdir() if (match := NAME.fullmatch(path.name))
    }
    return dict(sorted(found.items()))


@contextmanager
def locked(home: Path) -> Iterator[Path]:
    """Yield the folder of records while no other process writes there; wait for those that do.

    The folder is made if it is missing. What a killed process left half-written is removed.

    Raises:
        MixUnlearnError: the folder cannot be written, or has no locks.
    """
    folder = records_folder(home)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise MixUnlearnError(f"{folder}: {one_line(error)}; make it writable") from error
    try:
        _lock(descriptor, folder)
        for left in folder.glob(".*.tmp"):
            left.unlink(missing_ok=True)
        yield folder
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        remedy = "choose a --home on a file system that supports locks"
        raise MixUnlearnError(f"{folder} cannot be locked: {one_line(error)}; {remedy}") from error
