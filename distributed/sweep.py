"""A sweep: references, trials, final examination, verdict."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ray import tune

from distributed import addresses
from distributed.checkpoints import Checkpoints, trial_folder
from distributed.cluster import Shipped, connected, local, slots
from distributed.driver import Driver
from distributed.final import Examiner
from distributed.plan import Plan, flat
from distributed.progress import Progress
from distributed.recorder import Recorder
from distributed.references import fill, run_name
from distributed.results import replacing
from distributed.scheduler import EPOCH, make_scheduler
from distributed.stop import Stop
from distributed.study import Study, StudySearcher
from distributed.summary import summarise
from distributed.tracking import Tracker
from distributed.version import code_version
from mixunlearn.bank import Bank
from mixunlearn.errors import MixUnlearnError
from mixunlearn.problem import Problem
from mixunlearn.store import Entry
from report.plots import gap_by_trial, metrics_against_references
from trainables.unlearn import UnlearnTrainable

MAX_FAILURES = 2  # of a worker, before its trial is given up
CHECKPOINTS = 4  # of a complete trial: more would cost short epochs more than they save
TRACKING_TIMEOUT_S, HURRIED_S = (
    60.0,
    6.0,
)  # for MLflow to take what waits; when a stop was asked for
SUMMARY = "summary.json"
RESULTS = ("experiment.yaml", "trials.parquet", SUMMARY, "plots")


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
        if self._connected:
            return plan
        self.progress.show(why)
        self.stack.enter_context(connected(self.address))
        self.stop.listen()  # Ray takes SIGTERM for itself
        self._connected = True
        if local(self.address):
            return plan
        # Nodes that do not see the home's folder fetch the images, once each.
        return replace(plan, dataset=plan.dataset.shipped(Shipped.of(plan.dataset)))


def run_references(plan: Plan, session: Session) -> int:
    """Train what the bank does not hold yet; return how many models that were."""
    session.hold(plan)
    plan = plan.keep()
    return _fill(plan, session)


def run_sweep(plan: Plan, session: Session, *, retry_failed: bool = False) -> dict[str, Any]:
    """Do what is missing of a study and return its summary.

    Args:
        plan: what to do.
        session: to do it in.
        retry_failed: whether trials that failed are run again.

    Raises:
        MixUnlearnError: a reference could not be trained, the disk is full, Ray is away, another
            driver has the study.
        Interrupted: a stop was asked for; all that was finished is kept.
    """
    start = time.monotonic()
    driver = session.hold(plan)
    plan = plan.keep()
    with tracked(plan, session) as (tracker, uri):
        # Ray takes seconds to start: only once there is something for it to do.
        if plan.bank.missing():
            plan = session.connect(plan, "starting Ray")
            _fill(plan, session)
        log_references(plan.bank, tracker)
        study = session.open(plan, driver)
        if retry_failed:
            session.progress.say(f"trials: {study.retry_failed()} that failed run again")
        recorder = make_recorder(plan, study, tracker, session)
        recorder.repeat()
        if recorder.count.total > recorder.count.done:
            plan = session.connect(plan, "starting the trials")
            search(plan, study, problem_of(plan), recorder, session)
        judge = plan.bank.judge("test")
        examiner = Examiner(plan, study)
        tasks = examiner.tasks(recorder.rows)
        if missing := examiner.missing(tasks):
            session.progress.show(f"test: examining {len(missing)} models", event=True)
            plan = session.connect(plan, "starting Ray")
            examiner.run(missing, problem_of(plan), plan.bank.judge("test"))
        examined = examiner.results(tasks)
        summary = summarise(
            plan,
            recorder.rows,
            judge,
            examined,
            tracking_uri=addresses.redact(uri),
            seconds=time.monotonic() - start,
        )
        write_report(plan, recorder.rows, summary)
        recorder.write_table()
        track_summary(tracker, plan, examined)
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
    ends = {EPOCH: experiment.search.epochs}
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
            scheduler=make_scheduler(experiment.search, study, stop),
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
                checkpoint_frequency=max(1, experiment.search.epochs // CHECKPOINTS),
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


def problem_of(plan: Plan) -> Problem:
    """Return what trials unlearn."""
    return plan.bank.problem(with_labels=plan.experiment.labels == "aware")


def sync(plan: Plan, session: Session) -> tuple[int, list[str]]:
    """Make trials.parquet and MLflow anew from the study.

    Returns:
        The number of its finished trials, and what MLflow did not take.

    Raises:
        MixUnlearnError: a driver has the study.
    """
    driver, problems = session.hold(plan), list[str]()
    with tracked(plan, session, problems) as (tracker, _):
        study = session.open(plan, driver)
        if not plan.bank.missing():
            log_references(plan.bank, tracker)
        recorder = make_recorder(plan, study, tracker, session)
        recorder.repeat()
        recorder.write_table()
        examiner = Examiner(plan, study)
        tasks = examiner.tasks(recorder.rows)
        if (plan.folder / SUMMARY).exists() and not examiner.missing(tasks):
            track_summary(tracker, plan, examiner.results(tasks))
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
        driver=driver,
    )


@contextmanager
def tracked(
    plan: Plan, session: Session, problems: list[str] | None = None
) -> Iterator[tuple[Tracker, str]]:
    """Give MLflow's writer with the study's run opened, and where it writes to.

    In the end, all that waits is delivered; what could not be is said, and added to `problems`.
    """
    tracking, say = plan.experiment.tracking, session.progress.say
    uri, artifacts = addresses.resolve(tracking.uri, tracking.storage, plan.home)
    tracker = Tracker(
        uri=uri,
        artifact_location=artifacts,
        experiment=plan.experiment.name,
        study=plan.study,
        spool=plan.folder / "tracking.spool",
        say=lambda line: say(f"tracking: {line}"),
    )
    tracker.start_study(plan.study, flat(plan.experiment.model_dump()), tags(plan), "")
    try:
        yield tracker, uri
    except BaseException:
        tracker.finish_study("stopped", {})
        raise
    finally:
        for line in tracker.close(HURRIED_S if session.stop.asked else TRACKING_TIMEOUT_S):
            say(f"tracking: {line}")
            if problems is not None:
                problems.append(line)


def make_recorder(plan: Plan, study: Study, tracker: Tracker, session: Session) -> Recorder:
    """Return Tune's callback for the sweep."""
    experiment = plan.experiment
    return Recorder(
        study=study,
        tracker=tracker,
        table=plan.folder / "trials.parquet",
        epochs=experiment.search.epochs,
        trial_seconds=experiment.resources.trial_seconds,
        total=experiment.search.trials,
        tags=tags(plan),
        checkpoints=Checkpoints(plan.checkpoints, experiment.search.objective, plan.default),
        stop=session.stop,
        progress=session.progress,
    )


def tags(plan: Plan) -> dict[str, str]:
    """Return what makes runs easy to find: study, method, data, code."""
    return {
        "mixunlearn.method": plan.experiment.method,
        "mixunlearn.task": plan.experiment.task.kind,
        "mixunlearn.labels": plan.experiment.labels,
        "mixunlearn.data": plan.dataset.digest,
        "mixunlearn.splits": plan.splits.key,
        "mixunlearn.code": code_version(),
    }


def log_references(bank: Bank, tracker: Tracker) -> None:
    """Log originals and references as runs of their own."""
    for member in bank.members:
        metrics: dict[str, float] = {"time/train_s": bank.seconds(member)}
        for phase in ("val", "test"):
            metrics |= bank.evaluation(member, phase).metrics
        payload = flat(bank.payload(member))
        tracker.log_reference(bank.key(member), member.role, payload, metrics)


def publish(plan: Plan) -> None:
    """Copy the study's results to where its files are shared."""
    assert plan.shared
    for name in RESULTS:
        root = plan.folder / name
        for path in [root] if root.is_file() else sorted(root.rglob("*.*")):
            plan.shared.write(path.relative_to(plan.folder).as_posix(), path.read_bytes())


def write_report(plan: Plan, rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> None:
    """Write summary.json and the plots into the study's folder."""
    plots = plan.folder / "plots"
    plots.mkdir(exist_ok=True)
    references = plan.bank.judge("val").references
    own = references.own_gaps()
    original = references.compare(plan.bank.evaluation(plan.bank.original, "val"))
    objective = plan.experiment.search.objective
    gap_by_trial(
        rows,
        objective=objective,
        path=plots / "gap_by_trial.png",
        band=(min(own), max(own)) if own and objective == "gap/avg" else None,
        original=original[objective],
    )
    metrics_against_references(summary, plots / "metrics_against_references.png")
    with replacing(plan.folder / SUMMARY) as temporary:
        temporary.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")


def track_summary(tracker: Tracker, plan: Plan, examined: Mapping[str, Entry]) -> None:
    """Log the best trials' models, the study's plots and its summary, and end its run."""
    summary = json.loads((plan.folder / SUMMARY).read_text())
    for trial in summary["best"]:
        if (entry := examined.get(f"trial {trial['trial']}")) is not None:
            tracker.log_artifact(trial["trial"], entry.path, "model")
    for name in ("plots", SUMMARY, "experiment.yaml"):
        tracker.log_artifact(None, plan.folder / name)
    best = summary["best"][0] if summary["best"] else {}
    metrics = {f"best/{name}": best[name] for name in best if isinstance(best[name], float)}
    tracker.finish_study("complete", metrics)


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


def _fill(plan: Plan, session: Session) -> int:
    if not plan.bank.missing():
        return 0
    plan = session.connect(plan, "starting Ray")
    # In a folder of their own: the runs of trials are listed more often.
    checkpoints = plan.files / "studies" / plan.study / "models"
    count = _at_once(plan, session)
    return fill(plan.bank, plan.experiment.resources, count, checkpoints, session.progress)


def _at_once(plan: Plan, session: Session) -> int | None:
    """Return how many trials run at once; a cluster, which may grow, takes what it has room for."""
    resources = plan.experiment.resources
    return slots(resources.cpu, resources.gpu) if local(session.address) else None


def _folder_of(trial: Any) -> str:  # noqa: ANN401 - Ray has no types
    return trial_folder(trial.config["trial"])
