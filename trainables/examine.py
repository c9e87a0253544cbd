"""Examination of one model for the evidence: a trained one, or one that is unlearned first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from mixunlearn.effort import Effort
from mixunlearn.evaluation import EvaluationSet
from mixunlearn.evidence.examination import Examined, Examiner
from mixunlearn.problem import Arrays, Problem
from trainables.alone import beside
from trainables.evaluate import TestTask, unlearned
from trainables.hardware import gpus_of_task, select_device


@dataclass(frozen=True, kw_only=True)
class Examination:
    """An examined model, and what its unlearning has cost.

    Args:
        examined: what was measured.
        seconds: time to unlearn; 0 for a trained model.
        at_once: how many examinations may have shared the device; `None`: unknown.
        retraining_s: seconds of a retraining, timed beside it; `None`: not timed.
    """

    examined: Examined
    seconds: float
    at_once: int | None = None
    retraining_s: float | None = None


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
    device = select_device(cpus, problem.computing, gpus_of_task())
    effort = Effort(seconds=0.0)
    if isinstance(subject, TestTask):
        trial, effort = unlearned(problem, subject, device, cpus)
        model = trial.method.model
    else:
        model = problem.architecture.load(subject).to(device)
    with beside(device):
        examiner = Examiner.of(images, problem.architecture.load(nearness).to(device))
        return Examination(
            examined=examiner.examine(model),
            seconds=effort.seconds,
            at_once=effort.at_once,
            retraining_s=effort.retraining_s,
        )


examine_remotely = ray.remote(run_examination)
