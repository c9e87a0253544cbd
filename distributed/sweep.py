"""A sweep: references, trials, final examination, verdict."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from distributed import addresses
from distributed.cluster import connected, slots
from distributed.experiment import Search
from distributed.final import Examiner
from distributed.plan import Plan
from distributed.progress import Progress
from distributed.recorder import Recorder
from distributed.references import fill
from distributed.results import replacing
from distributed.study import Study, StudySearcher
from distributed.summary import summarise
from distributed.tracking import Tracker
from distributed.version import code_version
from mixunlearn.bank import Bank
from mixunlearn.errors import MixUnlearnError
from mixunlearn.problem import Problem
from report.plots import gap_by_trial, metrics_against_references
from trainables.unlearn import UnlearnTrainable

MAX_FAILURES = 2  # of a worker, before its trial is given up
REDUCTION_FACTOR = 2  # of ASHA: half of the trials goes on at each rung
CHECKPOINTS = 4  # of a complete trial: more would cost short epochs more than they save
TRACKING_TIMEOUT_S = 60.0


def run_references(plan: Plan, address: str | None, progress: Progress) -> int:
    """Train what the bank does not hold yet; return how many models that were."""
    plan = plan.keep()
    if not plan.bank.missing():
        return 0
    with connected(address):
        return _fill(plan, progress)


def run_sweep(plan: Plan, address: str | None, progress: Progress) -> dict[str, Any]:
    """Do what is missing of a study and return its summary.

    Args:
        plan: what to do.
        address: of a Ray cluster; `None` is this machine or RAY_ADDRESS.
        progress: told what is going on.

    Raises:
        MixUnlearnError: a reference could not be trained, the disk is full, Ray is away.
    """
    start = time.monotonic()
    plan = plan.keep()
    tracker, uri = open_tracker(plan)
    try:
        # Ray takes seconds to start: only once there is something for it to do.
        with ExitStack() as stack:
            if plan.bank.missing():
                progress.show("starting Ray")
                stack.enter_context(connected(address))
                _fill(plan, progress)
            log_references(plan.bank, tracker)
            study = open_study(plan)
            problem = plan.bank.problem(with_labels=plan.experiment.labels == "aware")
            recorder = make_recorder(plan, study, tracker, progress)
            if recorder.count.total > recorder.count.done:
                progress.show("starting the trials")
                stack.enter_context(connected(address))
                search(plan, study, problem, recorder)
            judge = plan.bank.judge("test")
            examiner = Examiner(plan, study, problem, judge)
            tasks = examiner.tasks(recorder.rows)
            if missing := examiner.missing(tasks):
                progress.show(f"test: examining {len(missing)} models", event=True)
                stack.enter_context(connected(address))
                examiner.run(missing)
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
        track_summary(
            tracker, plan, summary, {name: entry.path for name, entry in examined.items()}
        )
    except BaseException:
        tracker.finish_study("stopped", {})
        raise
    finally:
        for line in tracker.close(TRACKING_TIMEOUT_S):
            progress.say(f"tracking: {line}")
    return summary


def search(plan: Plan, study: Study, problem: Problem, recorder: Recorder) -> None:
    """Run the trials that are missing, as many at once as the cluster can."""
    experiment = plan.experiment
    resources = experiment.resources
    stop = {"training_iteration": experiment.search.epochs}
    if resources.trial_seconds:
        stop["time_total_s"] = resources.trial_seconds  # type: ignore[assignment]
    trainable = tune.with_parameters(
        UnlearnTrainable,
        problem=problem,
        method=experiment.method,
        objective=experiment.search.objective,
    )
    tune.Tuner(
        tune.with_resources(trainable, {"cpu": resources.cpu, "gpu": resources.gpu}),
        tune_config=tune.TuneConfig(
            metric=experiment.search.objective,
            mode="min",
            search_alg=StudySearcher(study),
            scheduler=make_scheduler(experiment.search),
            num_samples=recorder.count.total - recorder.count.done,
            max_concurrent_trials=slots(resources.cpu, resources.gpu),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=datetime.now(tz=UTC).strftime("trials-%Y%m%d-%H%M%S"),
            storage_path=str((plan.folder / "ray").resolve()),
            callbacks=[recorder],
            stop=stop,
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=1,
                checkpoint_frequency=max(1, experiment.search.epochs // CHECKPOINTS),
                checkpoint_at_end=True,
            ),
            verbose=0,
        ),
    ).fit()
    if recorder.count.done < recorder.count.total:
        # Tune takes Ctrl-C for itself and ends early without an error.
        done = f"{recorder.count.done} of {recorder.count.total} trials"
        raise MixUnlearnError(f"stopped after {done}; the same command goes on")


def make_scheduler(search: Search) -> TrialScheduler:
    """Return the scheduler of an experiment; the epoch is the fidelity."""
    match search.scheduler:
        case "asha":
            return AsyncHyperBandScheduler(
                time_attr="training_iteration",
                max_t=search.epochs,
                grace_period=1,
                reduction_factor=REDUCTION_FACTOR,
            )
        case "median":
            return MedianStoppingRule(
                time_attr="training_iteration", grace_period=1, min_samples_required=3
            )
    return FIFOScheduler()


def open_study(plan: Plan) -> Study:
    """Return the study of a plan, with what is in it already."""
    search = plan.experiment.search
    return Study(
        name=plan.study,
        storage=f"sqlite:///{plan.folder.resolve() / 'study.db'}",
        method=plan.experiment.method,
        space=plan.space,
        facts=plan.facts,
        sampler=search.sampler,
        seed=search.seed,
        objective=search.objective,
    )


def open_tracker(plan: Plan) -> tuple[Tracker, str]:
    """Return MLflow's writer with the study's run opened, and where it writes to."""
    tracking = plan.experiment.tracking
    uri, artifacts = addresses.resolve(tracking.uri, tracking.storage, plan.home)
    tracker = Tracker(
        uri=uri, artifact_location=artifacts, experiment=plan.experiment.name, study=plan.study
    )
    tracker.start_study(plan.study, flat(plan.experiment.model_dump()), tags(plan), "")
    return tracker, uri


def make_recorder(plan: Plan, study: Study, tracker: Tracker, progress: Progress) -> Recorder:
    """Return Tune's callback for the sweep."""
    return Recorder(
        study=study,
        tracker=tracker,
        table=plan.folder / "trials.parquet",
        epochs=plan.experiment.search.epochs,
        trial_seconds=plan.experiment.resources.trial_seconds,
        total=plan.experiment.search.trials,
        tags=tags(plan),
        progress=progress,
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
    with replacing(plan.folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")


def track_summary(
    tracker: Tracker, plan: Plan, summary: Mapping[str, Any], examined: Mapping[str, Path]
) -> None:
    """Log the best trials' models and the study's plots, and end its run."""
    for trial in summary["best"]:
        tracker.log_artifact(trial["trial"], examined[f"trial {trial['trial']}"], "model")
    for path in (
        plan.folder / "plots",
        plan.folder / "summary.json",
        plan.folder / "experiment.yaml",
    ):
        tracker.log_artifact(None, path)
    best = summary["best"][0] if summary["best"] else {}
    metrics = {f"best/{name}": best[name] for name in best if isinstance(best[name], float)}
    tracker.finish_study("complete", metrics)


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dotted keys."""
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        result |= flat(item, f"{name}.") if isinstance(item, dict) else {name: item}
    return result


def _fill(plan: Plan, progress: Progress) -> int:
    resources = plan.experiment.resources
    count = slots(resources.cpu, resources.gpu)
    return fill(plan.bank, resources, count, plan.folder / "ray" / "models", progress)
