"""Removes what killed processes have left behind: temporary files and folders, never renamed."""

import re
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

# The names that this project gives to what is not complete yet, and Ray Tune's test of a folder.
LEFTOVER = re.compile(
    r"\..+(\.(tmp|part)|-[0-9a-f]{8}|-[0-9a-f]{32})|\.mixunlearn-.+|\.validate_storage_marker"
)
DAY_S = 86_400.0


def remove_leftovers(paths: Iterable[Path], *, age_s: float = 0.0) -> None:
    """Remove those files and folders that have the name of a leftover; errors are ignored.

    Args:
        paths: where to look.
        age_s: for how many seconds nothing was written to a leftover; 0 only where no other
            process writes.
    """
    for path in [path for path in paths if LEFTOVER.fullmatch(path.name)]:
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime < age_s:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
