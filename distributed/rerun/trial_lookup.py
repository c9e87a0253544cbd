"""Finds a recorded trial: in its MLflow run, or in its study."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distributed.config.checks import check_model
from distributed.config.experiment import SAME_NUMBERS, UNLISTED, Experiment
from distributed.config.read import make_experiment, read_tracking
from distributed.config.yaml_file import put
from distributed.plan.make import find_study, make_plan
from distributed.plan.plan import Plan
from distributed.runtime.addresses import resolve
from distributed.search.session import open_study
from distributed.study.folder import study_folder
from distributed.tracking.run_buffer import RemoteRun
from distributed.tracking.server import read_run
from distributed.tracking.tags import (
    CODE,
    DATA,
    ERROR,
    EXPERIMENT,
    PARENT,
    SPLITS,
    STATE,
    STEP,
    STUDY,
    TRIAL,
)
from mixunlearn.errors import InputError
from search_spaces import Choice, Int, Space
from search_spaces.space import Value
from trainables.unlearn import IDENTITY

# Settings that another machine may need; changing any other would make it another trial.
MOVABLE = (
    *("data.train=", "data.test=", "task.ids=", "storage.", "tracking."),
    *(f"{key}=" for key in SAME_NUMBERS),
)
SHOWN = 12  # digits of a digest


@dataclass(frozen=True, kw_only=True)
class RecordedTrial:
    """A finished trial as it was recorded.

    Args:
        study: name of its study.
        trial: number of the trial.
        hyperparameters: hyperparameters of the trial.
        seed: seed of all its random choices.
        state: "complete", "pruned" or "failed".
        epochs: number of complete epochs.
        metrics: metrics on `val` after the last epoch; may contain other values as well.
        error: why it failed or was stopped.
        code: version of the code with which it ran; `None` if it is unknown.
    """

    study: str
    trial: int
    hyperparameters: Mapping[str, Value]
    seed: int
    state: str
    epochs: int
    metrics: Mapping[str, float | None]
    error: str | None
    code: str | None

    @property
    def failure(self) -> str | None:
        """Return why it failed; `None` if it did not."""
        return (self.error or "the reason was not saved") if self.state == "failed" else None


def find_trial(target: str, settings: Sequence[str], home: Path) -> tuple[Plan, RecordedTrial]:
    """Return the plan of a finished trial's study, and the trial.

    Args:
        target: id of the trial's MLflow run, or STUDY/TRIAL of a study in the home.
        settings: `key=value` settings on top of the experiment.
        home: where results are kept.

    Raises:
        InputError: there is no such trial, or data, splits or settings differ from the recorded.
        MixUnlearnError: MLflow or the study's record does not answer.
    """
    # MLflow's run ids are hex digits: a slash means a study.
    study, slash, number = target.rpartition("/")
    if slash:
        return _from_study(study, number, settings, home)
    return _from_run(target, settings, home)


def _from_study(
    study: str, number: str, settings: Sequence[str], home: Path
) -> tuple[Plan, RecordedTrial]:
    plan = find_study(study, settings, home, reading=True)
    check_model(plan.experiment.model)  # unlike a study that is only read, a trial needs it
    with closing(open_study(plan)) as record:
        # By its text: `int` takes other spellings too, and refuses very long ones.
        rows = {str(row["trial"]): row for row in record.rows()}
        if number not in rows:
            last = f", the last is {max(map(int, rows))}" if rows else ""
            remedy = f"not a finished trial of {plan.study}; {len(rows)} are finished{last}"
            raise InputError("TRIAL", number, remedy)
        row, config = rows[number], record.config(int(number))
        code = record.code(int(number))
    return plan, RecordedTrial(
        study=plan.study,
        trial=row["trial"],
        hyperparameters={name: config[name] for name in config if name not in IDENTITY},
        seed=int(config["seed"]),
        state=row["state"],
        epochs=row["epochs"],
        metrics=row,
        error=row["error"],
        code=code or None,
    )


def _from_run(run_id: str, settings: Sequence[str], home: Path) -> tuple[Plan, RecordedTrial]:
    # To find the run, only the tracking settings count: the experiment is in the run itself.
    tracking = read_tracking([each for each in settings if each.startswith("tracking.")])
    uri, _ = resolve(tracking.uri, tracking.storage, home)
    run = read_run(uri, run_id)
    _require_trial(run)
    experiment = _experiment_of(run, read_run(uri, run.tags[PARENT]), settings, home)
    command = f"mixunlearn rerun {run_id}"
    study = run.tags[STUDY]
    plan = make_plan(experiment, home, command=command, local=False, reading=True, study=study)
    _require_same(run, plan)
    return plan, RecordedTrial(
        study=study,
        trial=int(run.tags[TRIAL]),
        hyperparameters=parameters_of(run, plan.space),
        seed=int(run.params["seed"]),
        state=run.tags[STATE],
        epochs=int(run.tags.get(STEP, 0)),
        metrics=run.metrics,
        error=run.tags.get(ERROR),
        code=run.tags.get(CODE),
    )


def _require_trial(run: RemoteRun) -> None:
    """Check that a run belongs to a trial that has ended.

    Raises:
        InputError: it is not.
    """
    if not {STUDY, TRIAL, PARENT} <= run.tags.keys() or "seed" not in run.params:
        kind = "the run of a whole study" if STUDY in run.tags else "not the run of a trial"
        remedy = f"{kind}; give the id of a trial's run, or STUDY/TRIAL"
        raise InputError("RUN_ID", run.run_id, remedy)
    if STATE not in run.tags:
        remedy = f"trial {run.tags[TRIAL]} has not ended; resume its `mixunlearn sweep` first"
        raise InputError("RUN_ID", run.run_id, remedy)


def _experiment_of(
    run: RemoteRun, parent: RemoteRun, settings: Sequence[str], home: Path
) -> Experiment:
    """Return the experiment in the run of a study, with settings on top.

    Raises:
        InputError: the run holds none, or a setting would make it another trial.
    """
    try:
        # The tag is missing if the experiment was too long for MLflow.
        content = json.loads(parent.tags[EXPERIMENT])
        # Neither is needed: everything that was recorded has been read.
        content["tracking"], content["storage"]["study"] = {}, None
    except (KeyError, ValueError, TypeError) as error:
        other = f"{run.tags[STUDY]}/{run.tags[TRIAL]}"
        remedy = f"not in the run of the study; on the study's machine: mixunlearn rerun {other}"
        raise InputError(EXPERIMENT, parent.tags.get(EXPERIMENT), remedy) from error
    for setting in settings:
        if not setting.startswith(MOVABLE):
            remedy = f"would make another trial; these may be set: {', '.join(MOVABLE)}"
            raise InputError("--set", setting, remedy)
    put(content, settings)
    _list_images(content, run, home)
    return make_experiment(content)


def _list_images(content: dict[str, Any], run: RemoteRun, home: Path) -> None:
    """Put back the images to be forgotten, which no run lists, from the study in the home.

    Raises:
        InputError: the home does not have the study; the user has to name the list.
    """
    task = dict(content.get("task") or {})
    for name, value in task.items():
        if not (isinstance(value, str) and value.endswith(UNLISTED)):
            continue
        kept = study_folder(home, run.tags[STUDY]).experiment
        try:
            task[name] = yaml.safe_load(kept.read_text())["task"][name]
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            remedy = f"name the list: --set task.{name}=FILE, or a --home with the study"
            raise InputError(f"task.{name}", value, f"{remedy} {run.tags[STUDY]}") from error
    content["task"] = task


def _require_same(run: RemoteRun, plan: Plan) -> None:
    """Check that data and splits are those of the run.

    Raises:
        InputError: they are not; the message has both digests.
    """
    files = "name the files that it used: --set data.train=... --set data.test=..."
    code = f"check out the code of the run, {run.tags.get(CODE)}"
    checks = ((DATA, plan.dataset.digest, files), (SPLITS, plan.splits.key, code))
    for tag, now, remedy in checks:
        then = run.tags.get(tag, "")
        if then != now:
            raise InputError(tag, then[:SHOWN], f"here it is {now[:SHOWN]!r}; {remedy}")


def parameters_of(run: RemoteRun, space: Space) -> dict[str, Value]:
    """Return a run's hyperparameters with the types that the search space gives them.

    Raises:
        InputError: the method has no such hyperparameter, or its type or options have changed.
    """
    found = {}
    for name, text in run.params.items():
        if name in IDENTITY:
            continue
        try:
            found[name] = _value(space, name, text)
        # StopIteration: a choice no longer has this option.
        except (KeyError, ValueError, StopIteration) as error:
            remedy = (
                f"no longer valid for the method; check out the run's code, {run.tags.get(CODE)}"
            )
            raise InputError(f"params.{name}", text, remedy) from error
    return found


def _value(space: Space, name: str, text: str) -> Value:
    """Return the value of a hyperparameter that MLflow keeps as text."""
    # By their texts: `bool("False")` is true, and an option may be of any type.
    if isinstance(parameter := space[name], Choice):
        return next(option for option in space.options(name) if str(option) == text)
    # Exact: Python writes a float with enough digits to read the same float again.
    # A default of a `Float` may be written as 1, and 1 and 1.0 would be two configurations.
    return int(text) if isinstance(parameter, Int) or text.isdecimal() else float(text)
