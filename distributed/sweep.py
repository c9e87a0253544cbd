"""A sweep: references, trials, final examination, verdict."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ray import tune

from distributed import addresses
from distributed.checkpoints import Checkpoints, trial_folder
from distributed.cluster import Shipped, connected, local, slots
from distributed.driver import Driver
from distributed.experiment import Tracking
from distributed.final import Examiner, final_tasks
from distributed.inputs import inputs
from distributed.outbox import EXPERIMENT, STUDY, TAG_LENGTH, TRIAL
from distributed.plan import Plan, flat
from distributed.progress import Progress
from distributed.recorder import Recorder
from distributed.references import fill, run_name
from distributed.registry import GAP, MLMODEL, TRIAL_ID, promote, save_model
from distributed.results import read_trials, replacing
from distributed.review import begun, linked, make_review
from distributed.scheduler import EPOCH, make_scheduler
from distributed.stop import Stop
from distributed.study import Study, StudySearcher
from distributed.summary import summarise
from distributed.tracking import DESCRIPTION, Tracker
from distributed.version import code_version, environment
from mixunlearn.errors import MissingError, MixUnlearnError
from mixunlearn.problem import Problem
from mixunlearn.store import Entry
from report.card import model_card
from report.description import describe
from report.leaderboard import leaderboard
from report.page import write_page
from report.plots import gap_by_trial, metrics_against_references
from report.review import Review
from trainables.examine import Examination
from trainables.unlearn import UnlearnTrainable

MAX_FAILURES = 2  # of a worker, before its trial is given up
CHECKPOINTS = 4  # of a complete trial: more would cost short epochs more than they save
# For MLflow to take what waits: at the end of a sweep, when a stop was asked for, when only that
# is to be done.
TRACKING_TIMEOUT_S, HURRIED_S, SYNC_TIMEOUT_S = 60.0, 6.0, 3600.0
SUMMARY, PAGE, SPOOL = "summary.json", "report.html", "tracking.spool"
ENVIRONMENT, LEADERBOARD = "environment.json", "leaderboard.json"
ARTIFACTS = ("plots", SUMMARY, "experiment.yaml", ENVIRONMENT, PAGE)  # of the study's run
RESULTS = (*ARTIFACTS, "trials.parquet", LEADERBOARD, "errors")


@dataclass(kw_only=True)
class Session:
    """What one command that changes a study works with.

    Args:
        address: of a Ray cluster; `None` is this machine or RAY_ADDRESS.
        progress: told what is going on.
        stop: what SIGINT and SIGTERM ask for.
        stack: ends what was begun: Ray, tracking, the hold on the study.
    """

    address: str | None
    progress: Progress
    stop: Stop
    stack: ExitStack = field(default_factory=ExitStack)
    _connected: bool = False

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *error: Any) -> None:  # noqa: ANN401 - handed on
        self.stack.__exit__(*error)

    def part(self) -> "Session":
        """Return a session for one study of several; what it holds ends before this one does."""
        return replace(self, stack=ExitStack())

    def hold(self, plan: Plan) -> Driver:
        """Become the study's one driver.

        Raises:
            MixUnlearnError: another one is.
        """
        driver = Driver(plan.study, plan.folder, plan.database, self.progress.say, self.stop.check)
        return self.stack.enter_context(driver)

    def open(self, plan: Plan, driver: Driver) -> Study:
        """Return the study of a plan, with what is in it already."""
        study = open_study(plan, driver)
        self.stack.callback(study.close)
        return study

    def connect(self, plan: Plan, why: str) -> Plan:
        """Start Ray or join the cluster, once; return the plan as its nodes need it."""
        if not self._connected:
            self.progress.show(why)
            self.stack.callback(self.stop.listen)  # once Ray has ended, SIGTERM would kill
            self.stack.enter_context(connected(self.address))
            self.stop.listen()  # Ray takes SIGTERM for itself
            self._connected = True
        if local(self.address) or plan.dataset.origin:
            return plan
        # Nodes that do not see the home's folder fetch the images, once each.
        return replace(plan, dataset=plan.dataset.shipped(Shipped.of(plan.dataset)))


def run_references(plan: Plan, session: Session) -> int:
    """Train what the reference store does not hold yet; return how many models that were."""
    session.hold(plan)
    plan = plan.keep()
    return fill_references(plan, session)


def run_sweep(
    plan: Plan,
    session: Session,
    *,
    retry_failed: bool = False,
    part_of: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Do what is missing of a study and return its summary.

    Args:
        plan: what to do.
        session: to do it in.
        retry_failed: whether trials that failed are run again.
        part_of: tags that say of which comparison the study is a part. That has a page for all of
            them; the study draws none, and registers no model.

    Raises:
        MixUnlearnError: a reference could not be trained, the disk is full, Ray is away, another
            driver has the study.
        Interrupted: a stop was asked for; all that was finished is kept.
    """
    start = time.monotonic()
    driver = session.hold(plan)
    plan = plan.keep()
    with tracked(plan, session, part_of=part_of) as (tracker, uri):
        # Ray takes seconds to start: only once there is something for it to do.
        if plan.references.missing():
            plan = session.connect(plan, "starting Ray")
            fill_references(plan, session)
        log_references(plan, tracker)
        study = session.open(plan, driver)
        if retry_failed:
            session.progress.say(f"trials: {study.retry_failed()} that failed run again")
        recorder = make_recorder(plan, study, tracker, session)
        recorder.repeat()
        if recorder.count.total > recorder.count.done:
            plan = session.connect(plan, "starting the trials")
            write_json(environment(), plan.folder / ENVIRONMENT)
            search(plan, study, plan.problem(), recorder, session)
        judge = plan.references.judge("test")
        examined = examine(plan, final_tasks(plan, study, recorder.rows), session)
        summary = summarise(
            plan,
            recorder.rows,
            judge,
            examined,
            tracking_uri=addresses.redact(uri),
            seconds=time.monotonic() - start,
        )
        if part_of is None:
            runs = {**recorder.run_ids, **tracker.run_ids(TRACKING_TIMEOUT_S)}
            review = linked(plan, make_review(plan, study, summary), runs)
            write_report(plan, review)
            log_best(tracker, plan, review, examined, session.progress)
            track_summary(tracker, plan, review, examined)
        else:
            write_json(summary, plan.folder / SUMMARY)
            tracker.finish_study("complete", best_metrics(summary))
        recorder.write_table()
    if plan.shared:
        publish(plan)
    return summary


def search(
    plan: Plan, study: Study, problem: Problem, recorder: Recorder, session: Session
) -> None:
    """Run the trials that are missing, as many at once as the cluster can.

    Raises:
        Interrupted: a stop was asked for; running trials are saved.
    """
    experiment, stop = plan.experiment, session.stop
    resources = experiment.resources
    ends = {EPOCH: plan.epochs}
    if resources.trial_seconds:
        ends["seconds"] = resources.trial_seconds  # type: ignore[assignment]
    trainable = tune.with_parameters(
        UnlearnTrainable,
        problem=problem,
        method=experiment.method,
        objective=experiment.search.objective,
        checkpoints=plan.checkpoints,
        limit=resources.trial_seconds,
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": resources.cpu, "gpu": resources.gpu}),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(study, lambda: not stop.asked),
            scheduler=make_scheduler(experiment.search, plan.epochs, study, stop),
            num_samples=recorder.count.total - recorder.count.done,
            max_concurrent_trials=_at_once(plan, session),
            reuse_actors=True,
            trial_dirname_creator=_folder_of,
        ),
        run_config=tune.RunConfig(
            name=run_name(),
            storage_path=plan.checkpoints.path,
            storage_filesystem=plan.checkpoints.filesystem,
            callbacks=[recorder],
            stop=ends,
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=1,
                checkpoint_frequency=max(1, plan.epochs // CHECKPOINTS),
                checkpoint_at_end=True,
            ),
            verbose=0,
        ),
    )
    with stop.patiently():
        try:
            tuner.fit()
        except Exception as error:
            raise _unwrapped(error) from error
    if recorder.count.done < recorder.count.total:
        done = f"{recorder.count.done} of {recorder.count.total} trials"
        raise MixUnlearnError(f"Ray ended after {done}; the same command goes on")


def examine(plan: Plan, tasks: Mapping[str, Examination], session: Session) -> dict[str, Entry]:
    """Examine on `test` what has not been yet; return all results.

    Raises:
        Interrupted: a stop was asked for.
    """
    examiner = Examiner(plan)
    if missing := examiner.missing(tasks):
        session.progress.show(f"test: examining {len(missing)} models", event=True)
        plan, stop = session.connect(plan, "starting Ray"), session.stop
        judge = plan.references.judge("test")
        examiner.run(missing, plan.problem(), judge, lambda: stop.asked is not None)
        stop.check()
    return examiner.results(tasks)


def sync(plan: Plan, session: Session) -> tuple[int, list[str]]:
    """Make trials.parquet and MLflow anew from the study.

    Returns:
        The number of its finished trials, and what MLflow did not take.

    Raises:
        MixUnlearnError: a driver has the study.
    """
    driver, problems = session.hold(plan), list[str]()
    with tracked(plan, session, problems, SYNC_TIMEOUT_S) as (tracker, _):
        study = session.open(plan, driver)
        if not plan.references.missing():
            log_references(plan, tracker)
        recorder = make_recorder(plan, study, tracker, session)
        recorder.repeat()
        recorder.write_table()
        examiner = Examiner(plan)
        tasks = final_tasks(plan, study, recorder.rows)
        summary = read_summary(plan)
        if summary and not examiner.missing(tasks):
            runs = {**recorder.run_ids, **tracker.run_ids(SYNC_TIMEOUT_S)}
            review = linked(plan, make_review(plan, study, summary), runs)
            write_report(plan, review)
            examined = examiner.results(tasks)
            log_best(tracker, plan, review, examined, session.progress)
            track_summary(tracker, plan, review, examined)
    if plan.shared:
        publish(plan)
    return len(recorder.rows), problems


def open_study(plan: Plan, driver: Driver | None = None) -> Study:
    """Return the study of a plan, with what is in it already."""
    search = plan.experiment.search
    return Study(
        name=plan.study,
        storage=plan.record,
        method=plan.experiment.method,
        space=plan.space,
        facts=plan.facts,
        sampler=search.sampler,
        seed=search.seed,
        objective=search.objective,
        start=search.start,
        driver=driver,
    )


def review_of(plan: Plan) -> Review:
    """Return the review of a study, without becoming its driver.

    Raises:
        MissingError: no trial has finished, or a reference is missing.
    """
    with closing(open_study(plan)) as study:
        return make_review(plan, study, read_summary(plan))


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
    parameters = flat(plan.experiment.model_dump())
    tracker.start_study(
        plan.study, parameters, {**tags(plan), **whole_experiment(plan), **(part_of or {})}, about
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
    uri, artifacts = addresses.resolve(tracking.uri, tracking.storage, plan.home)
    tracker = Tracker(
        uri=uri,
        artifact_location=artifacts,
        experiment=plan.experiment.name,
        study=plan.study,
        spool=plan.folder / SPOOL,
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
    uri, artifacts = addresses.resolve(tracking.uri, tracking.storage, home)
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


def make_recorder(plan: Plan, study: Study, tracker: Tracker, session: Session) -> Recorder:
    """Return Tune's callback for the sweep."""
    experiment = plan.experiment
    return Recorder(
        study=study,
        tracker=tracker,
        table=plan.folder / "trials.parquet",
        epochs=plan.epochs,
        scheduler=experiment.search.scheduler,
        trial_seconds=experiment.resources.trial_seconds,
        total=experiment.search.trials,
        tags=tags(plan),
        checkpoints=Checkpoints(plan.checkpoints, experiment.search.objective, plan.default),
        stop=session.stop,
        progress=session.progress,
    )


def tags(plan: Plan) -> dict[str, str]:
    """Return what makes runs easy to find: method, model, data, code. See docs/tracking.md."""
    return {
        "mixunlearn.method": plan.experiment.method,
        "mixunlearn.task": plan.experiment.task.kind,
        "mixunlearn.labels": plan.experiment.labels,
        "mixunlearn.model": plan.experiment.model.name,
        "mixunlearn.data": plan.dataset.digest,
        "mixunlearn.splits": plan.splits.key,
        "mixunlearn.code": code_version(),
    }


def whole_experiment(plan: Plan) -> dict[str, str]:
    """Return the tag from which a trial can be run again; none that would have to be cut."""
    text = plan.experiment.model_dump_json()
    return {EXPERIMENT: text} if len(text) <= TAG_LENGTH else {}


def log_references(plan: Plan, tracker: Tracker) -> None:
    """Log originals and references as runs that all studies share."""
    references = plan.references
    shared = ("mixunlearn.task", "mixunlearn.model", "mixunlearn.data", "mixunlearn.splits")
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
            {**known, "mixunlearn.role": member.role},
        )


def publish(plan: Plan) -> None:
    """Copy the study's results to where its files are shared."""
    assert plan.shared
    for name in RESULTS:
        root = plan.folder / name
        for path in [root] if root.is_file() else sorted(root.rglob("*.*")):
            plan.shared.write(path.relative_to(plan.folder).as_posix(), path.read_bytes())


def write_report(plan: Plan, review: Review) -> None:
    """Write summary, leaderboard, pictures and report.html into the study's folder."""
    plots = plan.folder / "plots"
    plots.mkdir(exist_ok=True)
    gap_by_trial(
        review.rows,
        objective=review.objective,
        path=plots / "gap_by_trial.png",
        band=review.band,
        original=review.original,
    )
    metrics_against_references(review.summary, plots / "metrics_against_references.png")
    write_json(review.summary, plan.folder / SUMMARY)
    write_json(leaderboard(review), plan.folder / LEADERBOARD)
    write_page([review], plan.folder / PAGE)


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write plain data as a file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_summary(plan: Plan) -> dict[str, Any]:
    """Return the verdict of a study; empty while there is none."""
    path = plan.folder / SUMMARY
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def track_summary(
    tracker: Tracker, plan: Plan, review: Review, examined: Mapping[str, Entry]
) -> None:
    """Log the best trials' models and all that the study came to, and end its run."""
    summary = review.summary
    for trial in summary["best"]:
        if (entry := examined.get(f"trial {trial['trial']}")) is not None:
            tracker.log_artifact(trial["trial"], entry.path, "model")
    for name in ARTIFACTS:
        if (plan.folder / name).exists():
            tracker.log_artifact(None, plan.folder / name)
    tracker.log_table(plan.folder / LEADERBOARD)
    tracker.set_tags(None, {DESCRIPTION: describe(review)})
    tracker.finish_study("complete", best_metrics(summary))


def best_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return what the best trial scored on `test`, as metrics of the study's run."""
    best = summary["best"][0] if summary["best"] else {}
    return {f"best/{name}": best[name] for name in best if isinstance(best[name], float)}


def log_best(
    tracker: Tracker,
    plan: Plan,
    review: Review,
    examined: Mapping[str, Entry],
    progress: Progress,
) -> None:
    """Save the best trial's model, once, and register it as the experiment's candidate."""
    best: Mapping[str, Any] = next(iter(review.summary["best"]), {})
    entry = examined.get(f"trial {best.get('trial')}")
    if entry is None:
        return
    # Each in a folder of its own: one that MLflow still waits for is not replaced by the next.
    folder = plan.folder / "model" / f"trial-{best['trial']}"
    about = tags(plan) | model_tags(review)
    if not (folder / MLMODEL).is_file():
        progress.show(f"saving the model of trial {best['trial']}")
        architecture = plan.references.architecture
        reason = save_model(
            architecture.load(entry.tensors),
            folder,
            architecture=architecture,
            classes=plan.dataset.classes,
            card=model_card(review),
            metadata=about,
        )
        if reason:
            progress.say(f"model: {folder} has only weights, it cannot be exported: {reason}")
    tracker.log_model(best["trial"], folder, plan.experiment.name, about)


def model_tags(review: Review) -> dict[str, str]:
    """Return what is told of the best trial's model: whose it is, and how near it is."""
    number = review.summary["best"][0]["trial"]
    again = review.summary["spread"]["gap/avg"]
    gaps = {GAP: again["mean"], f"{GAP}_sd": again["sd"], f"{GAP}_n": again["n"]}
    return {
        STUDY: review.study,
        TRIAL: str(number),
        TRIAL_ID: _trial_id(review.rows, number),
        **{name: str(value) for name, value in gaps.items() if value is not None},
    }


def promote_best(plan: Plan, summary: Mapping[str, Any]) -> str:
    """Make the best trial's model the experiment's champion; return what was done.

    Raises:
        MissingError: there is no such model.
        MixUnlearnError: it is worse than the champion, or nobody can tell; MLflow is away.
    """
    if not summary["best"]:
        raise MissingError(f"{plan.study}: no trial succeeded, so there is nothing to promote")
    rows = read_trials(plan.folder / "trials.parquet")
    return promote(
        plan.tracking_uri, plan.experiment.name, _trial_id(rows, summary["best"][0]["trial"])
    )


def _trial_id(rows: Sequence[Mapping[str, Any]], trial: int) -> str:
    return next(str(row["trial_id"]) for row in rows if row["trial"] == trial)


def _unwrapped(error: Exception) -> Exception:
    """Return what Tune wrapped into a traceback: an error of ours, or one of the disk."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, MixUnlearnError):
            return found
        if isinstance(found, OSError):
            reason = addresses.one_line(found)
            return MixUnlearnError(f"{reason}; mend it, the same command goes on")
        found = found.__cause__ or found.__context__
    return error


def fill_references(plan: Plan, session: Session) -> int:
    """Train what the reference store does not hold yet; return how many models that were."""
    if not plan.references.missing():
        return 0
    plan = session.connect(plan, "starting Ray")
    # In a folder of their own: the runs of trials are listed more often.
    checkpoints = plan.files / "studies" / plan.study / "models"
    count = _at_once(plan, session)
    return fill(plan.references, plan.experiment.resources, count, checkpoints, session.progress)


def _at_once(plan: Plan, session: Session) -> int | None:
    """Return how many trials run at once; a cluster, which may grow, takes what it has room for."""
    resources = plan.experiment.resources
    return slots(resources.cpu, resources.gpu) if local(session.address) else None


def _folder_of(trial: Any) -> str:  # noqa: ANN401 - Ray has no types
    return trial_folder(trial.config["trial"])
