"""A study in MLflow: its run, tags, references and results."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed.cluster.version import code_version
from distributed.config.experiment import Tracking
from distributed.plan.inputs import inputs
from distributed.plan.plan import Plan, as_yaml, flat
from distributed.runtime.addresses import resolve
from distributed.search.report_data import begun
from distributed.search.session import Session
from distributed.study.folder import SPOOL
from distributed.study.sampling import constant
from distributed.tracking.run_buffer import TAG_LENGTH
from distributed.tracking.saved_view import saved_view
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
    VERDICT,
)
from distributed.tracking.tracker import Tracker
from mixunlearn.atomic import replacing
from mixunlearn.store import Entry
from report.description import describe
from report.report_data import ReportData
from report.verdict import state

# Time limits for emptying the delivery queue: after a sweep, after a stop request, in `sync`.
# A stop must end within 30 s, and running epochs get 15 of them (`GRACE_S`).
TRACKING_TIMEOUT_S, HURRIED_S, SYNC_TIMEOUT_S = 60.0, 6.0, 3600.0
# The first delivery imports MLflow, for seconds in which the start of a sweep would wait for it.
START_S = 5.0
COLUMNS = 4  # of hyperparameters, in MLflow's table of a study


@contextmanager
def tracked(
    plan: Plan,
    session: Session,
    problems: list[str] | None = None,
    timeout_s: float = TRACKING_TIMEOUT_S,
    part_of: Mapping[str, str] | None = None,
    *,
    running: bool = True,
    recreate: bool = False,
) -> Iterator[tuple[Tracker, str]]:
    """Open the study's run in MLflow; give the tracker and the address of MLflow.

    At the end, the delivery queue is emptied within `timeout_s` seconds. What could not be
    delivered is shown, and added to `problems`.

    Args:
        plan: plan of the study.
        session: shows what could not be delivered to MLflow.
        problems: gets what could not be delivered.
        timeout_s: time limit for emptying the queue, in seconds.
        part_of: tags of the comparison to which the study belongs.
        running: whether the study runs trials; if not, its run keeps status and description until
            the caller sets them.
        recreate: whether runs that were deleted in MLflow are made again.
    """
    say = session.progress.say
    tracker, uri = make_tracker(plan, session, recreate=recreate)
    write_published(plan)
    settings = flat(plan.published)
    tracker.start_study(
        plan.study,
        settings,
        {**tags(plan), **whole_experiment(plan), **(part_of or {})},
        describe(begun(plan)) if running else "",
        running=running,
    )
    tracker.log_inputs(inputs(plan))
    try:
        yield tracker, uri
    except BaseException:
        # For Ctrl-C as well: otherwise MLflow would show the study as running for ever.
        if running:
            tracker.finish_study("stopped", {})
        raise
    finally:
        session.progress.show("sending results to MLflow")
        for line in tracker.close(HURRIED_S if session.stop.asked else timeout_s):
            say(f"tracking: {line}")
            if problems is not None:
                problems.append(line)


def write_published(plan: Plan) -> None:
    """Write the experiment as others may read it, for MLflow and for the study's shared folder.

    The study's own experiment.yaml lists images that are to be forgotten: it is needed to resume.
    """
    path, text = plan.study_folder.published, as_yaml(plan.published)
    # A command that has nothing to do changes no file.
    if not path.is_file() or path.read_text() != text:
        with replacing(path) as temporary:
            temporary.write_text(text)


def make_tracker(plan: Plan, session: Session, *, recreate: bool = False) -> tuple[Tracker, str]:
    """Return the tracker of a study, and the address of MLflow."""
    tracking = plan.experiment.tracking
    uri, artifacts = resolve(tracking.uri, tracking.storage, plan.home)
    tracker = Tracker(
        uri=uri,
        artifact_location=artifacts,
        experiment=plan.experiment.name,
        study=plan.study,
        spool=plan.study_folder.spool,
        say=lambda line: session.progress.say(f"tracking: {line}"),
        recreate=recreate,
        first_s=START_S,
        view=view_of(plan),
    )
    return tracker, uri


def view_of(plan: Plan) -> str:
    """Return what MLflow's page of the experiment shows of the study first."""
    task, objective = plan.splits.task, plan.experiment.search.objective
    gaps = ["gap/avg", *(f"gap/{name}" for name in task.gap_metrics("acc/val"))]
    return saved_view(
        plan.study,
        list(dict.fromkeys([objective, *gaps])),
        ["best/gap/avg", *(f"bias/{name}" for name in task.gap_metrics("acc/test"))],
        [name for name in plan.space if constant(plan.space[name]) is None][:COLUMNS],
    )


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
    """Open a run in MLflow that belongs to no study; give the tracker and the run's id.

    Args:
        tracking: where MLflow keeps the run.
        home: where results are kept.
        experiment: name of the experiment in MLflow.
        title: title of the run, by which it is found again.
        tags: tags of the run.
        about: description of the run, in Markdown.
        folder: an existing folder for the spool.
        session: shows what could not be delivered to MLflow.
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
    """Return the tags by which runs are found: method, model, data, code. See docs/tracking.md."""
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
    """Return the tag from which a trial can be run again; empty if it is too long for MLflow."""
    # Left out rather than cut: half of it would not be JSON.
    text = json.dumps(plan.published, separators=(",", ":"), ensure_ascii=False)
    return {EXPERIMENT: text} if len(text) <= TAG_LENGTH else {}


def log_references(plan: Plan, tracker: Tracker) -> None:
    """Log the original and the references as runs that all studies share."""
    references = plan.references
    shared = (TASK, MODEL, DATA, SPLITS)
    known = {name: value for name, value in tags(plan).items() if name in shared}
    for member in references.members:
        seconds, at_once = references.timing(member)
        metrics: dict[str, float] = {"time/train_s": seconds}
        metrics |= {"time/at_once": at_once} if at_once else {}
        for phase in ("val", "test"):
            metrics |= references.evaluation(member, phase).metrics
        tracker.log_reference(
            # The same original has other metrics if other images are to be forgotten.
            f"{references.key(member)}-{plan.splits.key}",
            f"{member.role}-{member.seed} {plan.experiment.model.name} {plan.dataset.source}",
            flat(references.payload(member)),
            metrics,
            {**known, ROLE: member.role},
        )


def track_summary(
    tracker: Tracker, plan: Plan, report_data: ReportData, examined: Mapping[str, Entry]
) -> None:
    """Log the best trials' models and the study's results, and end its run."""
    summary = report_data.summary
    for trial in summary["best"]:
        if (entry := examined.get(f"trial {trial['trial']}")) is not None:
            tracker.log_artifact(trial["trial"], entry.path, "model")
    folder = plan.study_folder
    for path in folder.artifacts:
        if path.exists():
            tracker.log_artifact(None, path)
    tracker.log_table(folder.leaderboard)
    told = {DESCRIPTION: describe(report_data), VERDICT: state(summary)}
    tracker.set_tags(None, {name: value for name, value in told.items() if value})
    tracker.finish_study("complete", best_metrics(summary))


def best_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the winner's metrics on `test` and the verdict's biases, for the study's run."""
    best = summary["best"][0] if summary["best"] else {}
    biases = (summary.get("verdict") or {}).get("metrics") or {}
    return {
        **{f"best/{name}": best[name] for name in best if isinstance(best[name], float)},
        **{f"bias/{name}": found["value"] for name, found in biases.items()},
    }
