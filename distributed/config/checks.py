"""What types alone cannot tell of an experiment."""

import os
from collections.abc import Iterable

from distributed.config.experiment import Experiment, Model
from distributed.runtime.text import redact
from mixunlearn.data import SOURCES
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.methods import METHODS
from mixunlearn.models import MODELS
from mixunlearn.models.factories import PUBLISHED, TORCHVISION, find_factory
from mixunlearn.tasks.written import level

RECORDS = {"sqlite", "postgresql"}  # that Optuna and our lock work with
DATABASES = {"sqlite", "mysql", "postgresql", "mssql"}  # that MLflow keeps runs in
STORAGES = (  # that MLflow keeps artifacts in
    *("file", "s3", "r2", "b2", "gs", "wasbs", "abfss", "dbfs", "hdfs", "viewfs"),
    *("ftp", "sftp", "http", "https", "mlflow-artifacts"),
)
SMALLEST_SHARE = 0.01  # of a GPU


def check_tracking(key: str, uri: str) -> None:
    """Refuse an address at which MLflow cannot keep runs; does not look whether it answers.

    Args:
        key: where it was set, for the error message.
        uri: the address.

    Raises:
        InputError: it is neither a tracking server's nor a database's.
    """
    scheme, _, rest = uri.partition("://")
    server = scheme in {"http", "https"} and rest.strip("/")
    database = scheme.partition("+")[0] in DATABASES and rest.strip("/")
    if server or database or scheme.startswith("databricks"):
        return
    # Folders are MLflow's old store, which it opens only for those who ask for it.
    if scheme in {"file", uri} and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() == "true":
        return
    example = "http://HOST:5000, sqlite:///FOLDER/mlflow.db or postgresql://USER@HOST/NAME"
    raise InputError(key, redact(uri), f"must be an address like {example}")


def check_names(experiment: Experiment) -> None:
    """Check the names that registries know."""
    names: list[tuple[str, str, Iterable[str]]] = [
        ("data.source", experiment.data.source, SOURCES),
        ("method", experiment.method, METHODS),
    ]
    for key, name, known in names:
        if name not in known:
            raise InputError(key, name, f"unknown; {known_names(name, known)}")


def check_model(model: Model) -> None:
    """Check that there is such a model, with the width and the weights it is to have."""
    if model.name not in MODELS:
        find_factory(model.name)  # imports PyTorch, which takes seconds
    if model.name.startswith(TORCHVISION):
        if model.width is not None:
            raise InputError(
                "model.width", model.width, "torchvision's have one width; leave it out"
            )
    elif model.weights == PUBLISHED:
        remedy = f"only {TORCHVISION}NAME has published weights; take it, or name a file"
        raise InputError("model.weights", model.weights, remedy)


def check_method(experiment: Experiment) -> None:
    """Check that the method makes sense for the task and the labels there are."""
    method, labels = experiment.method, experiment.labels
    task = level(experiment.task.model_dump())
    reason = METHODS[method].incompatible(task, labels)
    if reason is None:
        return
    fit = ", ".join(name for name in METHODS if METHODS[name].incompatible(task, labels) is None)
    if METHODS[method].incompatible(task, "aware") is None:
        raise InputError("labels", labels, f"{method} {reason}; set labels: aware, or take {fit}")
    kind = experiment.task.kind
    raise InputError("method", method, f"{reason}, not a {kind} task; take {fit}")


def check_gpu(gpu: float) -> None:
    """Check that Ray can count this: one GPU may be shared, several are whole."""
    if not (SMALLEST_SHARE <= gpu <= 1 or float(gpu).is_integer()):
        remedy = f"must be a whole number, or {SMALLEST_SHARE:g} to 1 for a share of one GPU"
        raise InputError("resources.gpu", gpu, remedy)


def check_storage(storage: str | None) -> None:
    """Check that MLflow knows this kind of place; a bare path is a folder."""
    if storage and "://" in storage and storage.partition("://")[0] not in STORAGES:
        remedy = f"must be a folder or an address; they start with {', '.join(STORAGES)}"
        raise InputError("tracking.storage", redact(storage), remedy)


def check_record(address: str | None) -> None:
    """Check that a study can be recorded there; does not look whether it answers."""
    scheme, _, rest = (address or "").partition("://")
    if address and (scheme.partition("+")[0] not in RECORDS or not rest.strip("/")):
        remedy = "must be an address like postgresql://USER@HOST/NAME or sqlite:////FOLDER/FILE"
        raise InputError("storage.study", redact(address), remedy)


def check_apart(study: str | None, tracking: str | None) -> None:
    """Check that Optuna and MLflow do not share a database: both count versions in one table."""
    if study and tracking and study.partition("://")[2] == tracking.partition("://")[2]:
        remedy = "MLflow keeps its runs there; a study needs a database of its own"
        raise InputError("storage.study", redact(study), remedy)
