"""Access to MLflow: whether it answers, its clients, and a new database for it."""

import importlib
import itertools
import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from distributed.runtime.addresses import REMOTE, ask_database, sqlite_address, sqlite_path
from distributed.runtime.text import one_line, redact
from distributed.tracking.locations import settle, writable
from distributed.tracking.run_buffer import RemoteRun
from mixunlearn.atomic import claim
from mixunlearn.errors import InputError, MissingError, MixUnlearnError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun


# Set before MLflow is imported, unless the user has set them. MLflow's own retries are off because
# they repeat calls that may have worked, which makes duplicate runs; we retry deliveries anyway.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # no connection that the user did not ask for
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    # MLflow's own 120 s would outlast the wait at the end of a sweep
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # models are small
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # no lines about every migration of a new database
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output belongs to --json
}
UNKNOWN_USER = {"UNAUTHENTICATED", "PERMISSION_DENIED"}  # MLflow's error codes
CREDENTIALS = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; they are "
    "not saved with a study"
)
# Errors that would be the same at a retry; everything else is retried.
REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST"}

_files: dict[str, tuple[int, int] | None] = {}  # by address: the file that was opened last
DELETED = "deleted"  # MLflow's word for a run or an experiment in its trash


def reachable(uri: str, *, reading: bool = False) -> str | None:
    """Return None if MLflow at `uri` answers or a sweep could create it there; else the reason.

    Creates nothing. Takes at most as long as one request to a server that does not answer.

    Args:
        uri: the tracking address.
        reading: whether a read-only database will do.
    """
    set_defaults()
    try:
        if is_database(uri):
            ask_database(uri, reading=reading)
        else:
            make_client(uri).search_experiments(max_results=1)
    except Exception as error:
        return reason_of(error)
    return None


def reason_of(error: Exception) -> str:
    """Return why MLflow does not answer, in one line; with the remedy if it does not know us."""
    code = getattr(error, "error_code", None)
    return f"{code}: {CREDENTIALS}" if code in UNKNOWN_USER else one_line(error)


def require_runs(uri: str) -> None:
    """Check that there are runs: MLflow itself would create a database, or retry for minutes.

    Raises:
        MissingError: nothing has been tracked there yet.
        MixUnlearnError: MLflow does not answer.
    """
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise MissingError(f"no study was tracked at {path}: run `mixunlearn sweep EXPERIMENT`")
    if reason := reachable(uri, reading=True):
        raise MixUnlearnError(f"{redact(uri)} does not answer: {reason}")


def read_run(uri: str, run_id: str) -> RemoteRun:
    """Return what MLflow has of a run.

    Raises:
        InputError: MLflow has no such run.
        MixUnlearnError: MLflow does not answer, or has no runs yet.
    """
    require_runs(uri)
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    try:
        return remote_run(make_client(uri).get_run(run_id))
    except MlflowException as error:
        if error.error_code not in REFUSALS:
            raise MixUnlearnError(f"{redact(uri)} does not answer: {one_line(error)}") from error
        remedy = f"no such run at {redact(uri)}; `mixunlearn ui` shows them with their ids"
        raise InputError("RUN_ID", run_id, remedy) from error


def is_database(uri: str) -> bool:
    """Return whether MLflow keeps runs at this address in a SQL database, without a server."""
    return "://" in uri and not uri.startswith((*REMOTE, "file:"))


def set_defaults() -> None:
    """Set MLflow's environment variables that the user has not set, and quieten its logging."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    # On a full disk it would log a traceback for each try; we print one line, once.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def import_mlflow() -> None:
    """Import MLflow; if another thread is importing it, wait until that is done.

    `from mlflow.models import Model` alone does not wait: it fails on a half-imported module.
    """
    importlib.import_module("mlflow")  # takes seconds: never at start-up


def make_database(path: Path, artifacts: str | None) -> None:
    """Create a complete SQLite database for MLflow, or none.

    MLflow creates its tables in a series of migrations. If a process is killed between them,
    SQLite keeps the first ones, and MLflow can never open that database again.

    Args:
        path: path of the file; another process may create it at the same time.
        artifacts: where files of its default experiment go; None: MLflow decides.

    Raises:
        Exception: MLflow could not create it.
    """
    import_mlflow()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415

    _remove_unfinished(path)
    # With the process id: two commands may start on a new home at once.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        root = artifacts or str(path.parent)
        store = SqlAlchemyStore(sqlite_address(temporary), root)  # type: ignore[no-untyped-call]
        # Closed before it gets its name: nothing writes to it any more.
        store.engine.dispose()
        settle(temporary)
        claim(temporary, path)  # another process may have been faster
    finally:
        temporary.unlink(missing_ok=True)


def set_aside_if_damaged(uri: str, say: Callable[[str], None]) -> None:
    """Rename a damaged SQLite file of MLflow, so that the next delivery makes a new one.

    Args:
        uri: the tracking address.
        say: called with one line if the file was renamed.
    """
    path = sqlite_path(uri)
    if path is None or not path.is_file() or (damage := _damage_of(path)) is None:
        return
    aside = unused_name(path.with_name(f"{path.name}.damaged"))
    path.rename(aside)
    say(
        f"{path} is damaged ({damage}): it is now {aside.name}, and a new one is made; "
        "`mixunlearn sync STUDY` brings each other study back"
    )


def unused_name(path: Path) -> Path:
    """Return a path that does not exist: the given one, or one with a number at its end."""
    names = itertools.chain([path], (Path(f"{path}{n}") for n in itertools.count(2)))
    return next(each for each in names if not each.exists())


def _damage_of(path: Path) -> str | None:
    """Return why a file is no complete database; `None` if it is one, or if it is locked."""
    if path.stat().st_size == 0:  # MLflow would fill it, but not twice in one process
        return "it is empty"
    try:
        with closing(sqlite3.connect(path)) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:  # locked, or no permission: not damaged
        return None
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if answer == "ok" else str(answer)


def _remove_unfinished(path: Path) -> None:
    """Remove what processes that were killed in `make_database` have left."""
    for left in path.parent.glob(".*.tmp*"):
        name, _, number = left.name.partition(".tmp")[0].rpartition(".")
        if name == f".{path.name}" and number.isdecimal() and not _busy(int(number)):
            left.unlink(missing_ok=True)


def _busy(process: int) -> bool:
    """Return whether another process runs: it may be making the database now."""
    return process != os.getpid() and psutil.pid_exists(process)


def make_client(uri: str) -> "MlflowClient":
    """Return a client of tracking and registry, which have the same address.

    Raises:
        sqlite3.Error: it is a database that cannot be read or written.
    """
    from mlflow import MlflowClient  # noqa: PLC0415 (takes seconds: never at start-up)

    if (path := sqlite_path(uri)) is not None and writable(path):
        settle(path)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    if file_replaced(uri):
        # MLflow keeps connections for the whole process: they would go on with the old file. It
        # has no public way to close them, and its registry has connections of its own.
        inner: Any = client
        for store in (inner._tracking_client.store, inner._get_registry_client().store):
            store.engine.dispose()
    _files[uri] = _file_of(uri)
    return client


def file_replaced(uri: str) -> bool:
    """Return whether an SQLite file was removed or replaced since this process opened it."""
    return uri in _files and _files[uri] != _file_of(uri)


def _file_of(uri: str) -> tuple[int, int] | None:
    """Return which file an SQLite address leads to at present; `None` without one."""
    path = sqlite_path(uri)
    try:
        found = path.stat() if path else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found else None


def remote_run(run: "MlflowRun") -> RemoteRun:
    """Return what MLflow has of a run, as plain data."""
    return RemoteRun(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        deleted=run.info.lifecycle_stage == DELETED,
        status=run.info.status,
        tags=run.data.tags,
        params=run.data.params,
        metrics=run.data.metrics,
    )
