"""Which code produced a result."""

import os
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from distributed.cluster import ROOT


@cache
def code_version() -> str:
    """Return the commit, with `+` if files were changed since; outside of git the version.

    Where the code was sent without its history, MIXUNLEARN_CODE says what it is.
    """
    if told := os.environ.get("MIXUNLEARN_CODE"):
        return told
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return f"{commit}+" if _git("status", "--porcelain", "-uno") else commit
    except (OSError, subprocess.CalledProcessError):
        try:
            return version("mixunlearn")
        except PackageNotFoundError:
            return "unknown"


def _git(*words: str) -> str:
    run = subprocess.run(
        ["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True, timeout=10
    )
    return run.stdout.strip()
