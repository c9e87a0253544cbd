"""Who holds the title: a configuration, the registered model it is from, and its alias."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

from distributed.final import trial_task
from distributed.nightly.records import key_of
from distributed.outbox import STEP, STUDY, TRIAL
from distributed.plan import Plan
from distributed.recorded import parameters_of
from distributed.registry import Alias, find_alias, promote
from distributed.results import Row
from distributed.review import make_review
from distributed.summary import trial_summary
from distributed.sweep import (
    TRACKING_TIMEOUT_S,
    Session,
    examine,
    log_best,
    make_tracker,
    read_summary,
)
from distributed.tracking import read_run
from mixunlearn.errors import InputError, MixUnlearnError


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What unlearns: a method with its hyperparameters, for so many epochs.

    Args:
        method: a key of `METHODS`.
        parameters: its hyperparameters.
        epochs: how long.
        trial: where it was found, STUDY/NUMBER.
        trial_id: of that trial; `None` if it is not known.
        since: date of the night that it was first seen.
        version: of its registered model; `None` if it has no alias (yet).
    """

    method: str
    parameters: Mapping[str, Any]
    epochs: int
    trial: str
    trial_id: str | None
    since: str
    version: str | None

    @property
    def key(self) -> str:
        """Return what names the configuration, wherever it was found."""
        return key_of(self.method, self.parameters, self.epochs)

    def plain(self) -> dict[str, Any]:
        """Return it as a record has it."""
        return {**asdict(self), "parameters": dict(self.parameters), "key": self.key}

    @classmethod
    def read(cls, record: Mapping[str, Any] | None) -> "Configuration | None":
        """Return what `plain` wrote."""
        if record is None:
            return None
        return cls(**{name: record[name] for name in record if name != "key"})


def alias_of(plan: Plan) -> Alias | None:
    """Return the version with the alias `champion` of the experiment's model, if there is one.

    Raises:
        MixUnlearnError: MLflow is away.
    """
    return find_alias(plan.tracking_uri, plan.experiment.name)


def adopted(plan: Plan, alias: Alias, night: date) -> Configuration:
    """Return the configuration of a registered model that somebody made champion.

    Raises:
        MixUnlearnError: its trial cannot be read, or is of another method or space.
    """
    try:
        run = read_run(plan.tracking_uri, alias.run_id)
        trial, epochs = f"{run.tags[STUDY]}/{run.tags[TRIAL]}", int(run.tags[STEP])
        found = parameters_of(run, plan.space)
    except (InputError, KeyError, ValueError) as error:
        what = f"version {alias.version} of {plan.experiment.name} is no trial of this experiment"
        remedy = "give the alias `champion` to another version, or take it away"
        raise MixUnlearnError(f"{what} ({error}); {remedy}") from error
    return Configuration(
        method=plan.experiment.method,
        parameters=found,
        epochs=epochs,
        trial=trial,
        trial_id=alias.trial_id or None,
        since=night.isoformat(),
        version=alias.version,
    )


def register(
    plan: Plan, candidate: Configuration, found: Mapping[str, Any], session: Session
) -> str:
    """Register a candidate's model and give it the alias `champion`; return what was done.

    Args:
        plan: of the study it was found in.
        candidate: the winner of a duel.
        found: of the night: what it scored.
        session: to work in.

    Raises:
        MixUnlearnError: MLflow is away, or another driver has the study.
    """
    number = int(candidate.trial.rpartition("/")[2])
    with session.part() as part:
        study = part.open(plan, part.hold(plan))
        row = next(row for row in study.rows() if row["trial"] == number)
        task = {f"trial {number}": trial_task(study, row, row["epochs"])}
        examined = examine(plan, task, session)
        summary = _crowned(read_summary(plan), row, trial_summary(plan, row, examined), found)
        review = replace(make_review(plan, study, summary), summary=summary)
        tracker, uri = make_tracker(plan, session)
        log_best(tracker, plan, review, examined, session.progress)
        if problems := tracker.close(TRACKING_TIMEOUT_S):
            raise MixUnlearnError(problems[0])
    assert candidate.trial_id is not None
    return promote(uri, plan.experiment.name, candidate.trial_id, proven=True)


def _crowned(
    summary: Mapping[str, Any], row: Row, trial: Mapping[str, Any], found: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a study's summary with a trial in the first place, as the night measured it."""
    again = {"trial": row["trial"], "seeds": len(found["rival_gaps"]), **found["rival_metrics"]}
    return {**summary, "best": [trial], "spread": again}
