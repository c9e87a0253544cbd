"""Evaluation on `test` of one configuration, from its checkpoint or from scratch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import ray
import torch

from mixunlearn.errors import DivergedError
from mixunlearn.evaluation import Evaluator, Phase
from mixunlearn.files import Files
from mixunlearn.problem import Problem
from mixunlearn.splits import Splits
from mixunlearn.trial import Trial
from mixunlearn.trial_names import trial_name
from trainables.checkpoint import identity, latest
from trainables.hardware import select_device


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
    """

    method: str
    hyperparameters: Mapping[str, Any]
    seed: int
    epochs: int
    trial: int | None
    original: int = 0


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
    device = select_device(cpus, problem.computing)
    trial = Trial(problem, task.method, task.hyperparameters, task.seed, device)
    if task.trial is not None:
        same = identity(task.method, task.hyperparameters, task.seed)
        state = latest(checkpoints, trial_name(task.trial), same)
        # A checkpoint of a later epoch cannot be used: unlearning does not go backwards.
        if state is not None and state["trial"]["epochs_done"] <= task.epochs:
            trial.load_state_dict(state["trial"])
    while trial.epochs_done < task.epochs:
        trial.unlearn()
    metrics = evaluator.evaluate(trial.method.model, trial.seconds)
    # As arrays: the driver, which unpacks them, may have no GPU.
    weights = {name: _array(tensor) for name, tensor in trial.method.model.state_dict().items()}
    return TestResult(metrics=metrics, weights=weights)


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
