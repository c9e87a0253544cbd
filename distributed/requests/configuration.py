"""The configuration with which a request is carried out: a method, tuned elsewhere."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from distributed.config.errors import all_translated, translated
from distributed.config.experiment import Experiment
from distributed.config.read import read_experiment
from distributed.config.section import Epochs, Section
from distributed.config.yaml_file import read_file
from distributed.rerun.trial_lookup import find_trial
from distributed.runtime.text import one_line
from distributed.study.folder import begun_studies, full_name, study_folder
from mixunlearn.data.names import known_names, printable, typed_path
from mixunlearn.errors import CorruptError, InputError, MissingError
from mixunlearn.methods import METHODS
from search_spaces import SPACES, Float, Int

KEY = "--config"
KEYS = "method, epochs, labels, hyperparameters"
RUN_ID = re.compile(r"[0-9a-f]{32}")


class ConfigurationFile(Section):
    """A file with a configuration: what `--config FILE` reads."""

    method: str
    epochs: Epochs
    labels: Literal["aware", "agnostic"] = "aware"
    hyperparameters: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A method with its hyperparameters, and where they come from.

    Args:
        method: a key of `METHODS`.
        hyperparameters: of the method.
        epochs: number of epochs.
        labels: "aware" or "agnostic".
        source: where it was found, in words.
        study: the study in which it was tuned; `None`: it is not known where.
        experiment: of that study.
        summary: results of that study; empty if it has none, or if it is not its winner.
        chosen: why it was chosen; empty if the user named it.
    """

    method: str
    hyperparameters: Mapping[str, Any]
    epochs: int
    labels: str
    source: str
    study: str | None = None
    experiment: Experiment | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    chosen: str = ""


def find_configuration(target: str, home: Path) -> Configuration:
    """Return the configuration that a user names.

    Args:
        target: name of a study, id of a trial's MLflow run, STUDY/TRIAL, or a file.
        home: where results are kept.

    Raises:
        InputError: there is nothing of this name, or it holds no configuration.
        MissingError: the study has no result yet.
        CorruptError: the results of the study are damaged.
    """
    known = [folder.path.name for folder in begun_studies(home)]
    if target in known:
        return of_study(target, home)
    path = typed_path(KEY, target)
    if path.is_file():
        return _of_file(path)
    study, slash, trial = target.rpartition("/")
    if RUN_ID.fullmatch(target) or study in known:
        return _of_trial(target, home)
    study = full_name(home, study if slash else trial, KEY)
    if study in known:
        return _of_trial(f"{study}/{trial}", home) if slash else of_study(study, home)
    remedy = f"no study in {home}, no run id and no file; {known_names(target, known)}"
    raise InputError(KEY, target, remedy)


def of_study(study: str, home: Path) -> Configuration:
    """Return the winner of a study; see `find_configuration`."""
    folder = study_folder(home, study)
    summary = _summary(folder.summary)
    best = next(iter(summary.get("best") or []), None)
    if best is None:
        remedy = f"finish it: mixunlearn sweep {folder.experiment}"
        raise MissingError(f"{KEY} = {study!r}: no trial has a result on test; {remedy}")
    experiment = read_experiment(folder.experiment, reading=True)
    return Configuration(
        method=experiment.method,
        hyperparameters=best["params"],
        epochs=best["epochs"],
        labels=experiment.labels,
        source=f"study {study}, trial {best['trial']}",
        study=study,
        experiment=experiment,
        summary=summary,
    )


def _summary(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        remedy = "run the study's sweep again to write it"
        raise CorruptError(f"{path} is damaged ({one_line(error)}); {remedy}") from error


def _of_trial(target: str, home: Path) -> Configuration:
    """Return the configuration of one trial; it need not be the winner of its study."""
    plan, trial = find_trial(target, [], home)
    if trial.failure:
        raise InputError(KEY, target, f"this trial failed ({trial.failure}); choose another")
    with suppress(MissingError, CorruptError, InputError):
        winner = of_study(trial.study, home)
        if (winner.hyperparameters, winner.epochs) == (trial.hyperparameters, trial.epochs):
            return winner
    return Configuration(
        method=plan.experiment.method,
        hyperparameters=trial.hyperparameters,
        epochs=trial.epochs,
        labels=plan.experiment.labels,
        source=f"study {trial.study}, trial {trial.trial}",
        study=trial.study,
        experiment=plan.experiment,
    )


def _of_file(path: Path) -> Configuration:
    content = read_file(path, KEY)
    if {"task", "search"} & content.keys():
        remedy = "is an experiment: tune it with mixunlearn sweep, then name the study here"
        raise InputError(KEY, str(path), remedy)
    try:
        found = ConfigurationFile.model_validate(content)
    except ValidationError as error:
        translate = partial(
            translated,
            unknown=lambda place: f"{path} has an unknown key; there are {KEYS}",
            missing=f"{path} needs method and epochs",
        )
        raise all_translated(error, translate) from error
    if found.method not in METHODS:
        raise InputError("method", found.method, f"unknown; {known_names(found.method, METHODS)}")
    _require_values(found.method, found.hyperparameters)
    kind = METHODS[found.method]
    epochs = min(found.epochs, kind.ceiling or found.epochs)
    return Configuration(
        method=found.method,
        hyperparameters={**kind.planned(epochs), **found.hyperparameters},
        epochs=epochs,
        labels=found.labels,
        source=f"file {printable(str(path))}",
    )


def _require_values(method: str, values: Mapping[str, Any]) -> None:
    """Check the types of hyperparameters; names and ranges are checked with the model.

    Raises:
        InputError: one is of another type.
    """
    space: Mapping[str, object] = SPACES[method]((), "") if method in SPACES else {}
    for name, value in values.items():
        key, parameter = f"hyperparameters.{name}", space.get(name)
        if not isinstance(value, int | float | str):
            raise InputError(key, value, "must be a single value")
        whole = isinstance(parameter, Int)
        number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if isinstance(parameter, Int | Float) and not number:
            raise InputError(key, value, f"must be a {'whole ' * whole}number")
