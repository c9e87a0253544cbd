"""Where MLflow's SQLite database says that files are: it keeps whole addresses, not relative ones.

After a home was copied or moved, they would lead into the old home. So a database remembers which
folder of artifacts was beside it, and when it is opened elsewhere, its addresses are rewritten.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from distributed.runtime.addresses import (
    ARTIFACTS,
    connect_sqlite,
    copy_sqlite,
    sqlite_address,
    sqlite_path,
)
from distributed.study.folder import STUDIES

HOME = "mixunlearn.artifacts"  # tag of MLflow's default experiment: the folder beside the database
TABLES = "SELECT 1 FROM sqlite_master WHERE name = 'experiment_tags'"
COLUMNS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}


def settle(path: Path, folder: Path | None = None) -> None:
    """Let a database of MLflow name the artifacts beside it, wherever it was copied or moved to.

    Addresses outside of the folder that was beside it stay. Does nothing if nothing was moved.

    Args:
        path: path of an SQLite database.
        folder: the folder that has the artifacts; by default the folder of the database.

    Raises:
        sqlite3.Error: the database cannot be read or written.
    """
    own = ((folder or path.parent).resolve() / ARTIFACTS).as_uri()
    with closing(connect_sqlite(path)) as database:
        if not database.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'experiments'"
        ).fetchone():
            return  # empty: MLflow will make its tables
        if _recorded(database) == own:
            return
        # All or nothing; another process may settle it at the same time.
        with database:
            database.execute("BEGIN IMMEDIATE")
            for old in _earlier(database, path) - {own}:
                _rewrite(database, old, own)
            database.execute("REPLACE INTO experiment_tags VALUES (?, ?, 0)", (HOME, own))


@contextmanager
def settled(uri: str) -> Iterator[str]:
    """Give the address of MLflow for a server: a read-only database is served from a copy.

    Args:
        uri: the tracking address.

    Raises:
        OSError, sqlite3.Error: the database cannot be read.
    """
    path = sqlite_path(uri)
    if path is None:
        yield uri
    elif writable(path):
        settle(path)
        yield uri
    else:
        with TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            copy_sqlite(path, copy)
            settle(copy, path.parent)
            yield sqlite_address(copy)


def writable(path: Path) -> bool:
    """Return whether an SQLite database exists and can be written, with a journal beside it."""
    return path.exists() and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _recorded(database: sqlite3.Connection) -> str | None:
    query = "SELECT value FROM experiment_tags WHERE key = ?"
    found = database.execute(query, (HOME,)).fetchone()
    return found and str(found[0])


def _earlier(database: sqlite3.Connection, path: Path) -> set[str]:
    """Return the folders that were beside the database before."""
    if recorded := _recorded(database):
        return {recorded}
    # An earlier version recorded nothing, but had this folder in the home.
    if not (path.parent / STUDIES).is_dir():
        return set()
    query = "SELECT artifact_location FROM experiments WHERE artifact_location LIKE ?"
    return {str(found) for (found,) in database.execute(query, (f"file:%/{ARTIFACTS}",))}


def _rewrite(database: sqlite3.Connection, old: str, new: str) -> None:
    """Replace the start of all addresses in the folder `old`."""
    for table, columns in COLUMNS.items():
        for column in columns:
            database.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                f" WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
            )
