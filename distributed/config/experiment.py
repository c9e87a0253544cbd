"""The experiment: what a user writes down, checked and typed before anything runs."""

import os
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_serializer,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticKnownError

from distributed.config.yaml_file import put, read_file
from distributed.runtime.text import redact
from mixunlearn.data import LARGEST_SIZE, SOURCES
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.methods import METHODS
from mixunlearn.models import MODELS
from mixunlearn.models.factories import PUBLISHED, TORCHVISION, find_factory
from mixunlearn.signature import signature
from mixunlearn.tasks import TASKS
from mixunlearn.tasks import Task as Kind
from mixunlearn.tasks.keys import Key
from mixunlearn.tasks.written import level

Count: TypeAlias = Annotated[int, Field(ge=1)]
Positive: TypeAlias = Annotated[float, Field(gt=0)]
Fraction: TypeAlias = Annotated[float, Field(gt=0, le=1)]


class Section(BaseModel):
    """A mapping of the experiment file; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Limit(Section):
    """How many images to keep of each part of a data set, drawn at random."""

    train: Count | None = None
    test: Count | None = None


class Data(Section):
    """Where images come from; of the options, a source has some, see `docs/data.md`."""

    source: str
    train: str | None = None
    test: str | None = None
    image: str | None = None
    label: str | None = None
    root: str | None = None
    size: Annotated[int, Field(ge=1, le=LARGEST_SIZE)] | None = None
    download: bool | None = None
    limit: Limit = Limit()
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def options(self) -> dict[str, object]:
        """Return what was given for the source itself."""
        return self.model_dump(exclude={"source", "limit", "seed"}, exclude_none=True)


class Model(Section):
    """Which classifier; `width` is the number of channels of its first stage.

    `weights` is what originals and references start from: a file, or DEFAULT for torchvision's.
    """

    name: str
    width: Annotated[int, Field(ge=1, le=1024)] | None = None
    weights: str | None = None


class Task(Section):
    """What is to be forgotten: a kind of `mixunlearn.tasks.TASKS`, with the keys of that kind."""

    model_config = ConfigDict(extra="allow")  # after `_of_kind` they are those of the kind

    kind: str

    @model_validator(mode="before")
    @classmethod
    def _of_kind(cls, task: object) -> object:
        """Return the task with its defaults; values are checked as far as it goes without data."""
        if isinstance(task, Task):
            return task
        if not isinstance(task, dict):
            raise PydanticKnownError("model_attributes_type")
        kind = task.get("kind")
        if not isinstance(kind, str) or kind not in TASKS:
            raise PydanticKnownError("enum", {"expected": ", ".join(TASKS)})
        return _section(TASKS[kind]).model_validate(task).model_dump()


@cache
def _section(kind: type[Kind]) -> type[Section]:
    """Return what may be written for a kind of task, for pydantic."""
    keys: dict[str, Any] = {name: _field(key) for name, key in kind.schema().items()}
    return create_model("Task", __base__=Section, kind=(str, ...), **keys)


def _field(key: Key) -> tuple[Any, Any]:
    """Return the type and the default of a key."""
    bounds: dict[str, Any] = dict(key.bounds)
    written = key.written | None if key.default is None else key.written
    return written, Field(key.default, **bounds)


class References(Section):
    """How originals and references are trained, and how many references."""

    seeds: Count = 3
    epochs: Count = 8
    lr: Positive = 1e-3
    batch: Count = 32
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4


class Search(Section):
    """What is searched, how, and for how long.

    `start` holds configurations, or parts of some, that are tried right after the default.
    """

    trials: Count = 16
    epochs: Count = 6
    sampler: Literal["tpe", "random", "cmaes", "gp"] = "tpe"
    scheduler: Literal["asha", "median", "none"] = "asha"
    objective: str = "gap/avg"
    seed: Annotated[int, Field(ge=0)] = 0
    report_seeds: Annotated[int, Field(ge=3)] = 3
    space: dict[str, Any] = {}
    start: list[dict[str, Any]] = []


class Resources(Section):
    """What one trial is given; fractions share a GPU."""

    cpu: Annotated[float, Field(ge=0.01)] = 1
    gpu: Annotated[float, Field(ge=0)] = 0
    trial_seconds: Positive | None = None


class Tracking(Section):
    """Where MLflow keeps runs and artifacts; null is the embedded default under the home."""

    uri: str | None = None
    storage: str | None = None

    @field_serializer("uri", "storage")
    def _without_password(self, address: str | None) -> str | None:
        return None if address is None else redact(address)


class Storage(Section):
    """Where the record of a study and its files are kept; null is under the home.

    `study` is the address of a database for Optuna, `files` of a folder for the store, the
    checkpoints and the results, on any file system that pyarrow knows.
    """

    study: str | None = None
    files: str | None = None

    @field_serializer("study", "files")
    def _without_password(self, address: str | None) -> str | None:
        return None if address is None else redact(address)


class Experiment(Section):
    """An experiment: what to forget, how to search for it, with what and where to keep it all."""

    name: Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    data: Data
    model: Model
    task: Task
    labels: Literal["aware", "agnostic"] = "aware"
    method: str = "mixunlearn"
    references: References = References()
    search: Search = Search()
    resources: Resources = Resources()
    tracking: Tracking = Tracking()
    storage: Storage = Storage()

    def signature(self, digest: str, ids: Sequence[int] = (), weights: str | None = None) -> str:
        """Return eight hex digits for all that can change a study's numbers.

        More trials are the same study, and so are another home, name or cluster.

        Args:
            digest: of the data set, in place of where and how it was read.
            ids: of the images to forget where they are listed, in place of the list or its file.
            weights: digest of those the models start from, in place of the file.
        """
        content = self.model_dump(exclude={"name", "tracking", "resources", "storage"})
        content["data"] |= {"train": None, "test": None, "digest": digest}
        for key in ("root", "size", "download"):  # what they change shows in the digest
            del content["data"][key]
        for name, written in TASKS[self.task.kind].schema().items():
            if written.lists_rows:
                content["task"][name] = list(ids)
        content["model"]["weights"] = weights
        if weights is None:  # as before there were any
            del content["model"]["weights"]
        del content["search"]["trials"]
        if not self.search.start:  # as before there were any
            del content["search"]["start"]
        return signature(content)


RECORDS = {"sqlite", "postgresql"}  # that Optuna and our lock work with
DATABASES = {"sqlite", "mysql", "postgresql", "mssql"}  # that MLflow keeps runs in
STORAGES = (  # that MLflow keeps artifacts in
    *("file", "s3", "r2", "b2", "gs", "wasbs", "abfss", "dbfs", "hdfs", "viewfs"),
    *("ftp", "sftp", "http", "https", "mlflow-artifacts"),
)
SMALLEST_SHARE = 0.01  # of a GPU
REMEDIES = {  # by the type of pydantic's error
    "string_type": "must be text; put it in quotes",
    "int_type": "must be a whole number, for example 8",
    "bool_type": "must be true or false",
    "float_type": "must be a number, for example 0.5",
    "finite_number": "must be a finite number",
    "list_type": "must be a list, for example [0]",
    "dict_type": "must be a mapping, for example {{lr: 1e-4}}",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping, for example {{kind: class}}",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "must be letters, digits and . _ - with a letter or digit first",
    "string_too_long": "must have at most {max_length} characters",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
}


def read_experiment(path: Path, settings: Iterable[str] = ()) -> Experiment:
    """Return the experiment of a YAML file, with `key=value` settings put over it.

    Raises:
        InputError: no such file, not YAML, or a key or value that means nothing.
    """
    content = read_file(path)
    put(content, settings)
    return make_experiment(content)


def make_experiment(content: dict[str, Any]) -> Experiment:
    """Return the experiment of nested plain data.

    Raises:
        InputError: a key or value that means nothing; only the first is named.
    """
    try:
        experiment = Experiment.model_validate(content)
    except ValidationError as error:
        raise _first_error(error.errors(), content.get("task")) from error
    _check_names(experiment)
    _check_model(experiment.model)
    _check_method(experiment)
    _check_gpu(experiment.resources.gpu)
    if experiment.tracking.uri is not None:
        check_tracking("tracking.uri", experiment.tracking.uri)
    _check_storage(experiment.tracking.storage)
    _check_record(experiment.storage.study)
    _check_apart(experiment.storage.study, experiment.tracking.uri)
    return experiment


def read_data(source: str, settings: Iterable[str] = ()) -> Data:
    """Return the `data` section for a source, with `data.key=value` settings put over it."""
    return _alone(settings, {"data": {"source": source}}).data


def read_storage(settings: Iterable[str] = ()) -> Storage:
    """Return the `storage` section that `storage.key=value` settings make."""
    return _alone(settings, {}).storage


def read_tracking(settings: Iterable[str] = ()) -> Tracking:
    """Return the `tracking` section that `tracking.key=value` settings make."""
    return _alone(settings, {}).tracking


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


def _alone(settings: Iterable[str], content: dict[str, Any]) -> Experiment:
    """Return an experiment of which only some sections matter."""
    some = {"name": "none", "data": {"source": "digits"}, "model": {"name": "cnn"}}
    whole = {**some, "task": {"kind": "class"}, **content}
    put(whole, settings)
    return make_experiment(whole)


def _check_names(experiment: Experiment) -> None:
    """Check the names that registries know."""
    names: list[tuple[str, str, Iterable[str]]] = [
        ("data.source", experiment.data.source, SOURCES),
        ("method", experiment.method, METHODS),
    ]
    for key, name, known in names:
        if name not in known:
            raise InputError(key, name, f"unknown; {known_names(name, known)}")


def _check_model(model: Model) -> None:
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


def _check_method(experiment: Experiment) -> None:
    """Check that the method makes sense for the task and the labels there are."""
    method, labels = experiment.method, experiment.labels
    task = level(experiment.task.model_dump())
    reason = METHODS[method].unfit(task, labels)
    if reason is None:
        return
    fit = ", ".join(name for name in METHODS if METHODS[name].unfit(task, labels) is None)
    if METHODS[method].unfit(task, "aware") is None:
        raise InputError("labels", labels, f"{method} {reason}; set labels: aware, or take {fit}")
    kind = experiment.task.kind
    raise InputError("method", method, f"{reason}, not a {kind} task; take {fit}")


def _check_gpu(gpu: float) -> None:
    """Check that Ray can count this: one GPU may be shared, several are whole."""
    if not (SMALLEST_SHARE <= gpu <= 1 or float(gpu).is_integer()):
        remedy = f"must be a whole number, or {SMALLEST_SHARE:g} to 1 for a share of one GPU"
        raise InputError("resources.gpu", gpu, remedy)


def _check_storage(storage: str | None) -> None:
    """Check that MLflow knows this kind of place; a bare path is a folder."""
    if storage and "://" in storage and storage.partition("://")[0] not in STORAGES:
        remedy = f"must be a folder or an address; they start with {', '.join(STORAGES)}"
        raise InputError("tracking.storage", redact(storage), remedy)


def _check_record(address: str | None) -> None:
    """Check that a study can be recorded there; does not look whether it answers."""
    scheme, _, rest = (address or "").partition("://")
    if address and (scheme.partition("+")[0] not in RECORDS or not rest.strip("/")):
        remedy = "must be an address like postgresql://USER@HOST/NAME or sqlite:////FOLDER/FILE"
        raise InputError("storage.study", redact(address), remedy)


def _check_apart(study: str | None, tracking: str | None) -> None:
    """Check that Optuna and MLflow do not share a database: both count versions in one table."""
    if study and tracking and study.partition("://")[2] == tracking.partition("://")[2]:
        remedy = "MLflow keeps its runs there; a study needs a database of its own"
        raise InputError("storage.study", redact(study), remedy)


def _first_error(errors: Sequence[ErrorDetails], task: Any) -> InputError:  # noqa: ANN401
    """Return one thing pydantic found as one line of ours; `task` is what was written for it."""
    # A key is often missing because it is there misspelt.
    error = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    location = [str(part) for part in error["loc"]]
    key, value = ".".join(location), error["input"]
    match error["type"]:
        case "extra_forbidden":
            of_task = location[0] == "task" and len(location) > 1
            remedy = _no_task_key(location[1], task["kind"]) if of_task else _nearest(key)
            return InputError(key, value, remedy)
        case "missing":
            return InputError(key, None, "missing; presets in experiments/ show it")
        case "enum":
            return InputError("task.kind", value.get("kind"), f"must be one of {', '.join(TASKS)}")
    remedy = REMEDIES.get(error["type"], error["msg"]).format(**error.get("ctx", {}))
    return InputError(key, value, remedy)


def _no_task_key(name: str, kind: str) -> str:
    """Return what to do about a key that tasks of a kind do not have."""
    others = [other for other, task in TASKS.items() if name in task.schema()]
    if others:
        return f"a {kind} task has no such key; it is one of {', '.join(others)} tasks"
    known = known_names(name, ["kind", *TASKS[kind].schema()])
    return f"a {kind} task has no such key; {known}"


def _nearest(key: str) -> str:
    return f"unknown key; did you mean {get_close_matches(key, _keys(), n=1, cutoff=0.0)[0]}?"


def _keys() -> list[str]:
    """Return all keys of an experiment file, dotted."""
    keys = {f"task.{name}" for task in TASKS.values() for name in task.schema()}
    for name, field in Experiment.model_fields.items():
        keys.add(name)
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            keys |= {f"{name}.{key}" for key in section.model_fields}
    return sorted(keys | {f"data.limit.{key}" for key in Limit.model_fields})
