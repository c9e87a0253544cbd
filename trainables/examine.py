"""The final examination: one configuration on `test`, from its checkpoint or from scratch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import ray
import torch

from mixunlearn.evaluation import Judge
from mixunlearn.problem import Problem
from mixunlearn.trial import Trial
from trainables.checkpoint import load_state
from trainables.hardware import claim


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What is to be examined.

    Args:
        method: a key of `METHODS`.
        parameters: its hyperparameters.
        seed: of the trial.
        epochs: after how many epochs to examine.
        checkpoint: folder of an earlier state of the same trial to go on from.
    """

    method: str
    parameters: Mapping[str, Any]
    seed: int
    epochs: int
    checkpoint: str | None


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came out.

    Args:
        metrics: metrics, gaps, z and times.
        weights: the unlearned model's.
    """

    metrics: Mapping[str, float]
    weights: Mapping[str, npt.NDArray[Any]]


def examine(problem: Problem, judge: Judge, task: Examination, cpus: float) -> Result:
    """Unlearn as long as the task says, and judge the model once, at the end."""
    device = claim(cpus)
    trial = Trial(problem, task.method, task.parameters, task.seed, device)
    if task.checkpoint and Path(task.checkpoint).is_dir():
        trial.load_state_dict(load_state(Path(task.checkpoint)))
    while trial.epochs_done < task.epochs:
        trial.unlearn()
    metrics = judge.judge(trial.method.model, trial.seconds)
    weights = {name: _array(tensor) for name, tensor in trial.method.model.state_dict().items()}
    return Result(metrics=metrics, weights=weights)


def _array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.cpu().numpy()
    return array


examine_remotely = ray.remote(examine)
