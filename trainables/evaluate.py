"""Evaluation on `test` of one configuration, from its checkpoint or from scratch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import ray
import torch

from mixunlearn.evaluation import Evaluator
from mixunlearn.files import Files
from mixunlearn.problem import Problem
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


def run_test_task(
    problem: Problem, evaluator: Evaluator, task: TestTask, cpus: float, checkpoints: Files
) -> TestResult:
    """Unlearn for the task's epochs, then evaluate the model once."""
    device = select_device(cpus)
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


evaluate_remotely = ray.remote(run_test_task)
