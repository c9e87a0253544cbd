"""A study in MLflow: its run, its tags, its references, its results."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed.cluster.version import code_version
from distributed.config.experiment import Tracking
from distributed.plan.inputs import inputs
from distributed.plan.plan import Plan, flat
from distributed.runtime.addresses import resolve
from distributed.search.report_data import begun
from distributed.search.session import Session
from distributed.study.folder import SPOOL
from distributed.tracking.run_buffer import TAG_LENGTH
from distributed.tracking.tags import (
    CODE,
    DATA,
    DESCRIPTION,
    EXPERIMENT,
    LABELS,
    METHOD,
    MODEL,
    ROLE,
    SPLITS,
    TASK,
)
from distributed.tracking.tracker import Tracker
from mixunlearn.store import Entry
from report.description import describe
from report.report_data import ReportData

# For MLflow to take what waits: at the end of a sweep, when a stop was asked for, when only that
# is to be done.
TRACKING_TIMEOUT_S, HURRIED_S, SYNC_TIMEOUT_S = 60.0, 6.0, 3600.0


@contextmanager
def tracked(
    plan: Plan,
    session: Session,
    problems: list[str] | None = None,
    timeout_s: float = TRACKING_TIMEOUT_S,
    part_of: Mapping[str, str] | None = None,
) -> Iterator[tuple[Tracker, str]]:
    """Give MLflow's writer with the study's run opened, and where it writes to.

    In the end, all that waits is delivered, within `timeout_s` seconds; what could not be is said,
    and added to `problems`.
    """
    say = session.progress.say
    tracker, uri = make_tracker(plan, session)
    about = describe(begun(plan))
    settings = flat(plan.experiment.model_dump())
    tracker.start_study(
        plan.study,
        settings,
        {**tags(plan), **whole_experiment(plan), **(part_of or {})},
        about,
    )
    tracker.log_inputs(inputs(plan))
    try:
        yield tracker, uri
    except BaseException:
        tracker.finish_study("stopped", {})
        raise
    finally:
        for line in tracker.close(HURRIED_S if session.stop.asked else timeout_s):
            say(f"tracking: {line}")
            if problems is not None:
                problems.append(line)


def make_tracker(plan: Plan, session: Session) -> tuple[Tracker, str]:
    """Return MLflow's writer for a study, and where it writes to."""
    tracking = plan.experiment.tracking
    uri, artifacts = resolve(tracking.uri, tracking.storage, plan.home)
    tracker = Tracker(
        uri=uri,
        artifact_location=artifacts,
        experiment=plan.experiment.name,
        study=plan.study,
        spool=plan.study_folder.spool,
        say=lambda line: session.progress.say(f"tracking: {line}"),
    )
    return tracker, uri


@contextmanager
def own_run(
    tracking: Tracking,
    home: Path,
    *,
    experiment: str,
    title: str,
    tags: Mapping[str, str],
    about: str,
    folder: Path,
    session: Session,
) -> Iterator[tuple[Tracker, str | None]]:
    """Give MLflow's writer with a run opened that belongs to no study, and that run's id.

    Args:
        tracking: where to.
        home: where results are kept.
        experiment: name of MLflow's.
        title: by which the run is found again.
        tags: of the run.
        about: its description, in Markdown.
        folder: where what waits is kept; there already.
        session: to say what MLflow did not take.
    """
    uri, artifacts = resolve(tracking.uri, tracking.storage, home)
    tracker = Tracker(
        uri=uri,
        artifact_location=artifacts,
        experiment=experiment,
        study=title,
        spool=folder / SPOOL,
        say=lambda line: session.progress.say(f"tracking: {line}"),
    )
    tracker.start_study(title, {}, tags, about)
    try:
        yield tracker, tracker.run_id(TRACKING_TIMEOUT_S)
    except BaseException:
        tracker.finish_study("stopped", {})
        raise
    finally:
        for line in tracker.close(TRACKING_TIMEOUT_S):
            session.progress.say(f"tracking: {line}")


def tags(plan: Plan) -> dict[str, str]:
    """Return what makes runs easy to find: method, model, data, code. See docs/tracking.md."""
    return {
        METHOD: plan.experiment.method,
        TASK: plan.experiment.task.kind,
        LABELS: plan.experiment.labels,
        MODEL: plan.experiment.model.name,
        DATA: plan.dataset.digest,
        SPLITS: plan.splits.key,
        CODE: code_version(),
    }


def whole_experiment(plan: Plan) -> dict[str, str]:
    """Return the tag from which a trial can be run again; none that would have to be cut."""
    text = plan.experiment.model_dump_json()
    return {EXPERIMENT: text} if len(text) <= TAG_LENGTH else {}


def log_references(plan: Plan, tracker: Tracker) -> None:
    """Log originals and references as runs that all studies share."""
    references = plan.references
    shared = (TASK, MODEL, DATA, SPLITS)
    known = {name: value for name, value in tags(plan).items() if name in shared}
    for member in references.members:
        metrics: dict[str, float] = {"time/train_s": references.seconds(member)}
        for phase in ("val", "test"):
            metrics |= references.evaluation(member, phase).metrics
        tracker.log_reference(
            # The same original has other metrics where other images are forgotten.
            f"{references.key(member)}-{plan.splits.key}",
            f"{member.role}-{member.seed} {plan.experiment.model.name} {plan.dataset.source}",
            flat(references.payload(member)),
            metrics,
            {**known, ROLE: member.role},
        )


def track_summary(
    tracker: Tracker, plan: Plan, report_data: ReportData, examined: Mapping[str, Entry]
) -> None:
    """Log the best trials' models and all that the study came to, and end its run."""
    summary = report_data.summary
    for trial in summary["best"]:
        if (entry := examined.get(f"trial {trial['trial']}")) is not None:
            tracker.log_artifact(trial["trial"], entry.path, "model")
    folder = plan.study_folder
    for path in folder.artifacts:
        if path.exists():
            tracker.log_artifact(None, path)
    tracker.log_table(folder.leaderboard)
    tracker.set_tags(None, {DESCRIPTION: describe(report_data)})
    tracker.finish_study("complete", best_metrics(summary))


def best_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return what the best trial scored on `test`, as metrics of the study's run."""
    best = summary["best"][0] if summary["best"] else {}
    return {f"best/{name}": best[name] for name in best if isinstance(best[name], float)}
