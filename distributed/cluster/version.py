"""Which code produced a result, and on which machine."""

import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

from distributed.cluster.checkout import git

CPUS = Path("/proc/cpuinfo")


# Every proposal asks for it, and the answer takes two processes.
@cache
def code_version() -> str:
    """Return the commit, with `+` if files were changed since; outside of git, the version.

    A cluster gets the code without its history; there, MIXUNLEARN_CODE holds the commit.
    """
    if told := os.environ.get("MIXUNLEARN_CODE"):
        return told
    try:
        # Of fixed length: git's own grows with the repository, and tags would no longer match.
        commit = git("rev-parse", "--short=12", "HEAD")
        return f"{commit}+" if git("status", "--porcelain", "-uno") else commit
    except (OSError, subprocess.CalledProcessError):
        try:
            return version("mixunlearn")
        except PackageNotFoundError:
            return "unknown"


def environment() -> dict[str, Any]:
    """Return the driver's machine and software as plain data, without its settings."""
    return {
        "code": code_version(),
        "changes": _changes(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"name": _cpu(), "count": os.cpu_count()},
        "gpus": _gpus(),
        "packages": _packages(),
    }


def _changes() -> str | None:
    """Return "clean", or a digest of the changes since the commit; `None` outside of git."""
    try:
        difference = git("diff", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None
    return hashlib.sha256(os.fsencode(difference)).hexdigest()[:12] if difference else "clean"


def _cpu() -> str:
    lines = CPUS.read_text().splitlines() if CPUS.exists() else []
    # On Linux, `platform.processor` knows only the architecture.
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _gpus() -> list[str]:
    import torch  # noqa: PLC0415 (this module is imported by commands that do not need torch)

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


@cache  # a second of a processor, for hundreds of files that do not change meanwhile
def _packages() -> dict[str, str]:
    """Return the version of each package, by name; of several, the first is what is imported."""
    found = dict[str, str]()
    for each in distributions():
        about = each.metadata  # each access parses it again
        found.setdefault(about["Name"], about["Version"])
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))
