"""A sweep: references, trials, final test evaluation, verdict."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from distributed.cluster.version import environment
from distributed.plan.plan import Plan
from distributed.runtime.addresses import sqlite_path
from distributed.runtime.text import redact
from distributed.search.best import log_best
from distributed.search.checkpoints import Checkpoints
from distributed.search.looks import with_looks
from distributed.search.outputs import (
    publish,
    read_summary,
    write_json,
    write_report,
)
from distributed.search.proxies import measure_proxies
from distributed.search.report_data import begun, linked, make_report_data
from distributed.search.runs import (
    SYNC_TIMEOUT_S,
    TRACKING_TIMEOUT_S,
    best_metrics,
    log_references,
    tags,
    track_summary,
    tracked,
)
from distributed.search.session import Session, open_study
from distributed.search.summary import summarise
from distributed.search.test_evaluation import TestEvaluator, test_tasks
from distributed.search.trial_callback import TrialCallback
from distributed.search.trials import fill_references, search
from distributed.study.finished import note_finished
from distributed.study.refill import refill
from distributed.study.study import Study
from distributed.study.trials_table import Row
from distributed.tracking.server import set_aside_if_damaged
from distributed.tracking.tags import DESCRIPTION
from distributed.tracking.tracker import Tracker
from mixunlearn.store import Entry
from mixunlearn.wording import counted
from report.description import describe
from report.report_data import ReportData
from trainables.evaluate import TestTask


def run_references(plan: Plan, session: Session) -> int:
    """Train the missing references; return how many models were trained."""
    session.lock(plan)
    plan = plan.keep()
    return fill_references(plan, session)


def run_sweep(
    plan: Plan,
    session: Session,
    *,
    retry_failed: bool = False,
    part_of: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Do what is missing in a study and return its summary.

    Args:
        plan: plan of the sweep.
        session: the session of the command.
        retry_failed: whether failed trials are run again.
        part_of: tags of the comparison to which the study belongs. The comparison has one page
            for all its studies; so the study draws no report and registers no model.

    Raises:
        MixUnlearnError: a reference could not be trained, the disk is full, Ray does not answer,
            or another process has locked the study.
        Interrupted: a stop was requested; everything finished is kept.
    """
    start = time.monotonic()
    lock = session.lock(plan)  # first: `keep` writes into the study's folder
    plan = plan.keep()
    # Before anything is trained, and before MLflow is told: the record may be lost.
    study = session.open(plan, lock)
    problems = list[str]()
    with tracked(plan, session, problems, part_of=part_of) as (tracker, uri):
        plan = _train_missing(plan, session)
        # Before the trials: a sweep that is stopped early shows what they are compared with.
        log_references(plan, tracker)
        if retry_failed:
            session.progress.say(
                f"trials: retrying {counted(study.retry_failed(), 'failed trial')}"
            )
        callback = make_callback(plan, study, tracker, session)
        linked_runs = dict(callback.run_ids)
        callback.resume()
        plan = _run_missing(plan, study, callback, session)
        evaluated = evaluate_on_test(plan, test_tasks(plan, study, callback.rows), session)
        summary = _summary(plan, callback.rows, evaluated, session, uri)
        summary["seconds"] = time.monotonic() - start
        summary, news = _compared(summary, read_summary(plan))
        if part_of is None:
            runs = {**callback.run_ids, **tracker.run_ids(TRACKING_TIMEOUT_S)}
            report_data = linked(plan, make_report_data(plan, study, summary), runs)
            # The page links to runs of MLflow. Drawing takes seconds: not without need.
            draw = news or runs != linked_runs or not plan.study_folder.report.is_file()
            _report(plan, report_data, evaluated, tracker, session, draw=draw)
        else:
            write_json(summary, plan.study_folder.summary)
            tracker.finish_study("complete", best_metrics(summary))
        callback.write_table()  # again, now that all runs have their ids
    if plan.shared:
        publish(plan)
    if not problems and part_of is None:
        _note_finished(plan, evaluated)
    return summary


def _note_finished(plan: Plan, evaluated: Mapping[str, Entry]) -> None:
    """Note that the same command has nothing to do, unless files alone cannot tell that."""
    runs = sqlite_path(plan.tracking_uri)
    elsewhere = plan.database or plan.shared or runs is None
    brought = plan.own or plan.pretrained or plan.own_recipe  # files of the user
    if elsewhere or brought or plan.experiment.references.proxies:
        return
    if plan.experiment.row_lists:  # a list of images to be forgotten lies nowhere else
        return
    references = plan.references
    models = [references.store.path("models", references.payload(m)) for m in references.members]
    results = [entry.path for entry in evaluated.values()]
    files = [runs, plan.dataset.path, plan.source.path, *models, *results]
    known = [path for path in files if path is not None]
    note_finished(plan.study_folder, plan.home, plan.experiment, known)


def _summary(
    plan: Plan, rows: Sequence[Row], evaluated: Mapping[str, Entry], session: Session, uri: str
) -> dict[str, Any]:
    """Return the results of the sweep, with those of its proxies, which are measured if needed."""
    evaluator = plan.references.evaluator("test")
    summary = summarise(plan, rows, evaluator, evaluated, tracking_uri=redact(uri), seconds=0.0)
    best = next(iter(summary["best"]), None)
    return {**summary, **measure_proxies(plan, best, session)}


def _compared(summary: dict[str, Any], earlier: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the summary with the looks at `test` counted, and whether it says more than before.

    If not, the command has found nothing to do: how long the sweep took stays as it was.
    """
    summary = with_looks(summary, earlier)
    same = {**summary, "seconds": earlier.get("seconds")} == earlier
    return (earlier, False) if same else (summary, True)


def _train_missing(plan: Plan, session: Session) -> Plan:
    """Train the missing references; starts Ray, which takes seconds, only if there are any."""
    if plan.references.missing():
        plan = session.connect(plan, "starting Ray")
        fill_references(plan, session)
    return plan


def _run_missing(plan: Plan, study: Study, callback: TrialCallback, session: Session) -> Plan:
    """Run the missing trials, if there are any; the store then has all models, as before."""
    if callback.count.total > callback.count.done:
        plan = session.connect(plan, "starting the trials")
        # Only here: a command that runs no trials must not change what is said about them.
        write_json(environment(), plan.study_folder.environment)
        search(plan, study, plan.problem(), callback, session)
        # Again: somebody may have removed models from the store meanwhile.
        plan = _train_missing(plan, session)
    return plan


def _report(
    plan: Plan,
    report_data: ReportData,
    evaluated: Mapping[str, Entry],
    tracker: Tracker,
    session: Session,
    *,
    draw: bool = True,
) -> None:
    """Write the study's results as files, and send them to MLflow with the best model."""
    if draw:
        session.progress.show("drawing the report")
        write_report(plan, report_data)
    log_best(tracker, plan, report_data, evaluated, session.progress)
    track_summary(tracker, plan, report_data, evaluated)


def evaluate_on_test(
    plan: Plan, tasks: Mapping[str, TestTask], session: Session
) -> dict[str, Entry]:
    """Evaluate on `test` what has not been evaluated yet; return all results.

    Raises:
        Interrupted: a stop was requested.
    """
    test_evaluator = TestEvaluator(plan)
    if missing := test_evaluator.missing(tasks):
        plan, stop = session.connect(plan, "starting Ray"), session.stop
        evaluator = plan.references.evaluator("test")
        ended = session.progress.stage("test", "models evaluated", len(missing))
        test_evaluator.run(missing, plan.problem, evaluator, lambda: stop.asked is not None, ended)
        # `run` also returns at a stop, with results missing.
        stop.check()
    return test_evaluator.results(tasks)


def sync(
    plan: Plan, session: Session, *, from_table: bool = False, recreate: bool = False
) -> tuple[int, list[str]]:
    """Rebuild trials.parquet and the MLflow runs from the study.

    Args:
        plan: plan of the study.
        session: the session of the command.
        from_table: whether to add the trials to the record first that only trials.parquet has.
        recreate: whether runs that somebody has deleted in MLflow are made again.

    Returns:
        The number of its finished trials, and what could not be delivered to MLflow.

    Raises:
        MissingError: there is no record.
        MixUnlearnError: another process has locked the study.
    """
    lock, problems = session.lock(plan), list[str]()
    if from_table:
        with closing(open_study(plan, lock, refill=True)) as study:
            refill(study, plan.study_folder.trials)
    # Before MLflow is told anything: without a record there is nothing to tell.
    study = session.open(plan, lock, create=False)
    set_aside_if_damaged(plan.tracking_uri, session.progress.say)
    with tracked(plan, session, problems, SYNC_TIMEOUT_S, running=False, recreate=recreate) as (
        tracker,
        _,
    ):
        # `sync` trains nothing: it also works where the models are lost.
        if not plan.references.missing():
            log_references(plan, tracker)
        callback = make_callback(plan, study, tracker, session)
        callback.resume()
        callback.write_table()
        test_evaluator = TestEvaluator(plan)
        tasks = test_tasks(plan, study, callback.rows)
        summary = read_summary(plan)
        # More trials may have run since the verdict, whose models are not on `test` yet.
        if summary and not test_evaluator.missing(tasks):
            runs = {**callback.run_ids, **tracker.run_ids(SYNC_TIMEOUT_S)}
            report_data = linked(plan, make_report_data(plan, study, summary), runs)
            _report(plan, report_data, test_evaluator.results(tasks), tracker, session)
        else:
            _end(plan, summary, len(callback.rows), tracker)
    if plan.shared:
        publish(plan)
    return len(callback.rows), problems


def _end(plan: Plan, summary: Mapping[str, Any], ended: int, tracker: Tracker) -> None:
    """End the run of a study that cannot be reported now: nobody runs it."""
    if not summary:
        tracker.set_tags(None, {DESCRIPTION: describe(begun(plan))})
    # A study is complete if its verdict is about all its trials.
    complete = summary and sum(summary["trials"].values()) == ended
    tracker.finish_study(
        "complete" if complete else "stopped", best_metrics(summary) if complete else {}
    )


def report_data_of(plan: Plan, *, show_images: bool = False) -> ReportData:
    """Return the report data of a study, without locking it.

    Args:
        plan: plan of the study.
        show_images: whether to show images, among them some that are to be forgotten.

    Raises:
        MissingError: no trial has finished, or a reference is missing.
    """
    with closing(open_study(plan)) as study:
        return make_report_data(plan, study, read_summary(plan), show_images=show_images)


def make_callback(plan: Plan, study: Study, tracker: Tracker, session: Session) -> TrialCallback:
    """Return Tune's callback for the sweep."""
    experiment = plan.experiment
    return TrialCallback(
        study=study,
        tracker=tracker,
        folder=plan.study_folder,
        dataset=plan.dataset,
        epochs=plan.epochs,
        scheduler=experiment.search.scheduler,
        trial_seconds=experiment.resources.trial_seconds,
        total=plan.trials,
        tags=tags(plan),
        checkpoints=Checkpoints(plan.checkpoints, experiment.search.objective, plan.default),
        stop=session.stop,
        progress=session.progress,
    )
