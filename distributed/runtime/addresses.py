"""Addresses: where MLflow keeps runs by default, and whether a database answers."""

import contextlib
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from mixunlearn.errors import MixUnlearnError

REMOTE = ("http://", "https://", "databricks")  # servers, which decide where artifacts go


def embedded(home: Path) -> tuple[str, str]:
    """Return the addresses for MLflow without a server: (SQLite database, artifacts)."""
    root = home.expanduser().resolve()
    return f"sqlite:///{root / 'mlflow.db'}", (root / "mlartifacts").as_uri()


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
        chosen = f"sqlite:///{path.expanduser().resolve()}"
    if storage and "://" not in storage:
        storage = Path(storage).expanduser().resolve().as_uri()
    return chosen, storage or (None if chosen.startswith(REMOTE) else own_storage)


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite address, None for any other address."""
    scheme, _, rest = uri.partition(":///")
    return Path(rest.partition("?")[0]) if scheme.startswith("sqlite") and rest else None


def ask_database(uri: str) -> None:
    """Return if the SQL database at `uri` answers, or is an SQLite file that could be created.

    Creates nothing.

    Raises:
        Exception: it does not answer.
    """
    if (path := sqlite_path(uri)) is not None:
        _ask_sqlite(path)
    else:
        _ask_server(uri)


def _ask_sqlite(path: Path) -> None:
    if path.exists():
        # Opened for writing, to roll back what a killed writer left half done.
        mode = "rw" if os.access(path, os.W_OK) else "ro"
        # An address, because only that form has a mode in which SQLite creates no file.
        address = f"file:{quote(str(path.resolve()))}?mode={mode}"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
            # Connecting alone reads nothing: only a query shows that this is a database.
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if mode == "ro":
            raise MixUnlearnError(f"{path} is read-only")
    elif not os.access(nearest_folder(path), os.W_OK | os.X_OK):
        raise MixUnlearnError(f"{path} cannot be created: no permission to write there")


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
