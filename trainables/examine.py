"""Examination of one model for the evidence: a trained one, or one that is unlearned first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
import torch

from mixunlearn.evaluation import EvaluationSet
from mixunlearn.evidence.examination import Examined, Examiner
from mixunlearn.models import StagedModel
from mixunlearn.problem import Arrays, Problem
from mixunlearn.trial import Trial
from trainables.evaluate import TestTask
from trainables.hardware import select_device


@dataclass(frozen=True, kw_only=True)
class Examination:
    """An examined model, and how long its unlearning took.

    Args:
        examined: what was measured.
        seconds: time to unlearn; 0 for a trained model.
    """

    examined: Examined
    seconds: float


def run_examination(
    problem: Problem,
    images: EvaluationSet,
    nearness: Arrays,
    subject: TestTask | Mapping[str, Any],
    cpus: float,
) -> Examination:
    """Examine a model.

    Args:
        problem: what is to be unlearned.
        images: on which the model is measured.
        nearness: weights of the original that decides which images are near to D_f.
        subject: the unlearning to run, or the weights of a trained model.
        cpus: number of CPUs to use.
    """
    device = select_device(cpus, problem.computing)
    examiner = Examiner.of(images, problem.architecture.load(nearness).to(device))
    if not isinstance(subject, TestTask):
        model = problem.architecture.load(subject).to(device)
        return Examination(examined=examiner.examine(model), seconds=0.0)
    model, seconds = _unlearned(problem, subject, device)
    return Examination(examined=examiner.examine(model), seconds=seconds)


def _unlearned(problem: Problem, task: TestTask, device: torch.device) -> tuple[StagedModel, float]:
    trial = Trial(problem, task.method, task.hyperparameters, task.seed, device)
    while trial.epochs_done < task.epochs:
        trial.unlearn()
    return trial.method.model, trial.seconds


examine_remotely = ray.remote(run_examination)
