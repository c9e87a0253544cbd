"""Evaluation on `test` of one configuration, from its checkpoint or from scratch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt
import ray
import torch

from mixunlearn.effort import ALONE, Effort
from mixunlearn.errors import DivergedError
from mixunlearn.evaluation import Evaluator, Phase
from mixunlearn.files import Files
from mixunlearn.own_recipe import OwnRecipe
from mixunlearn.problem import Problem
from mixunlearn.recipes import Recipe
from mixunlearn.splits import Splits
from mixunlearn.timing import retraining_seconds
from mixunlearn.trial import Trial
from mixunlearn.trial_names import trial_name
from trainables.alone import alone, beside
from trainables.checkpoint import identity, latest
from trainables.crew import crew_of_trial
from trainables.hardware import at_once, gpus_of_task, select_device

TIMED_S = 1.0  # steps of a retraining are timed for so long


@dataclass(frozen=True, kw_only=True)
class TestTask:
    """A configuration to evaluate on `test`.

    Args:
        method: a key of `METHODS`.
        hyperparameters: its hyperparameters.
        seed: of the trial.
        epochs: number of epochs before the evaluation.
        trial: number of the trial, whose checkpoints may save some epochs; `None` starts from
            scratch.
        original: number of the original that is unlearned.
        timed: the recipe of a retraining that the unlearning is timed beside, both with the device
            to itself; `None`: it shares the device.
        most: number of tasks that are to run; `None`: unknown.
    """

    method: str
    hyperparameters: Mapping[str, Any]
    seed: int
    epochs: int
    trial: int | None
    original: int = 0
    timed: Recipe | OwnRecipe | None = None
    most: int | None = None


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """The result of a `TestTask`.

    Args:
        metrics: metrics, gaps, z and times.
        weights: the unlearned model's weights by name.
    """

    metrics: Mapping[str, float]
    weights: Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class ProxyResult:
    """The result of a proxy: a forget set like the task's own.

    Args:
        metrics: metrics, gaps and times; empty if the unlearning diverged.
        diverged: what is not finite then; empty otherwise.
    """

    metrics: Mapping[str, float]
    diverged: str = ""


def run_test_task(
    problem: Problem, evaluator: Evaluator, task: TestTask, cpus: float, checkpoints: Files
) -> TestResult:
    """Unlearn for the task's epochs, then evaluate the model once."""
    device = select_device(cpus, problem.computing, gpus_of_task())
    state = None
    if task.trial is not None:
        same = identity(task.method, task.hyperparameters, task.seed)
        state = latest(checkpoints, trial_name(task.trial), same)
    trial, effort = unlearned(problem, task, device, cpus, state)
    with beside(device):
        metrics = evaluator.evaluate(trial.method.model, effort)
    # As arrays: the driver, which unpacks them, may have no GPU.
    weights = {name: _array(tensor) for name, tensor in trial.method.model.state_dict().items()}
    return TestResult(metrics=metrics, weights=weights)


def unlearned(
    problem: Problem,
    task: TestTask,
    device: torch.device,
    cpus: float,
    state: Mapping[str, Any] | None = None,
) -> tuple[Trial, Effort]:
    """Unlearn for the task's epochs; return the trial and what it has cost.

    Args:
        problem: what is to be unlearned.
        task: the configuration.
        device: where to compute.
        cpus: number of CPUs in use.
        state: of a checkpoint of this trial, which may save some epochs; `None`: from scratch.
    """
    gpus = gpus_of_task()
    crew = crew_of_trial(problem, task.method, gpus, device)
    # A retraining beside it would have only one of several GPUs.
    timed = task.timed is not None and state is None and crew.size == ALONE
    with alone(device) if timed else beside(device) as had_it, crew:
        count = ALONE if had_it else at_once(cpus, gpus, task.most)
        crew.start(task.method, task.hyperparameters, task.seed)
        trial = Trial(problem, task.method, task.hyperparameters, task.seed, device, at_once=count)
        # A checkpoint of a later epoch cannot be used: unlearning does not go backwards.
        if state is not None and state["trial"]["epochs_done"] <= task.epochs:
            crew.load(state["trial"])
            trial.load_state_dict(state["trial"])
        while trial.epochs_done < task.epochs:
            with crew.epoch():
                trial.unlearn()
        retraining_s = None
        if had_it and isinstance(task.timed, Recipe):
            # In the same process and minute, so that nothing but the work differs.
            retraining_s = retraining_seconds(problem, task.timed, device, least_s=TIMED_S)
    return trial, replace(trial.effort, retraining_s=retraining_s)


def _array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.cpu().numpy()
    return array


def run_proxy_task(
    problem: Problem,
    splits: Splits,
    evaluators: Mapping[Phase, Evaluator],
    task: TestTask,
    cpus: float,
    checkpoints: Files,
) -> ProxyResult:
    """Unlearn another forget set from the same original, then evaluate the model once.

    Args:
        problem: of the study.
        splits: with the other forget set.
        evaluators: of both phases, with references of that forget set.
        task: what is run, from scratch.
        cpus: number of CPUs to use.
        checkpoints: not used.
    """
    try:
        other = problem.about(splits, evaluators["val"])
        result = run_test_task(other, evaluators["test"], task, cpus, checkpoints)
    except DivergedError as error:  # a result too: it speaks against the configuration
        return ProxyResult(metrics={}, diverged=str(error.args[0]))
    return ProxyResult(metrics=result.metrics)


evaluate_remotely = ray.remote(run_test_task)
evaluate_proxy_remotely = ray.remote(run_proxy_task)
