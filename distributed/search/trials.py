"""Runs on Ray Tune what is missing: references, then trials."""

from collections.abc import Sequence
from dataclasses import replace
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
from mixunlearn.references import ReferenceStore
from mixunlearn.trial_names import trial_name
from mixunlearn.wording import counted
from trainables.unlearn import UnlearnTrainable

MAX_FAILURES = 2  # retries of one trial after its worker failed
CHECKPOINTS = 4  # per complete trial; with short epochs, more would cost more than they save


def search(
    plan: Plan, study: Study, problem: Problem, callback: TrialCallback, session: Session
) -> None:
    """Run the missing trials, as many at once as there is room for.

    Raises:
        Interrupted: a stop was requested; running trials have checkpoints.
    """
    resources, stop = plan.experiment.resources, session.stop
    session.progress.show("trials: starting workers")
    missing = callback.count.total - callback.count.done
    tuner = tune.Tuner(
        tune.with_resources(
            _trainable(plan, problem, missing), {"cpu": resources.cpu, "gpu": resources.gpu}
        ),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(study, callback.may_start),
            scheduler=make_scheduler(plan.experiment.search, plan.epochs, study, stop),
            num_samples=missing,
            max_concurrent_trials=_at_once(plan, session),
            # A new worker takes seconds, which is longer than an epoch of a small model.
            reuse_actors=True,
            # By our number, which stays the same in later sweeps; Tune's own name does not.
            trial_dirname_creator=_folder_of,
        ),
        run_config=_run_config(plan, callback),
    )
    # A signal must not break into Tune's loop: running trials would have no checkpoints.
    with stop.patiently():
        try:
            tuner.fit()
        except Exception as error:
            found = _unwrapped(error)
            # At its end Tune reads its own state, which we do not use: the storage may lack it.
            if isinstance(found, MixUnlearnError) or callback.count.done < callback.count.total:
                raise found from error
    if callback.count.done < callback.count.total:
        done = f"{callback.count.done} of {counted(callback.count.total, 'trial')}"
        raise MixUnlearnError(f"Ray ended after {done}; run the same command again")


def _trainable(plan: Plan, problem: Problem, missing: int) -> Any:  # noqa: ANN401 - no types
    """Return the trainable with everything that all trials share; `missing` is their number."""
    return tune.with_parameters(
        UnlearnTrainable,
        problem=problem,
        method=plan.experiment.method,
        objective=plan.experiment.search.objective,
        checkpoints=plan.checkpoints.patiently(),
        limit=plan.experiment.resources.trial_seconds,
        most=missing,
    )


def _run_config(plan: Plan, callback: TrialCallback) -> tune.RunConfig:
    """Return where and how often Tune writes checkpoints, and when a trial ends."""
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
            # Two or more would multiply the disk use, and a resume needs only the newest.
            num_to_keep=1,
            checkpoint_frequency=max(1, plan.epochs // CHECKPOINTS),
            # The test evaluation continues from it instead of unlearning once more.
            checkpoint_at_end=True,
        ),
        verbose=0,
    )


def _unwrapped(error: Exception) -> Exception:
    """Return the error behind Tune's error, if it is ours or the operating system's."""
    found: BaseException | None = error
    # Tune wraps what a callback raises, in most cases more than once.
    while found is not None:
        if isinstance(found, MixUnlearnError):
            return found
        if isinstance(found, OSError):
            reason = one_line(found)
            return MixUnlearnError(f"{reason}; fix it and run the same command again")
        found = found.__cause__ or found.__context__
    return error


def fill_references(plan: Plan, session: Session) -> int:
    """Train the missing references; return how many models were trained."""
    return fill_stores(plan, [plan.references], session)


def fill_stores(plan: Plan, stores: Sequence[ReferenceStore], session: Session) -> int:
    """Train what is missing in several stores of a plan's images; return how many models.

    Args:
        plan: plan of the study.
        stores: its own, or those of its proxies.
        session: the session of the command.
    """
    if not any(store.missing() for store in stores):
        return 0
    plan = session.connect(plan, "starting Ray")
    # On a cluster, nodes fetch the images.
    stores = [replace(store, dataset=plan.dataset) for store in stores]
    resources, count = plan.experiment.resources, _at_once(plan, session)
    return fill(stores, resources, count, plan.reference_checkpoints, session.progress)


def _at_once(plan: Plan, session: Session) -> int | None:
    """Return how many trials run at once; `None` on a cluster, whose size may change."""
    resources = plan.experiment.resources
    # Not on a cluster: pending trials are what makes an autoscaler rent nodes.
    return slots(resources.cpu, resources.gpu) if local(session.address) else None


def _folder_of(trial: Any) -> str:  # noqa: ANN401 - Ray has no types
    return trial_name(trial.config["trial"])
