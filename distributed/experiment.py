"""The experiment: what a user writes down, checked and typed before anything runs."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from mixunlearn.data.names import known_names
from mixunlearn.data.sources import SOURCES
from mixunlearn.errors import InputError
from mixunlearn.methods import METHODS
from mixunlearn.models import MODELS
from mixunlearn.signature import signature

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
    """Where images come from; paths and columns are those of `parquet`."""

    source: str
    train: str | None = None
    test: str | None = None
    image: str | None = None
    label: str | None = None
    limit: Limit = Limit()
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def options(self) -> dict[str, object]:
        """Return what was given for the source itself."""
        given = {"train": self.train, "test": self.test, "image": self.image, "label": self.label}
        return {key: value for key, value in given.items() if value is not None}


class Model(Section):
    """Which classifier; `width` is the number of channels of its first stage."""

    name: str
    width: Count | None = None


class ClassTask(Section):
    """Forget all training images of some classes."""

    kind: Literal["class"]
    classes: list[int] = [0]


class DataTask(Section):
    """Forget a fraction of the training images of some classes (default: the upper half)."""

    kind: Literal["data"]
    classes: list[int] | None = None
    fraction: Fraction = 0.4


class RandomTask(Section):
    """Forget a fraction of all training images."""

    kind: Literal["random"]
    fraction: Fraction = 0.1


Task: TypeAlias = Annotated[ClassTask | DataTask | RandomTask, Field(discriminator="kind")]


class References(Section):
    """How originals and references are trained, and how many references."""

    seeds: Count = 3
    epochs: Count = 8
    lr: Positive = 1e-3
    batch: Count = 32
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4


class Search(Section):
    """What is searched, how, and for how long."""

    trials: Count = 16
    epochs: Count = 6
    sampler: Literal["tpe", "random", "cmaes", "gp"] = "tpe"
    scheduler: Literal["asha", "median", "none"] = "asha"
    objective: str = "gap/avg"
    seed: Annotated[int, Field(ge=0)] = 0
    report_seeds: Annotated[int, Field(ge=3)] = 3
    space: dict[str, Any] = {}


class Resources(Section):
    """What one trial is given; fractions share a GPU."""

    cpu: Positive = 1
    gpu: Annotated[float, Field(ge=0)] = 0
    trial_seconds: Positive | None = None


class Tracking(Section):
    """Where MLflow keeps runs and artifacts; null is the embedded default under the home."""

    uri: str | None = None
    storage: str | None = None


class Experiment(Section):
    """An experiment: data, model, task, labels, method, references, search, resources, tracking."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    data: Data
    model: Model
    task: Task
    labels: Literal["aware", "agnostic"] = "aware"
    method: str = "mixunlearn"
    references: References = References()
    search: Search = Search()
    resources: Resources = Resources()
    tracking: Tracking = Tracking()

    def signature(self, digest: str) -> str:
        """Return eight hex digits for all that can change a study's numbers.

        More trials are the same study, and so are another home, name or cluster.

        Args:
            digest: of the data set, in place of the paths it was read from.
        """
        content = self.model_dump(exclude={"name", "tracking", "resources"})
        content["data"] = {**content["data"], "train": None, "test": None, "digest": digest}
        del content["search"]["trials"]
        return signature(content)


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, as everywhere else."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_experiment(path: Path, settings: Iterable[str] = ()) -> Experiment:
    """Return the experiment of a YAML file, with `key=value` settings put over it.

    Raises:
        InputError: no such file, not YAML, or a key or value that means nothing.
    """
    try:
        content = yaml.load(path.read_text(), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise InputError(
            "EXPERIMENT", str(path), f"{reason}; presets are in experiments/"
        ) from error
    except yaml.YAMLError as error:
        raise InputError("EXPERIMENT", str(path), f"not YAML: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError("EXPERIMENT", str(path), "must be a mapping of keys to values")
    for setting in settings:
        _put(content, setting)
    return make_experiment(content)


def make_experiment(content: dict[str, Any]) -> Experiment:
    """Return the experiment of nested plain data.

    Raises:
        InputError: a key or value that means nothing; only the first is named.
    """
    try:
        experiment = Experiment.model_validate(content)
    except ValidationError as error:
        raise _first_error(error.errors()[0]) from error
    _check_names(experiment)
    return experiment


def read_data(source: str, settings: Iterable[str] = ()) -> Data:
    """Return the `data` section for a source, with `data.key=value` settings put over it."""
    return _alone(settings, {"data": {"source": source}}).data


def read_tracking(settings: Iterable[str] = ()) -> Tracking:
    """Return the `tracking` section that `tracking.key=value` settings make."""
    return _alone(settings, {}).tracking


def _alone(settings: Iterable[str], content: dict[str, Any]) -> Experiment:
    """Return an experiment of which only some sections matter."""
    some = {"name": "none", "data": {"source": "digits"}, "model": {"name": "cnn"}}
    whole = {**some, "task": {"kind": "class"}, **content}
    for setting in settings:
        _put(whole, setting)
    return make_experiment(whole)


def _check_names(experiment: Experiment) -> None:
    """Check the names that registries know."""
    names: list[tuple[str, str, Iterable[str]]] = [
        ("data.source", experiment.data.source, SOURCES),
        ("model.name", experiment.model.name, MODELS),
        ("method", experiment.method, METHODS),
    ]
    for key, name, known in names:
        if name not in known:
            raise InputError(key, name, f"unknown; {known_names(name, known)}")
    if experiment.labels == "agnostic" and METHODS[experiment.method].needs_labels:
        free = ", ".join(name for name, method in METHODS.items() if not method.needs_labels)
        remedy = f"{experiment.method} needs labels; set labels: aware, or take {free}"
        raise InputError("labels", "agnostic", remedy)


def _put(content: dict[str, Any], setting: str) -> None:
    """Put one `a.b=value` into nested mappings."""
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise InputError("--set", setting, "write key=value, for example search.trials=8")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError("--set", setting, f"the value is not YAML: {_one_line(error)}") from error
    *parents, last = key.strip().split(".")
    for parent in parents:
        below = content.get(parent)
        content[parent] = content = dict(below) if isinstance(below, dict) else {}
    content[last] = value


def _first_error(error: ErrorDetails) -> InputError:
    """Return what pydantic found as one line of ours."""
    location = [str(part) for part in error["loc"]]
    if location[0] == "task" and len(location) > 1:
        del location[1]  # the kind of task, which pydantic puts between
    key = ".".join(location)
    match error["type"]:
        case "extra_forbidden":
            near = get_close_matches(key, _keys(), n=1, cutoff=0.0)[0]
            return InputError(key, error["input"], f"unknown key; did you mean {near}?")
        case "missing":
            return InputError(key, None, "missing; presets in experiments/ show it")
        case "union_tag_invalid" | "union_tag_not_found":
            kinds = "class, data, random"
            given = error["input"].get("kind") if isinstance(error["input"], dict) else None
            return InputError("task.kind", given, f"must be one of {kinds}")
    return InputError(key, error["input"], error["msg"].removeprefix("Input ").lower())


def _keys() -> list[str]:
    """Return all keys of an experiment file, dotted."""
    tasks = (ClassTask, DataTask, RandomTask)
    keys = {f"task.{name}" for task in tasks for name in task.model_fields}
    for name, field in Experiment.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            keys |= {f"{name}.{key}" for key in section.model_fields}
        else:
            keys.add(name)
    return sorted(keys | {f"data.limit.{key}" for key in Limit.model_fields})


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
