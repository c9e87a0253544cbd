"""Checks of an experiment that types alone cannot make."""

import os
from collections.abc import Callable, Iterable
from functools import partial

from distributed.config.errors import require_all
from distributed.config.experiment import OVERRIDING, Experiment, Model, References
from distributed.runtime.text import redact_address
from mixunlearn.data import SOURCES
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.lazy import load
from mixunlearn.methods import METHODS
from mixunlearn.models import MODELS
from mixunlearn.models.factories import PUBLISHED, TORCHVISION, find_factory
from mixunlearn.tasks.written import level
from mixunlearn.wording import with_article

RECORDS = {"sqlite", "postgresql"}  # databases that Optuna and the study lock work with
DATABASES = {"sqlite", "mysql", "postgresql", "mssql"}  # databases in which MLflow keeps runs
STORAGES = (  # where MLflow can keep artifacts
    *("file", "s3", "r2", "b2", "gs", "wasbs", "abfss", "dbfs", "hdfs", "viewfs"),
    *("ftp", "sftp", "http", "https", "mlflow-artifacts"),
)
SMALLEST_SHARE = 0.01  # of a GPU


def check_tracking(key: str, uri: str) -> None:
    """Check that MLflow can keep runs at an address; does not connect to it.

    Args:
        key: the setting or environment variable that holds it, for the error message.
        uri: the address.

    Raises:
        InputError: it is the address neither of a tracking server nor of a database.
    """
    scheme, _, rest = uri.partition("://")
    server = scheme in {"http", "https"} and rest.strip("/")
    database = scheme.partition("+")[0] in DATABASES and rest.strip("/")
    if server or database or scheme.startswith("databricks"):
        return
    # A folder is MLflow's old kind of store: MLflow refuses it unless this variable is set.
    if scheme in {"file", uri} and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() == "true":
        return
    example = "http://HOST:5000, sqlite:///FOLDER/mlflow.db or postgresql://USER@HOST/NAME"
    raise InputError(key, redact_address(uri), f"must be an address like {example}")


def check_tracking_variable(uri: str | None) -> None:
    """Check MLFLOW_TRACKING_URI, which counts if the experiment sets no address."""
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if address and not uri:
        check_tracking("MLFLOW_TRACKING_URI", address)


def check_names(experiment: Experiment, *, model: bool) -> None:
    """Check that the registries know the names, without importing what they stand for.

    Args:
        experiment: what names a data source, a method and a model.
        model: whether to check the model's name, too.
    """
    checks: list[Callable[[], object]] = [
        partial(_check_name, "data.source", experiment.data.source, SOURCES),
        partial(_check_name, "method", experiment.method, METHODS),
    ]
    name = experiment.model.name
    if model and name not in MODELS and ":" not in name:
        checks.append(partial(find_factory, name))  # it says what else there is
    require_all(*checks)


def _check_name(key: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise InputError(key, name, f"unknown; {known_names(name, known)}")


def check_model(model: Model) -> None:
    """Check that the model exists, with the width and the weights that it should have."""
    if model.name not in MODELS:
        find_factory(model.name)  # imports PyTorch, which takes seconds
    if model.name.startswith(TORCHVISION):
        if model.width is not None:
            raise InputError(
                "model.width", model.width, "torchvision models have a fixed width; leave it out"
            )
        return
    for name in ("weights", "original"):
        if getattr(model, name) == PUBLISHED:
            remedy = f"only {TORCHVISION}NAME has published weights; use such a model, or a file"
            raise InputError(f"model.{name}", PUBLISHED, remedy)


def check_recipe(references: References) -> None:
    """Check that the user's own training exists, and that no other key of a recipe is set.

    Raises:
        InputError: it cannot be imported, or another key would have no effect.
    """
    if references.function is None:
        return
    for name in OVERRIDING:
        value = getattr(references, name)
        if value != References.model_fields[name].default:
            remedy = f"has no effect beside references.recipe = {references.recipe!r}; leave it out"
            raise InputError(f"references.{name}", value, remedy)
    load("mixunlearn.own_recipe:find_train")(references.function)


def check_method(experiment: Experiment) -> None:
    """Check that the method fits the task and the available labels."""
    method, labels = experiment.method, experiment.labels
    task = level(experiment.task.model_dump())
    reason = METHODS[method].incompatible(task, labels)
    if reason is None:
        return
    fit = ", ".join(name for name in METHODS if METHODS[name].incompatible(task, labels) is None)
    if METHODS[method].incompatible(task, "aware") is None:
        raise InputError("labels", labels, f"{method} {reason}; set labels: aware, or use {fit}")
    kind = experiment.task.kind
    raise InputError("method", method, f"{reason}, not {with_article(kind)} task; use {fit}")


def check_gpu(gpu: float) -> None:
    """Check that Ray can allocate this: a share of one GPU, or whole GPUs."""
    # Ray itself would refuse 1.5 only after data and models are prepared.
    if not (SMALLEST_SHARE <= gpu <= 1 or float(gpu).is_integer()):
        remedy = f"must be a whole number, or {SMALLEST_SHARE:g} to 1 for a share of one GPU"
        raise InputError("resources.gpu", gpu, remedy)


def check_storage(storage: str | None) -> None:
    """Check that MLflow can keep artifacts at such an address; a bare path is a folder."""
    if storage and "://" in storage and storage.partition("://")[0] not in STORAGES:
        remedy = f"must be a folder or an address that starts with {', '.join(STORAGES)}"
        raise InputError("tracking.storage", redact_address(storage), remedy)


def check_record(address: str | None) -> None:
    """Check that a study can be recorded at an address; does not connect to it."""
    scheme, _, rest = (address or "").partition("://")
    if address and (scheme.partition("+")[0] not in RECORDS or not rest.strip("/")):
        remedy = "must be an address like postgresql://USER@HOST/NAME or sqlite:////FOLDER/FILE"
        raise InputError("storage.study", redact_address(address), remedy)


def check_apart(study: str | None, tracking: str | None) -> None:
    """Check that Optuna and MLflow do not share a database.

    Both keep the version of their schema in a table of the same name.
    """
    if study and tracking and study.partition("://")[2] == tracking.partition("://")[2]:
        remedy = "MLflow keeps its runs there; use a separate database for studies"
        raise InputError("storage.study", redact_address(study), remedy)
