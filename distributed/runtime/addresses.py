"""Where tracking goes: default addresses, whether a database answers, and no passwords in print."""

import contextlib
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from mixunlearn.errors import MixUnlearnError

REMOTE = ("http://", "https://", "databricks")  # servers: they decide where artifacts go


def embedded(home: Path) -> tuple[str, str]:
    """Return the addresses of the store that needs no server: (SQLite database, artifacts)."""
    root = home.expanduser().resolve()
    return f"sqlite:///{root / 'mlflow.db'}", (root / "mlartifacts").as_uri()


def resolve(uri: str | None, storage: str | None, home: Path) -> tuple[str, str | None]:
    """Return where to track: (tracking address, place of the artifacts).

    Args:
        uri: the explicit setting; else `MLFLOW_TRACKING_URI`; else a database under `home`.
        storage: folder or address of the artifacts; else under `home`, or for a server None:
            the server decides.
        home: folder of the embedded default.
    """
    own_uri, own_storage = embedded(home)
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI") or own_uri
    if (path := sqlite_path(chosen)) is not None:
        # What is relative must not depend on who reads it later.
        chosen = f"sqlite:///{path.expanduser().resolve()}"
    if storage and "://" not in storage:
        storage = Path(storage).expanduser().resolve().as_uri()
    return chosen, storage or (None if chosen.startswith(REMOTE) else own_storage)


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite address, None for any other address."""
    scheme, _, rest = uri.partition(":///")
    return Path(rest.partition("?")[0]) if scheme.startswith("sqlite") and rest else None


def ask_database(uri: str) -> None:
    """Return if the SQL database at `uri` answers, or is a SQLite file that could be made.

    Creates nothing.

    Raises:
        Exception: what kept it from answering.
    """
    if (path := sqlite_path(uri)) is not None:
        _ask_sqlite(path)
    else:
        _ask_server(uri)


def _ask_sqlite(path: Path) -> None:
    if path.exists():
        # For writing, because what a killed writer left half done is rolled back by the next.
        mode = "rw" if os.access(path, os.W_OK) else "ro"
        address = f"file:{quote(str(path.resolve()))}?mode={mode}"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if mode == "ro":
            raise MixUnlearnError(f"{path} is read-only")
    elif not os.access(nearest_folder(path), os.W_OK | os.X_OK):
        raise MixUnlearnError(f"{path} cannot be made: no right to write there")


def nearest_folder(path: Path) -> Path:
    """Return what exists of `path`'s folders: the one in which a new folder would be made.

    Raises:
        MixUnlearnError: something on the way is a file.
    """
    found = next(parent for parent in path.resolve().parents if parent.exists())
    if not found.is_dir():
        raise MixUnlearnError(f"{path} cannot be made: {found} is a file")
    return found


def _ask_server(uri: str) -> None:
    from sqlalchemy import create_engine  # noqa: PLC0415 (comes with MLflow, imports slowly)

    engine = create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()
