"""How far evidence by example can be relied on: simulated models, whose truth is known.

Margins of 60 images vary by about 1 over models, by a different amount for each image, and 0.4 of
that is shared by all images of a model. Unlearned models are like retrained ones, or their margins
on the forget set (not on the control) are larger by one standard deviation. It is measured how
often the 90 % intervals miss the expected value, and which AUC so few models can show. Also
simulated: the ceiling of the contest's score.

    python benchmarks/evidence_by_example.py [REPEATS]
"""

import sys

import numpy as np
import numpy.typing as npt

from benchmarks import publish, say
from mixunlearn.evidence.contest import ceiling
from mixunlearn.evidence.likelihood import Estimate, Sample, per_example

MODELS, IMAGES, SHIFTS, SHARED = (5, 16), 60, (0.0, 1.0), 0.4
DRAWS = 100  # of each bootstrap
MISSED = 0.1  # share of intervals, as stated
CEILING_MODELS, CEILING_SPREADS = (5, 8, 16, 32, 64, 128), (0.5, 1.0, 2.0, 4.0)
NAMES = ("auc", "tpr_1", "excess_auc", "excess_tpr_1")


def experiment(models: int, shift: float, rng: np.random.Generator) -> dict[str, Estimate]:
    """Return the estimates of one simulated experiment."""
    level, spread = rng.normal(3, 4, IMAGES), np.exp(rng.normal(0, 0.4, IMAGES))
    own = rng.normal(0, SHARED, (2, models, 1))

    def margins(kind: int, mean: float) -> npt.NDArray[np.float64]:
        return np.asarray(level + spread * (rng.normal(mean, 1, (models, IMAGES)) + own[kind]))

    sample = Sample(unlearned_UN=margins(0, shift), retrained_RN=margins(1, 0.0))
    control = Sample(unlearned_UN=margins(0, 0.0), retrained_RN=margins(1, 0.0))
    return per_example(sample, control, seed=0, draws=DRAWS)


def measure(models: int, shift: float, repeats: int) -> dict[str, tuple[float, float]]:
    """Return of each value the mean, and the share of intervals that miss it."""
    rng = np.random.default_rng([models, int(shift)])
    found = [experiment(models, shift, rng) for _ in range(repeats)]
    result = {}
    for name in NAMES:
        value, low, high = np.array(
            [(each[name].value, each[name].low, each[name].high) for each in found]
        ).T
        missed = (low > value.mean()) | (high < value.mean())
        result[name] = (float(value.mean()), float(missed.mean()))
    return result


def main() -> None:
    """Simulate, and print the results."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    found = {
        (models, shift): measure(models, shift, repeats) for models in MODELS for shift in SHIFTS
    }
    for (models, shift), values in found.items():
        words = [f"{name} {mean:.3f} (missed {m:.2f})" for name, (mean, m) in values.items()]
        say(f"{models} models, shift {shift:g}: {', '.join(words)}")
    ceilings = {
        f"{models} models, sd {spread:g}": round(ceiling(models, spread), 3)
        for models in CEILING_MODELS
        for spread in CEILING_SPREADS
    }
    publish(
        "evidence_by_example",
        [found[models, 0.0]["excess_auc"][1] / MISSED for models in MODELS],
        at_most=1.0,
        of="intervals of pe/excess_auc that miss under perfect unlearning, to the stated 10 %",
        repeats=repeats,
        mean_and_missed={
            f"{models} models, shift {shift:g}": {
                name: [round(value, 4) for value in pair] for name, pair in values.items()
            }
            for (models, shift), values in found.items()
        },
        ceilings=ceilings,
    )


if __name__ == "__main__":
    main()
