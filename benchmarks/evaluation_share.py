"""The share of a trial that its evaluation takes, and whether fewer draws of the attack would do.

Random configurations of a preset unlearn for a few epochs, each under two seeds, in one thread. The
share is the CPU seconds of the evaluation after an epoch, divided by those of epoch and evaluation.
The attack on membership is drawn five times. From the same models, `gap/avg` is calculated with
fewer draws, of the references as well: how do configurations rank then? Two seeds of the same
configurations tell how much of a ranking is chance anyway.

    PYTHONPATH=. .venv/bin/python benchmarks/evaluation_share.py [PRESET [CONFIGURATIONS]]

Models are kept in MIXUNLEARN_HOME, if it is set.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np
import torch
from scipy.stats import kendalltau, spearmanr

from benchmarks import publish, say, spread
from distributed.config.presets import named_file
from distributed.config.read import read_experiment
from distributed.plan.make import make_plan
from distributed.plan.plan import Plan
from distributed.study.sampling import Sampling
from mixunlearn.evaluation import Evaluator
from mixunlearn.metrics import membership
from mixunlearn.problem import Problem
from mixunlearn.trial import Trial

TARGET = 0.1
CONFIGURATIONS, EPOCHS, SEEDS = 24, 2, 2
ATTACK = "mia/asr"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of one model.

    Args:
        epoch_s, evaluation_s, attack_s: CPU seconds of an epoch, of its evaluation, and of the
            attack in it.
        gaps: the gaps that `gap/avg` averages, without that of the attack.
        draws: success of the attack in each draw, in percent.
    """

    epoch_s: float
    evaluation_s: float
    attack_s: float
    gaps: list[float]
    draws: list[float]


def main(preset: str, count: int) -> None:
    """Measure and print the result."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(os.environ.get("MIXUNLEARN_HOME") or folder)
        plan = make_plan(read_experiment(named_file(Path(preset)), []), home, command="make bench")
        plan = plan.keep()
        plan.references.fill()
        known = reference_draws(plan)
        seeds = [list(models(plan, count, seed)) for seed in range(SEEDS)]
    report(plan.experiment.name, seeds, known)


def report(preset: str, seeds: list[list[Measured]], known: list[list[float]]) -> None:
    """Print the result."""
    everything = [each for some in seeds for each in some]
    table = {n: [ranking(some, known, n) for some in seeds] for n in (1, 2, 3, membership.DRAWS)}
    full = table[membership.DRAWS]
    # What another seed of the same configurations makes of the ranking, with all draws.
    chance = [float(spearmanr(a, b).statistic) for a, b in combinations(full, 2)]
    agreement = {
        n: {
            "spearman": [
                round(float(spearmanr(a, b).statistic), 3) for a, b in zip(some, full, strict=True)
            ],
            "kendall": [
                round(float(kendalltau(a, b).statistic), 3) for a, b in zip(some, full, strict=True)
            ],
            # What the choice by fewer draws loses, in percentage points of `gap/avg`.
            "loses": [
                round(b[int(np.argmin(a))] - min(b), 2) for a, b in zip(some, full, strict=True)
            ],
        }
        for n, some in table.items()
    }
    say(f"{preset}: Spearman's rank correlation of two seeds {chance[0]:.2f}; {agreement}")
    publish(
        "evaluation_share",
        [each.evaluation_s / (each.evaluation_s + each.epoch_s) for each in everything],
        at_most=TARGET,
        of=f"the evaluation after an epoch of {preset}, compared with both",
        epoch_ms=spread([1000 * each.epoch_s for each in everything]),
        evaluation_ms=spread([1000 * each.evaluation_s for each in everything]),
        attack_ms=spread([1000 * each.attack_s for each in everything]),
        configurations=len(seeds[0]),
        draws=agreement,
        spearman_of_seeds=round(median(chance), 3),
    )


def ranking(some: list[Measured], known: list[list[float]], draws: int) -> list[float]:
    """Return `gap/avg` of each model if the attack is drawn less often, of the references too."""
    expected = float(np.mean([np.mean(each[:draws]) for each in known]))
    return [
        float(np.mean([*each.gaps, abs(float(np.mean(each.draws[:draws])) - expected)]))
        for each in some
    ]


def reference_draws(plan: Plan) -> list[list[float]]:
    """Return the attack's success in each draw, for each reference."""
    images, found = plan.references.evaluator("val").images, []
    for member in plan.references.all_references:
        with drawn() as draws:
            images.evaluate(plan.references.load(member))
        found.append([success for success, _ in draws])
    return found


def models(plan: Plan, count: int, seed: int) -> Iterator[Measured]:
    """Yield what was measured of random configurations, the same ones for each seed."""
    sampling = Sampling(plan.space, plan.facts, "random", 0)
    problem = plan.problem()
    for number in range(count):
        hyperparameters, _ = sampling.propose(number)
        trial = Trial(
            problem, plan.experiment.method, hyperparameters, 1000 * seed, torch.device("cpu")
        )
        found = measured(trial, problem, problem.evaluator)
        say(f"configuration {number}, seed {seed}: {found.evaluation_s:.2f} s of evaluation")
        yield found


def measured(trial: Trial, problem: Problem, evaluator: Evaluator) -> Measured:
    """Unlearn, then evaluate once."""
    start = time.process_time()
    for _ in range(EPOCHS):
        trial.unlearn()
    middle = time.process_time()
    with drawn() as found:
        metrics = evaluator.evaluate(trial.method.model, trial.effort)
    end = time.process_time()
    names = [name for name in evaluator.references.gap_metrics if name != ATTACK]
    return Measured(
        epoch_s=(middle - start) / EPOCHS,
        evaluation_s=end - middle,
        attack_s=sum(seconds for _, seconds in found),
        gaps=[metrics[f"gap/{name}"] for name in names],
        draws=[success for success, _ in found],
    )


@contextmanager
def drawn() -> Iterator[list[tuple[float, float]]]:
    """Record the attack's success in each draw, in percent, and the CPU seconds that it took."""
    found: list[tuple[float, float]] = []
    attack = membership.attacker_accuracy

    def recorded(learning: membership.Labelled, asking: membership.Labelled) -> float:
        start = time.process_time()
        accuracy = attack(learning, asking)
        found.append((100 * accuracy, time.process_time() - start))
        return accuracy

    with mock.patch.object(membership, "attacker_accuracy", recorded):
        yield found


if __name__ == "__main__":
    given = sys.argv[1:]
    main(given[0] if given else "digits_class", int(given[1]) if given[1:] else CONFIGURATIONS)
