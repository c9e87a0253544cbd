"""The champion: the configuration in use, its registered model, and that model's alias."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from typing import Any

from distributed.nightly.records import Configuration, PartRecord
from distributed.plan.plan import Plan
from distributed.rerun.trial_lookup import parameters_of
from distributed.search.best import log_best
from distributed.search.outputs import read_summary
from distributed.search.report_data import make_report_data
from distributed.search.runs import TRACKING_TIMEOUT_S, make_tracker
from distributed.search.session import Session
from distributed.search.summary import trial_summary
from distributed.search.sweep import evaluate_on_test
from distributed.search.test_evaluation import trial_task
from distributed.study.trials_table import Row
from distributed.tracking.promotion import promote
from distributed.tracking.registration import Alias, find_alias
from distributed.tracking.server import read_run
from distributed.tracking.tags import STEP, STUDY, TRIAL
from mixunlearn.errors import InputError, MixUnlearnError
from mixunlearn.evidence.states import UNDECIDED
from mixunlearn.evidence.verdict import Verdict
from report.nightly.content import ONE_ORIGINAL
from report.verdict import verdict_of


def current_champion(
    plan: Plan,
    last: PartRecord | None,
    night: date,
    *,
    restore: bool,
    note: Callable[[str], None],
) -> Configuration | None:
    """Return the champion: that of the last night, or that of the alias if a user moved it.

    Args:
        plan: plan of the night's search.
        last: the last night with a champion.
        night: the date.
        restore: whether to give the alias back to a champion that lost it.
        note: called with what does not go as planned.

    Raises:
        MixUnlearnError: the alias names a version that is not a trial of the experiment.
    """
    holder = last.title_holder if last else None
    try:
        alias = alias_of(plan)
    except MixUnlearnError as error:
        # Without MLflow the night goes on with the champion of the records.
        note(f"the registry could not be read: {error}")
        return holder
    # A holder without a version never had the alias: then another alias does not mean a move.
    moved = bool(holder and holder.version and alias and alias.trial_id != holder.trial_id)
    if holder is None or moved:
        return _adopted_from(plan, alias, night, note) if alias else None
    if alias is None or alias.trial_id != holder.trial_id:
        # The alias was deleted, or MLflow was away when the champion won.
        return with_alias(plan, holder, note) if restore else holder
    return replace(holder, version=alias.version)


def with_alias(plan: Plan, holder: Configuration, note: Callable[[str], None]) -> Configuration:
    """Give the alias to a champion that has lost it, or never had it.

    Args:
        plan: plan of the experiment.
        holder: the champion; without a trial's id it stays without an alias.
        note: called with what was done, or what prevented it.
    """
    if holder.trial_id is None:
        return holder
    try:
        # `proven`: the records have decided. Gaps in the registry were measured under other seeds.
        note(promote(plan.tracking_uri, plan.experiment.name, holder.trial_id, proven=True))
        alias = alias_of(plan)
    except MixUnlearnError as error:
        note(f"the champion has no alias: {error}")
        return holder
    return replace(holder, version=alias.version if alias else None)


def alias_of(plan: Plan) -> Alias | None:
    """Return the version with the alias `champion` of the experiment's model, if there is one.

    Raises:
        MixUnlearnError: MLflow does not answer.
    """
    return find_alias(plan.tracking_uri, plan.experiment.name)


def _adopted_from(
    plan: Plan, alias: Alias, night: date, note: Callable[[str], None]
) -> Configuration:
    found = adopted(plan, alias, night)
    note(f"version {alias.version} is the champion: the registry says so")
    return found


def adopted(plan: Plan, alias: Alias, night: date) -> Configuration:
    """Return the configuration of a registered model that a user made champion.

    Raises:
        MixUnlearnError: its trial cannot be read, or has another method or search space.
    """
    try:
        run = read_run(plan.tracking_uri, alias.run_id)
        trial, epochs = f"{run.tags[STUDY]}/{run.tags[TRIAL]}", int(run.tags[STEP])
        found = parameters_of(run, plan.space)
    except (InputError, KeyError, ValueError) as error:
        what = f"version {alias.version} of {plan.experiment.name} is no trial of this experiment"
        remedy = "give the alias `champion` to another version, or delete it"
        raise MixUnlearnError(f"{what} ({error}); {remedy}") from error
    chosen = Configuration(
        method=plan.experiment.method,
        parameters=found,
        epochs=epochs,
        trial=trial,
        # A version that was registered by other means has an empty id.
        trial_id=alias.trial_id or None,
        since=night.isoformat(),
        version=alias.version,
    )
    return with_verdict(plan, chosen)


def crown(plan: Plan, found: PartRecord, session: Session) -> PartRecord:
    """Make the candidate champion; the alias follows, tonight or when MLflow answers again.

    Args:
        plan: plan of the study it was found in.
        found: the night's part, with a candidate that won its duel.
        session: the session to work in.

    Returns:
        The part, with its promotion done.
    """
    candidate = found.candidate
    assert candidate is not None
    try:
        said = _register(plan, candidate, found, session)
        alias = alias_of(plan)
    except MixUnlearnError as error:
        # The duel has decided. A later night sets the alias: see `current_champion`.
        said, alias = f"{candidate.trial} is the champion; its alias follows later: {error}", None
    candidate = replace(with_verdict(plan, candidate), version=alias.version if alias else None)
    return replace(found, candidate=candidate, promotion="done", promoted=said)


def with_verdict(plan: Plan, holder: Configuration) -> Configuration:
    """Return a champion with the state of its study's verdict, if that was about its trial.

    Args:
        plan: plan of the search, whose study it may be from.
        holder: the champion.
    """
    if holder.study != plan.study:
        return holder
    try:
        found = verdict_of(read_summary(plan), int(holder.trial.rpartition("/")[2]))
    except (MixUnlearnError, ValueError):  # a damaged summary: its sweep says so
        return holder
    return replace(holder, judged=found)


def _register(plan: Plan, candidate: Configuration, found: PartRecord, session: Session) -> str:
    """Register a candidate's model and give it the alias `champion`; return what was done.

    Raises:
        MixUnlearnError: MLflow does not answer, or another driver has locked the study.
    """
    number = int(candidate.trial.rpartition("/")[2])
    # A part of its own: the study's lock is free again as soon as the model is registered.
    with session.part() as part:
        study = part.open(plan, part.lock(plan))
        row = next(row for row in study.rows() if row["trial"] == number)
        task = {f"trial {number}": trial_task(study, row, row["epochs"])}
        examined = evaluate_on_test(plan, task, session)
        summary = _crowned(read_summary(plan), row, trial_summary(plan, row, examined), found)
        review = replace(make_report_data(plan, study, summary), summary=summary)
        tracker, uri = make_tracker(plan, session)
        log_best(tracker, plan, review, examined, session.progress)
        # Waits for the delivery: `promote` needs the registered version.
        if problems := tracker.close(TRACKING_TIMEOUT_S):
            raise MixUnlearnError(problems[0])
    assert candidate.trial_id is not None
    return promote(uri, plan.experiment.name, candidate.trial_id, proven=True)


def _crowned(
    summary: Mapping[str, Any], row: Row, trial: Mapping[str, Any], found: PartRecord
) -> dict[str, Any]:
    """Return a study's summary with a trial as the best one, as the night measured it."""
    again = {"trial": row["trial"], "seeds": len(found.rival_gaps), **found.rival_metrics}
    if verdict_of(summary, row["trial"]):
        own = summary["verdict"]
        reasons = ["this was its study's verdict at its promotion", *own["reasons"]]
        return {**summary, "best": [trial], "spread": again, "verdict": {**own, "reasons": reasons}}
    # The summary's own verdict, if any, is about another trial.
    verdict = Verdict(state=UNDECIDED, reasons=[ONE_ORIGINAL])
    return {**summary, "best": [trial], "spread": again, "verdict": verdict.as_plain()}
