"""Reads files that a user names: regular files only, and small ones only up to a limit.

A pipe waits for a writer that may never come, and a device such as /dev/zero never ends.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

MIB = 2**20


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file, or a link to one, for reading bytes.

    Raises:
        OSError: it cannot be read, or it is a folder, a pipe, a socket or a device.
    """
    require_regular(path)
    # Without waiting: the file could have become a pipe since.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def read_regular(path: Path, largest: int) -> bytes:
    """Return the content of a regular file of at most `largest` bytes.

    Raises:
        OSError: it cannot be read, is larger, or is a folder, a pipe, a socket or a device.
    """
    with open_regular(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise OSError(errno.EFBIG, f"larger than {largest // MIB} MiB", str(path))
    return content


def require_regular(path: Path) -> None:
    """Check that a path is that of a regular file, or of a link to one.

    Raises:
        OSError: there is none, or it is a folder, a pipe, a socket or a device.
    """
    refuse_irregular(path.stat(), str(path))


def refuse_irregular(status: os.stat_result, path: str) -> None:
    """Check the status of a file; see `require_regular`."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)
