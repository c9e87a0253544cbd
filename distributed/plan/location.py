"""Where the record of a study is kept."""

import os
from pathlib import Path

import psutil

from distributed.runtime.addresses import sqlite_address, sqlite_path
from distributed.runtime.text import require_whole
from distributed.study.folder import StudyFolder
from mixunlearn.errors import InputError

LONGEST_PATH = 503  # bytes: SQLite's 511, without "-journal"
FILE_RECORDS = ("sqlite", "journal")
NETWORK = (  # how the types of network file systems begin
    "nfs",
    "cifs",
    "smb",
    "9p",
    "afs",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "gluster",
    "fuse.",  # such as fuse.sshfs; not fuseblk, which is a local disk
)


def record_address(study: str | None, folder: Path) -> str:
    """Return the address of a study's record.

    Args:
        study: `storage.study`; libpq finds a password that is not in it in PGPASSWORD or ~/.pgpass.
        folder: folder of the study; its file system decides between SQLite and a journal.

    Raises:
        InputError: a part of the address was not saved; or it is SQLite on a network file system,
            where its file locks do not work reliably, or under a path that is too long for it.
    """
    # Resolved: the home may be a link to a network file system.
    files = StudyFolder(path=folder.resolve())
    path = sqlite_path(study) if study else files.database
    if study and path is None:
        require_whole("storage.study", study)
        return study
    assert path is not None
    network = is_network(filesystem_of(path))
    if study and network:
        remedy = "SQLite is not safe on a network file system; leave it out, or name PostgreSQL"
        raise InputError("storage.study", study, remedy)
    # An existing SQLite file is kept: the folder was moved there, or made by an older version.
    if network and not path.exists():
        return f"journal:///{files.journal}"
    _require_short(study, path.resolve())
    return sqlite_address(path.resolve())


def _require_short(study: str | None, path: Path) -> None:
    """Check that SQLite can open a file: it would only say "unable to open database file"."""
    length = len(os.fsencode(path))
    if length > LONGEST_PATH:
        what = f"{length} bytes for the path of {path.name}; SQLite takes at most {LONGEST_PATH}"
        key, value = ("storage.study", study) if study else ("--home", str(path.parents[2]))
        raise InputError(key, value, f"{what}; choose a shorter path")


def filesystem_of(path: Path) -> str:
    """Return the type of the file system of a path, which need not exist; empty if unknown."""
    # `all`: without it, psutil leaves out network file systems.
    places = {Path(disk.mountpoint): disk.fstype for disk in psutil.disk_partitions(all=True)}
    # From the inside out: the innermost mount point holds the path.
    found = [places[parent] for parent in path.resolve().parents if parent in places]
    return found[0] if found else ""


def is_network(kind: str) -> bool:
    """Return whether a type of file system is a network file system."""
    return kind.lower().startswith(NETWORK)
