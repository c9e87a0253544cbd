"""Tells the system which parts of a mapped file are needed next, so that it reads them together.

Without it, each page is read when it is touched, one after the other: reading random images of
150 kB from a disk took thirty times as long (docs/benchmarks.md).
"""

import ctypes
import mmap
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Advise = Callable[[int, int, int], int]


def announce(array: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> None:
    """Say that rows of an array are read next; nothing depends on it but time.

    Args:
        array: in most cases mapped from a file.
        rows: all of them exist.
    """
    size, step = array[:1].nbytes, array.strides[0]
    # Of smaller rows, the system reads the neighbours as well.
    if size < mmap.PAGESIZE or (advise := _advise()) is None:
        return
    for start in (array.ctypes.data + rows * step).tolist():
        page = start - start % mmap.PAGESIZE
        advise(page, start + size - page, mmap.MADV_WILLNEED)


@cache
def _advise() -> Advise | None:
    """Return the system's `madvise`; `None` if there is none."""
    if not hasattr(mmap, "MADV_WILLNEED"):
        return None
    try:
        found = ctypes.CDLL(None).madvise
    except (AttributeError, OSError):
        return None
    found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    found.restype = ctypes.c_int
    return found
