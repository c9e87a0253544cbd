"""The Python that our own further processes are started with."""

import sys


def python() -> str:
    """Return the path of the running Python."""
    return sys.executable
