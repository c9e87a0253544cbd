"""The place where MLflow keeps runs: whether it answers, and a database for it."""

import contextlib
import importlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from distributed.runtime.addresses import REMOTE, ask_database, sqlite_path
from distributed.runtime.text import one_line, redact
from distributed.tracking.run_buffer import (
    RemoteRun,
)
from mixunlearn.errors import InputError, MissingError, MixUnlearnError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun


# Set before MLflow is imported, unless the user has. Without retries of MLflow's own because they
# repeat calls that may have worked (a doubled run); a delivery that failed is tried again anyway.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nobody is called who was not asked for
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # no lines about every migration of a new database
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output belongs to --json
}
# Answers that will be the same next time; everything else is tried again.
REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST"}


def reachable(uri: str) -> str | None:
    """Return None if the store at `uri` answers, or would be made by a sweep; else the reason.

    Creates nothing. May take as long as one request to a server that does not answer.
    """
    set_defaults()
    try:
        if is_database(uri):
            ask_database(uri)
        else:
            make_client(uri).search_experiments(max_results=1)
    except Exception as error:
        return one_line(error)
    return None


def require_runs(uri: str) -> None:
    """Check that there are runs to look at: MLflow would make a database, or try for minutes.

    Raises:
        MissingError: nothing has been tracked there yet.
        MixUnlearnError: it does not answer.
    """
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise MissingError(f"no study was tracked at {path}: run `mixunlearn sweep EXPERIMENT`")
    if reason := reachable(uri):
        raise MixUnlearnError(f"{redact(uri)} does not answer: {reason}")


def read_run(uri: str, run_id: str) -> RemoteRun:
    """Return what MLflow holds of a run.

    Raises:
        InputError: it has no such run.
        MixUnlearnError: it does not answer, or has no runs yet.
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
    """Set MLflow's environment variables that the user has not set, and its manners."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    # A traceback for each try, when the disk is full; we say it in a line, once.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def import_mlflow() -> None:
    """Import MLflow whole; where another thread is importing it, wait until it has.

    `from mlflow.models import Model` alone does not wait: it fails on what is not there yet.
    """
    importlib.import_module("mlflow")  # takes seconds: never at start-up


def make_database(path: Path, artifacts: str | None) -> None:
    """Make a SQLite database of MLflow's that is not there yet, whole or not at all.

    MLflow makes its tables by migrations, one after the other, and SQLite keeps what a killed one
    has done: such a database can never be opened again.

    Args:
        path: of the file; another process may make it at the same time.
        artifacts: where files of its default experiment would go; None: MLflow decides.

    Raises:
        Exception: what kept MLflow from making it.
    """
    import_mlflow()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        root = artifacts or str(path.parent)
        store = SqlAlchemyStore(f"sqlite:///{temporary}", root)  # type: ignore[no-untyped-call]
        store.engine.dispose()
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_client(uri: str) -> "MlflowClient":
    """Return a client of tracking and registry, which are one."""
    from mlflow import MlflowClient  # noqa: PLC0415 (takes seconds: never at start-up)

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def remote_run(run: "MlflowRun") -> RemoteRun:
    """Return what MLflow holds of a run, as plain data."""
    return RemoteRun(
        run_id=run.info.run_id,
        status=run.info.status,
        tags=run.data.tags,
        params=run.data.params,
        metrics=run.data.metrics,
    )
