"""Addresses: where MLflow keeps runs by default, and whether a database answers."""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path
from urllib.parse import quote

from mixunlearn.errors import MixUnlearnError

REMOTE = ("http://", "https://", "databricks")  # servers, which decide where artifacts go
ARTIFACTS = "mlartifacts"  # folder of artifacts beside a database without a server


def embedded(home: Path) -> tuple[str, str]:
    """Return the addresses for MLflow without a server: (SQLite database, artifacts)."""
    root = home.expanduser().resolve()
    return sqlite_address(root / "mlflow.db"), (root / ARTIFACTS).as_uri()


def resolve(uri: str | None, storage: str | None, home: Path) -> tuple[str, str | None]:
    """Return where MLflow keeps runs: (tracking address, address of the artifacts).

    Args:
        uri: the explicit setting; `None`: `MLFLOW_TRACKING_URI`, else a database under `home`.
        storage: folder or address of the artifacts; `None`: a folder under `home`. For a server,
            the result is then None as well: the server decides.
        home: folder of the default without a server.
    """
    own_uri, own_storage = embedded(home)
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI") or own_uri
    if (path := sqlite_path(chosen)) is not None:
        # Absolute, because other processes with other working folders read it later.
        chosen = sqlite_address(path.expanduser().resolve())
    if storage and "://" not in storage:
        storage = Path(storage).expanduser().resolve().as_uri()
    return chosen, storage or (None if chosen.startswith(REMOTE) else own_storage)


def sqlite_address(path: Path) -> str:
    """Return the address of an SQLite file; its path may contain any character."""
    from sqlalchemy import URL  # noqa: PLC0415 (comes with MLflow, imports slowly)

    address = URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
    plain = address == f"sqlite:///{path}"
    # With `sqlite:///`, MLflow would create a folder of the escaped name.
    return address if plain else address.replace("sqlite:", "sqlite+pysqlite:", 1)


def sqlite_path(uri: str) -> Path | None:
    """Return the file of an SQLite address, None for any other address."""
    if not uri.startswith("sqlite") or "://" not in uri:
        return None
    from sqlalchemy import make_url  # noqa: PLC0415
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        database = make_url(uri).database
    except (ArgumentError, ValueError):  # it is no address at all
        return None
    return Path(database) if database else None


def ask_database(uri: str, *, reading: bool = False) -> None:
    """Return if the SQL database at `uri` answers, or is an SQLite file that could be created.

    Creates nothing.

    Args:
        uri: address of the database.
        reading: whether an SQLite file may be read-only.

    Raises:
        Exception: it does not answer.
    """
    if (path := sqlite_path(uri)) is not None:
        _ask_sqlite(path, reading=reading)
    else:
        _ask_server(uri)


def _ask_sqlite(path: Path, *, reading: bool) -> None:
    if path.exists():
        with contextlib.closing(connect_sqlite(path)) as database:
            # Connecting alone reads nothing: only a query shows that this is a database.
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not reading and not os.access(path, os.W_OK):
            raise MixUnlearnError(f"{path} is read-only")
    elif not os.access(nearest_folder(path), os.W_OK | os.X_OK):
        raise MixUnlearnError(f"{path} cannot be created: no permission to write there")


def connect_sqlite(path: Path) -> sqlite3.Connection:
    """Return a connection to an existing SQLite file; transactions are begun explicitly.

    Raises:
        sqlite3.Error: there is no such file, or it cannot be opened.
    """
    # Opened for writing, to roll back what a killed writer left half done.
    mode = "rw" if os.access(path, os.W_OK) else "ro"
    # An address, because only that form has a mode in which SQLite creates no file.
    address = f"file:{quote(str(path.resolve()))}?mode={mode}"
    return sqlite3.connect(address, uri=True, isolation_level=None)


def copy_sqlite(path: Path, target: Path) -> None:
    """Copy an SQLite file that may be read-only, while others may write to it.

    Raises:
        OSError, sqlite3.Error: it cannot be read, or the copy cannot be written.
    """
    try:
        with (
            contextlib.closing(connect_sqlite(path)) as database,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            database.backup(copy)
    except sqlite3.Error:
        # A killed writer left something half done, which can be rolled back only in the copy.
        for ending in ("", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{path}{ending}", f"{target}{ending}")


def nearest_folder(path: Path) -> Path:
    """Return the nearest existing folder above `path`, in which a new folder would be created.

    Raises:
        MixUnlearnError: one of the parents is a file.
    """
    found = next(parent for parent in path.resolve().parents if parent.exists())
    if not found.is_dir():
        raise MixUnlearnError(f"{path} cannot be created: {found} is a file")
    return found


def _ask_server(uri: str) -> None:
    from sqlalchemy import create_engine  # noqa: PLC0415 (comes with MLflow, imports slowly)

    engine = create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()
