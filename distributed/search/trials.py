"""Running what is missing on Ray Tune: references, then trials."""

from typing import Any

from ray import tune

from distributed.cluster.connection import local, slots
from distributed.plan.plan import Plan
from distributed.runtime.text import one_line
from distributed.search.references import fill, run_name
from distributed.search.scheduler import EPOCH, make_scheduler
from distributed.search.searcher import StudySearcher
from distributed.search.session import Session
from distributed.search.trial_callback import TrialCallback
from distributed.study.study import Study
from mixunlearn.errors import MixUnlearnError
from mixunlearn.problem import Problem
from mixunlearn.trial_names import trial_name
from trainables.unlearn import UnlearnTrainable

MAX_FAILURES = 2  # of a worker, before its trial is given up
CHECKPOINTS = 4  # of a complete trial: more would cost short epochs more than they save


def search(
    plan: Plan, study: Study, problem: Problem, callback: TrialCallback, session: Session
) -> None:
    """Run the trials that are missing, as many at once as the cluster can.

    Raises:
        Interrupted: a stop was asked for; running trials are saved.
    """
    resources, stop = plan.experiment.resources, session.stop
    tuner = tune.Tuner(
        tune.with_resources(
            _trainable(plan, problem), {"cpu": resources.cpu, "gpu": resources.gpu}
        ),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(study, lambda: not stop.asked),
            scheduler=make_scheduler(plan.experiment.search, plan.epochs, study, stop),
            num_samples=callback.count.total - callback.count.done,
            max_concurrent_trials=_at_once(plan, session),
            reuse_actors=True,
            trial_dirname_creator=_folder_of,
        ),
        run_config=_run_config(plan, callback),
    )
    with stop.patiently():
        try:
            tuner.fit()
        except Exception as error:
            raise _unwrapped(error) from error
    if callback.count.done < callback.count.total:
        done = f"{callback.count.done} of {callback.count.total} trials"
        raise MixUnlearnError(f"Ray ended after {done}; run the same command again")


def _trainable(plan: Plan, problem: Problem) -> Any:  # noqa: ANN401 - Ray has no types
    """Return what runs a trial, with all that trials share."""
    return tune.with_parameters(
        UnlearnTrainable,
        problem=problem,
        method=plan.experiment.method,
        objective=plan.experiment.search.objective,
        checkpoints=plan.checkpoints,
        limit=plan.experiment.resources.trial_seconds,
    )


def _run_config(plan: Plan, callback: TrialCallback) -> tune.RunConfig:
    """Return where Tune keeps checkpoints, how often, and when a trial ends."""
    ends: dict[str, float] = {EPOCH: plan.epochs}
    if limit := plan.experiment.resources.trial_seconds:
        ends["seconds"] = limit
    return tune.RunConfig(
        name=run_name(),
        storage_path=plan.checkpoints.path,
        storage_filesystem=plan.checkpoints.filesystem,
        callbacks=[callback],
        stop=ends,
        failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
        checkpoint_config=tune.CheckpointConfig(
            num_to_keep=1,
            checkpoint_frequency=max(1, plan.epochs // CHECKPOINTS),
            checkpoint_at_end=True,
        ),
        verbose=0,
    )


def _unwrapped(error: Exception) -> Exception:
    """Return what Tune wrapped into a traceback: an error of ours, or one of the disk."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, MixUnlearnError):
            return found
        if isinstance(found, OSError):
            reason = one_line(found)
            return MixUnlearnError(f"{reason}; fix it and run the same command again")
        found = found.__cause__ or found.__context__
    return error


def fill_references(plan: Plan, session: Session) -> int:
    """Train the references that are missing; return how many models that were."""
    if not plan.references.missing():
        return 0
    plan = session.connect(plan, "starting Ray")
    resources, count = plan.experiment.resources, _at_once(plan, session)
    return fill(plan.references, resources, count, plan.reference_checkpoints, session.progress)


def _at_once(plan: Plan, session: Session) -> int | None:
    """Return how many trials run at once; a cluster, which may grow, takes what it has room for."""
    resources = plan.experiment.resources
    return slots(resources.cpu, resources.gpu) if local(session.address) else None


def _folder_of(trial: Any) -> str:  # noqa: ANN401 - Ray has no types
    return trial_name(trial.config["trial"])
