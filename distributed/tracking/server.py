"""Access to MLflow: whether it answers, its clients, and a new database for it."""

import contextlib
import importlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from distributed.runtime.addresses import REMOTE, ask_database, sqlite_address, sqlite_path
from distributed.runtime.text import one_line, redact
from distributed.tracking.locations import settle, writable
from distributed.tracking.run_buffer import RemoteRun
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
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # no lines about every migration of a new database
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output belongs to --json
}
# Errors that would be the same at a retry; everything else is retried.
REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST"}


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
        return one_line(error)
    return None


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
        # A link, unlike a rename, cannot replace the database of another process.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def remote_run(run: "MlflowRun") -> RemoteRun:
    """Return what MLflow has of a run, as plain data."""
    return RemoteRun(
        run_id=run.info.run_id,
        status=run.info.status,
        tags=run.data.tags,
        params=run.data.params,
        metrics=run.data.metrics,
    )
