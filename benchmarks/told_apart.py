"""How often a comparison tells methods apart: equal ones (it must not), and a better one.

Two methods unlearn from the same originals and are compared with the same references, in the four
metrics of `gap/avg`. Each run has noise of its original, which both methods share, and noise of its
own. The better method is nearer to the references by a number of standard deviations of a run, in
each metric. Biases that are equal are 0, or ten standard deviations.

    python benchmarks/told_apart.py [RESAMPLES]
"""

import sys
from dataclasses import dataclass, replace

import numpy as np

from benchmarks import publish, say
from mixunlearn.metrics.distances import Unlearned, differences
from mixunlearn.metrics.groups import letters

METRICS = 4
RESAMPLES = 1000
BETTER = (1.0, 2.0, 3.0, 4.0)  # standard deviations of a run
FAR = 10.0


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A simulated problem; standard deviations are in units of that of a run, which is 1.

    Args:
        originals, references, sets: numbers of each.
        methods: number of methods.
        bias: of all methods, in each metric.
        shared: share of a run's variance that comes from its original.
        correlation: share of the rest that is common to all metrics.
        noisier: factor of the first method's standard deviation.
    """

    originals: int = 5
    references: int = 5
    sets: int = 1
    methods: int = 2
    bias: float = FAR
    shared: float = 0.5
    correlation: float = 0.3
    noisier: float = 1.0


def rates(problem: Problem, *, better: float, resamples: int, seed: int = 0) -> float:
    """Return the share of resamples in which any two methods are told apart.

    Args:
        problem: what is simulated.
        better: by how many standard deviations the first method is nearer.
        resamples: number of simulated comparisons.
        seed: of the simulation.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        methods, references = simulated(problem, better, rng)
        pairs = differences(methods, references)
        apart = [(pair.first, pair.second) for pair in pairs if pair.apart]
        groups = set(letters([*methods], apart).values())
        assert (len(groups) > 1) == bool(apart)
        found.append(bool(apart))
    return float(np.mean(found))


def simulated(
    problem: Problem, better: float, rng: np.random.Generator
) -> tuple[dict[str, list[Unlearned]], dict[str, np.ndarray]]:
    """Return a comparison: its methods and references."""
    names = [f"set {index}" for index in range(problem.sets)]
    references = {name: _noise(problem, rng, problem.references) for name in names}
    # Of one original for all forget sets: it is trained once.
    of_originals = np.sqrt(problem.shared) * _noise(problem, rng, problem.originals)
    methods = {}
    for number in range(problem.methods):
        first = number == 0
        scale = np.sqrt(1 - problem.shared) * (problem.noisier if first else 1.0)
        bias = problem.bias - (better if first else 0.0)
        methods[f"method {number}"] = [
            Unlearned(
                forget=name,
                originals=range(problem.originals),
                values_OM=bias + of_originals + scale * _noise(problem, rng, problem.originals),
            )
            for name in names
        ]
    return methods, references


def _noise(problem: Problem, rng: np.random.Generator, count: int) -> np.ndarray:
    """Return unit noise of the metrics, (count, M), a share of which they have in common."""
    common, own = rng.normal(size=(count, 1)), rng.normal(size=(count, METRICS))
    return np.asarray(
        np.sqrt(problem.correlation) * common + np.sqrt(1 - problem.correlation) * own
    )


def main() -> None:
    """Simulate equal methods and better ones, and print how often they are told apart."""
    resamples = int(sys.argv[1]) if len(sys.argv) > 1 else RESAMPLES
    plain = Problem()
    equal = {
        "far from retraining": plain,
        "like retraining": replace(plain, bias=0.0),
        "like retraining, one twice as noisy": replace(plain, bias=0.0, noisier=2.0),
        "nothing shared": replace(plain, shared=0.0),
        "six methods": replace(plain, methods=6),
        "three forget sets": replace(plain, sets=3),
        "16 originals, 16 references": replace(plain, originals=16, references=16),
    }
    false = {}
    for name, problem in equal.items():
        false[name] = rates(problem, better=0.0, resamples=resamples)
        say(f"equal methods, {name}: told apart in {false[name]:.1%}")
    power = {}
    for name in ("far from retraining", "nothing shared", "16 originals, 16 references"):
        for better in BETTER:
            power[f"{name}, {better:g} sd"] = rates(
                equal[name], better=better, resamples=resamples, seed=1
            )
            say(f"{better:g} sd better, {name}: found in {power[f'{name}, {better:g} sd']:.1%}")
    publish(
        "told_apart",
        [max(false.values())],
        # The rate is itself a result of chance: three standard errors above 5 %.
        at_most=round(0.05 + 3 * float(np.sqrt(0.05 * 0.95 / resamples)), 4),
        of="resamples in which equal methods are told apart, of the worst case",
        resamples=resamples,
        equal=false,
        power=power,
    )


if __name__ == "__main__":
    main()
