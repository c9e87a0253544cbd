"""Checks of everything that a sweep needs; they change nothing."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import stat
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from distributed.cluster.ray_folder import private_folder
from distributed.runtime.addresses import ask_database, nearest_folder, sqlite_path
from distributed.runtime.text import one_line, redact
from distributed.tracking.server import reachable
from mixunlearn.errors import MixUnlearnError
from mixunlearn.files import Files

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1] / "pyproject.toml"  # a wheel has it there as well
TOOLS_ONLY = {"all", "cluster", "dev", "docs"}  # extras that a sweep can do without
TWINS = {"xgboost-cpu": "xgboost"}  # another distribution that has the same module
FREE_GB = 2.0
CONNECT_S = 3.0
CLIENT_PORT, CLUSTER_PORT = 10001, 6379  # Ray's defaults
LOCAL = {"", "local", "auto"}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One finding: what was checked, whether it is good enough, what was found, how to fix it."""

    name: str
    ok: bool
    detail: str
    remedy: str | None = None


def checks(
    home: Path,
    tracking_uri: str,
    address: str | None,
    study: str | None = None,
    files: str | None = None,
) -> list[Check]:
    """Check everything that a sweep needs; leave nothing behind.

    Args:
        home: the home; it need not exist.
        tracking_uri: address of MLflow, see `distributed.runtime.addresses.resolve`.
        address: address of a Ray cluster; None: Ray starts on this machine when needed.
        study: `storage.study`; None: studies are recorded under the home.
        files: `storage.files`; None: files are kept under the home.

    Returns:
        One finding for each subject, in a fixed order. `ok` is false only for what would stop or
        ruin a sweep.
    """
    return [
        _python(),
        *_packages(),
        _processors(),
        _accelerators(),
        _user(),
        _terminal(),
        _temporary(),
        _ray(address),
        _disk(home),
        _writable(home),
        _store(home / "store"),
        _tracking(tracking_uri),
        *([_record(study)] if study else []),
        *([_files(files)] if files else []),
    ]


def _python() -> Check:
    needed = (3, 11)
    found = tuple(int(part) for part in platform.python_version_tuple()[:2])
    return Check(
        name="python",
        ok=found >= needed,
        detail=platform.python_version(),
        remedy=None
        if found >= needed
        else "create the virtual environment with Python 3.11 or later",
    )


def _packages() -> list[Check]:
    """Check the packages that the program declares, in the versions it declares."""
    try:
        from packaging.requirements import Requirement  # noqa: PLC0415 (comes with Ray and MLflow)
    except ImportError:
        remedy = "pip install 'mixunlearn[all]'; in a checkout: make"
        return [Check(name="packages", ok=False, detail="not installed", remedy=remedy)]
    needed = {requirement.name: requirement for requirement in map(Requirement, _declared())}
    return [_package(needed[name]) for name in sorted(needed)]


def _declared() -> list[str]:
    """Return what a sweep needs, as written in `pyproject.toml`."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"].items()
    lines = [line for extra, lines in extras if extra not in TOOLS_ONLY for line in lines]
    return [*project["dependencies"], *lines]


def _package(needed: "Requirement") -> Check:
    remedy = f"pip install '{needed}'"
    version = _version(needed.name) or _version(TWINS.get(needed.name, needed.name))
    if version is None:
        return Check(name=needed.name, ok=False, detail="not installed", remedy=remedy)
    if not needed.specifier.contains(version, prereleases=True):
        detail = f"{version}, {needed.specifier} is needed"
        return Check(name=needed.name, ok=False, detail=detail, remedy=remedy)
    return Check(name=needed.name, ok=True, detail=version)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processors() -> Check:
    # A container or a batch system may allow fewer than the machine has.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Check(name="processors", ok=True, detail=f"{usable} usable")


def _accelerators() -> Check:
    try:
        # In the `try`: a torch that does not fit the driver may fail at its import.
        import torch  # noqa: PLC0415 (takes seconds)

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        names = [torch.cuda.get_device_name(index) for index in range(count)]
    except Exception as error:
        remedy = "reinstall torch for this machine's driver"
        return Check(name="accelerators", ok=False, detail=one_line(error), remedy=remedy)
    detail = f"{count}: {', '.join(names)}" if names else "none, the CPU is used"
    return Check(name="accelerators", ok=True, detail=detail)


def _user() -> Check:
    # Without an account, HOME and USER are set when the command starts.
    folder = Path("~").expanduser()
    usable = folder.is_dir() and os.access(folder, os.W_OK)
    note = "" if usable else ", which cannot be written: libraries keep no settings and no caches"
    return Check(name="user", ok=True, detail=f"number {os.getuid()}, HOME {folder}{note}")


def _terminal() -> Check:
    encoding = str(getattr(sys.stdout, "encoding", None)).lower()
    note = "" if encoding.startswith("utf") else ": other characters are replaced by similar ones"
    return Check(name="terminal", ok=True, detail=f"{encoding}{note}")


def _temporary() -> Check:
    try:
        with private_folder() as folder:
            return Check(name="temporary files", ok=True, detail=f"Ray's are in {folder.parent}")
    except MixUnlearnError as error:
        remedy = "set RAY_TMPDIR to a short path that is writable"
        return Check(name="temporary files", ok=False, detail=str(error), remedy=remedy)


def _ray(address: str | None) -> Check:
    if importlib.util.find_spec("ray") is None:
        remedy = "pip install 'ray[tune]'"
        return Check(name="ray cluster", ok=False, detail="Ray is not installed", remedy=remedy)
    if address is None or address in LOCAL:
        return Check(name="ray cluster", ok=True, detail="local, started when needed")
    try:
        host, port = _host_and_port(address)
        # Only a connection: to join a cluster starts processes and takes seconds.
        socket.create_connection((host, port), CONNECT_S).close()
    except (OSError, ValueError) as error:
        remedy = "start it (ray start --head) or correct --address"
        detail = f"{address} does not answer: {one_line(error)}"
        return Check(name="ray cluster", ok=False, detail=detail, remedy=remedy)
    return Check(name="ray cluster", ok=True, detail=f"{host}:{port} answers")


def _host_and_port(address: str) -> tuple[str, int]:
    """Return the host and the port of `ray://host:port` or `host:port`.

    Raises:
        ValueError: it is neither.
    """
    client = address.startswith("ray://")
    parts = urlsplit(address if client else f"//{address}")
    if not parts.hostname:
        raise ValueError("not an address like 10.0.0.1:6379 or ray://10.0.0.1:10001")
    return parts.hostname, parts.port or (CLIENT_PORT if client else CLUSTER_PORT)


def _disk(home: Path) -> Check:
    try:
        # `any`, a file in the home: the home itself need not exist yet.
        free = shutil.disk_usage(nearest_folder(home / "any")).free / 1e9
    except (MixUnlearnError, OSError) as error:
        return Check(name="disk", ok=False, detail=one_line(error), remedy="choose another --home")
    remedy = None if free >= FREE_GB else "free some space, or choose another --home"
    return Check(name="disk", ok=free >= FREE_GB, detail=f"{free:.1f} GB free", remedy=remedy)


def _writable(home: Path) -> Check:
    remedy = "change its owner or permissions, or choose another --home"
    try:
        folder = nearest_folder(home / "any")
    except MixUnlearnError as error:
        return Check(name="home", ok=False, detail=one_line(error), remedy=remedy)
    detail = str(home) if home.exists() else f"{home}, created when needed"
    mode = home.stat().st_mode if home.exists() else 0
    # A home that was given to a group has the first of these bits.
    if mode & (0o007 if mode & stat.S_ISGID else 0o077):
        detail += f"; other users can enter it: chmod go= {home}"
    # Asked, not tried: checks leave nothing behind.
    if os.access(folder, os.W_OK | os.X_OK):
        return Check(name="home", ok=True, detail=detail)
    return Check(name="home", ok=False, detail=f"no permission to write in {folder}", remedy=remedy)


def _store(store: Path) -> Check:
    counts = [f"{len(_folders(kind))} {kind.name}" for kind in sorted(_folders(store))]
    return Check(name="store", ok=True, detail=", ".join(counts) or "empty")


def _record(study: str) -> Check:
    try:
        ask_database(study)
    except Exception as error:
        detail = f"{redact(study)}: {one_line(error)}"
        return Check(name="study", ok=False, detail=detail, remedy="correct storage.study")
    return Check(name="study", ok=True, detail=f"{redact(study)} answers")


def _files(files: str) -> Check:
    place = Files.of(files)
    try:
        place.require()
    except MixUnlearnError as error:
        return Check(name="files", ok=False, detail=str(error), remedy="correct storage.files")
    return Check(name="files", ok=True, detail=f"{place}, writable")


def _folders(folder: Path) -> list[Path]:
    """Return the folders in `folder`, without hidden ones, which are still being written."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]


def _tracking(uri: str) -> Check:
    reason = reachable(uri)
    shown = redact(uri)
    if reason:
        remedy = "start it, or correct tracking.uri or MLFLOW_TRACKING_URI"
        return Check(name="tracking", ok=False, detail=f"{shown}: {reason}", remedy=remedy)
    path = sqlite_path(uri)
    made = path is not None and not path.exists()
    note = ", created when needed" if made else ""
    return Check(name="tracking", ok=True, detail=f"{shown}{note}")
