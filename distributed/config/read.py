"""Reads an experiment file: YAML with settings on top, checked."""

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import (
    ValidationError,
)
from pydantic_core import ErrorDetails

from distributed.config.checks import (
    check_apart,
    check_gpu,
    check_method,
    check_model,
    check_names,
    check_recipe,
    check_record,
    check_storage,
    check_tracking,
    check_tracking_variable,
)
from distributed.config.errors import all_translated, require_all, translated
from distributed.config.experiment import Data, Experiment, Limit, Storage, Tracking
from distributed.config.section import Section
from distributed.config.yaml_file import put, read_file
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.recipes import KEYS as RECIPE_KEYS
from mixunlearn.tasks import TASKS
from mixunlearn.wording import with_article

LARGEST = 2**63 - 1  # whole number in a database


def read_experiment(
    path: Path, settings: Iterable[str] = (), *, reading: bool = False
) -> Experiment:
    """Return the experiment in a YAML file, with `key=value` settings applied on top.

    Args:
        path: the file.
        settings: each replaces or adds a value.
        reading: as for `make_experiment`.

    Raises:
        InputError: no such file, not YAML, or an unknown key or invalid value.
    """
    content = read_file(path)
    put(content, settings)
    return make_experiment(content, reading=reading)


def glance(path: Path, settings: Iterable[str] = ()) -> Experiment | None:
    """Return the experiment in a file without the checks that import PyTorch; `None`: none.

    It is for questions that another command has answered about an equal, checked experiment.

    Args:
        path: the file.
        settings: each replaces or adds a value.
    """
    with suppress(InputError, ValidationError):
        content = read_file(path)
        put(content, settings)
        return Experiment.model_validate(content)
    return None


def make_experiment(content: dict[str, Any], *, reading: bool = False) -> Experiment:
    """Return the experiment in nested plain data.

    Args:
        content: the experiment.
        reading: whether its study is only read: the module of its model may be missing.

    Raises:
        InputError: unknown keys or invalid values.
    """
    try:
        experiment = Experiment.model_validate(content)
    except ValidationError as error:
        raise all_translated(error, partial(_translated, task=content.get("task"))) from error
    _require_numbers(content)  # also where any value is allowed; none could be written down
    # First: the checks below look up the names in the registries.
    check_names(experiment, model=not reading)
    uri, record = experiment.tracking.uri, experiment.storage.study
    checks = [
        partial(check_method, experiment),
        partial(check_gpu, experiment.resources.gpu),
        partial(check_storage, experiment.tracking.storage),
        partial(check_record, record),
    ]
    if not reading:
        checks.append(partial(check_model, experiment.model))
        checks.append(partial(check_recipe, experiment.references))
    if uri is not None:
        checks.append(partial(check_tracking, "tracking.uri", uri))
    require_all(*checks)
    check_apart(record, uri)
    return experiment


def _require_numbers(content: object, *place: str) -> None:
    """Check that there is no infinite number, NaN, or number that could not be written down."""
    if isinstance(content, dict):
        for key, value in content.items():
            _require_numbers(value, *place, key)
    elif isinstance(content, list):
        for index, value in enumerate(content):
            _require_numbers(value, *place, str(index))
    elif isinstance(content, int) and abs(content) > LARGEST:
        remedy = f"must lie within ±{LARGEST}: databases keep no larger whole numbers"
        raise InputError(".".join(place), content, remedy)
    elif isinstance(content, float) and not math.isfinite(content):
        raise InputError(".".join(place), content, "must be a finite number")


def read_data(source: str, settings: Iterable[str] = ()) -> Data:
    """Return the `data` section for a source, with `data.key=value` settings on top."""
    return _alone(settings, {"data": {"source": source}}).data


def read_storage(settings: Iterable[str] = ()) -> Storage:
    """Return the `storage` section that `storage.key=value` settings make."""
    return _alone(settings, {}).storage


def read_tracking(settings: Iterable[str] = ()) -> Tracking:
    """Return the `tracking` section that `tracking.key=value` settings make.

    Raises:
        InputError: an address is none, also that in MLFLOW_TRACKING_URI if it counts.
    """
    tracking = _alone(settings, {}).tracking
    check_tracking_variable(tracking.uri)
    return tracking


def _alone(settings: Iterable[str], content: dict[str, Any]) -> Experiment:
    """Return an experiment in which only the given sections and settings matter."""
    some = {"name": "none", "data": {"source": "digits"}, "model": {"name": "cnn"}}
    whole = {**some, "task": {"kind": "class"}, **content}
    put(whole, settings)
    return make_experiment(whole)


def _translated(error: ErrorDetails, task: Any) -> InputError:  # noqa: ANN401
    """Return one of pydantic's errors as ours; `task` is what the user wrote for that key."""
    if error["type"] == "enum":
        kind = error["input"].get("kind")
        return InputError("task.kind", kind, f"must be one of {', '.join(TASKS)}")

    def unknown(place: Sequence[str]) -> str:
        if place[0] == "task" and len(place) > 1:
            return _no_task_key(place[1], task["kind"])
        if place[0] == "references" and place[-1] in RECIPE_KEYS:
            return f"unknown key; it belongs to references.recipe: {{{place[-1]}: …}}"
        return _nearest(".".join(place))

    return translated(
        error, unknown=unknown, missing="presets show it: mixunlearn init mnist_class"
    )


def _no_task_key(name: str, kind: str) -> str:
    """Return the remedy for a key that tasks of this kind do not have."""
    others = [other for other, task in TASKS.items() if name in task.schema()]
    if others:
        return f"{with_article(kind)} task has no such key; it belongs to {', '.join(others)} tasks"
    known = known_names(name, ["kind", *TASKS[kind].schema()])
    return f"{with_article(kind)} task has no such key; {known}"


def _nearest(key: str) -> str:
    # Without a cutoff there is always a suggestion, because the list of all keys is too long.
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
