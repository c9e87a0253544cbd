"""The contest's score: rates to ε, ε to points, both families of attacks, and the ceiling."""

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

from mixunlearn.evidence.contest import (
    _Sorted,
    ceiling,
    contest_score,
    epsilon,
    epsilons,
    forgetting,
    points,
)


@pytest.mark.parametrize(
    ("false_positive", "false_negative", "known"),
    [
        (0.25, 0.25, np.log(3)),
        (0.1, 0.5, np.log(5)),  # log (1 − 0.5) / 0.1 is the larger one
        (0.5, 0.1, np.log(5)),
        (0.5, 0.5, 0.0),  # a coin
        (0.9, 0.9, 0.0),  # worse than a coin
        (0.0, 0.0, np.inf),  # always right
        (0.0, 0.5, np.nan),  # too few models to say
        (0.5, 0.0, np.nan),
    ],
)
def test_rates_of_errors_imply_epsilon(
    false_positive: float, false_negative: float, known: float
) -> None:
    found = epsilon(np.array([false_positive]), np.array([false_negative]), delta=0.0)
    assert found[0] == pytest.approx(known, nan_ok=True)


def test_the_contest_s_bins_have_its_points() -> None:
    """With 512 models: 14 bins of 0.5, with 1, 1/2, …, 2⁻¹³ points; then none."""
    found = points(np.array([0, 0.49, 0.5, 0.99, 1.0, 2.4, 6.9, 7.0, 50]), 512)
    assert found.tolist() == [1, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 16, 2**-13, 0, 0]
    # With 8 models, ⌈log 7⌉ = 2: four bins.
    assert points(np.array([1.9, 2.0]), 8).tolist() == [1 / 8, 0]


def test_utility_scales_the_score() -> None:
    assert contest_score(0.08, retain=(98, 98), held_out=(45, 90)) == pytest.approx(0.04)


def columns(*pairs: tuple[list[float], list[float]]) -> tuple[npt.NDArray[np.float64], ...]:
    return tuple(np.array([pair[side] for pair in pairs], float).T for side in (0, 1))


def test_attacks_by_one_threshold_and_by_two() -> None:
    unlearned, retrained = columns(
        ([11, 12, 13, 14], [1, 2, 3, 4]),  # always told apart
        ([1, 2, 3, 4], [1, 2, 3, 4]),
        # By a threshold between 3 and 5: FPR = FNR = 1/4.
        ([0, 5, 6, 7], [1, 2, 3, 8]),
        # Narrow within wide, equal medians: told by two thresholds only.
        ([-1, -1, 1, 1], [-9, -5, 5, 9]),
        ([5, 5, 5, 5], [5, 5, 5, 5]),
        ([5, 5, 5, 5], [1, 2, 8, 9]),  # without any spread: the largest ε
    )
    found = epsilons(unlearned, retrained)
    assert found[[0, 3, 5]].tolist() == [50, 50, 50]
    assert found[4] == 0
    assert found[2] >= np.log(3) - 1e-4
    assert epsilons(retrained, unlearned) == pytest.approx(found)


Says = Callable[[float], bool]  # of a margin: positive


def between(low: float, high: float) -> Says:
    return lambda margin: low <= margin <= high


def by_one(positive: list[float], negative: list[float], step: float) -> Iterator[Says]:
    for cut in np.arange(min(positive + negative), max(positive + negative), step):
        yield between(cut, np.inf)


def by_two(positive: list[float], step: float) -> Iterator[Says]:
    for right in np.arange(max(positive) - 2, max(positive) + 2, step):
        for width in np.ptp(positive) + np.arange(-2, 2, step):
            yield between(right - width, right)


def best(attacks: Iterable[Says], positive: list[float], negative: list[float]) -> float:
    found = [0.0]
    for says in attacks:
        missed = np.mean([not says(c) for c in positive])
        alarms = np.mean([says(c) for c in negative])
        if missed == alarms == 0:
            return 50.0
        if missed * alarms > 0:
            rates = ((missed, alarms), (alarms, missed))
            found += [np.log((1 - 1e-5 - x) / y) for x, y in rates if x < 1]
    return max(found)


def on_a_grid(one: list[float], other: list[float], step: float) -> float:
    """The same rules, stated for one image as the contest does: every attack of a grid is tried."""
    larger = (one, other) if np.median(one) >= np.median(other) else (other, one)
    inner = larger[::-1] if np.ptp(larger[0]) >= np.ptp(larger[1]) else larger
    return max(best(by_one(*larger, step), *larger), best(by_two(inner[0], step), *inner))


def test_epsilon_is_that_of_all_thresholds_on_a_fine_grid() -> None:
    rng = np.random.default_rng(0)
    # Whole numbers, and a grid of quarters between them: no threshold is missed.
    unlearned = rng.integers(-6, 7, size=(6, 8)).astype(float)
    retrained = rng.integers(-4, 9, size=(6, 8)).astype(float)
    known = [
        on_a_grid(list(unlearned[:, n]), list(retrained[:, n]), 0.25)
        for n in range(unlearned.shape[1])
    ]
    assert epsilons(unlearned, retrained) == pytest.approx(np.array(known), abs=1e-4)


def test_the_tail_of_two_equal_distributions_has_its_known_law() -> None:
    """One model against k far out in a tail: a random walk, whose maximum is known.

    Of the models from the top, each is positive or negative with probability 1/2. The ratio stays
    below 2 with probability (1 − q²) / 2 + (1 − q) / 4, q = (√5 − 1) / 2: first a negative one,
    then a walk of +2 and −1 that starts at 2 and never reaches 0; or one positive first, and a
    walk from 1. Both tails count.
    """
    rng = np.random.default_rng(1)
    golden = (np.sqrt(5) - 1) / 2
    known = ((1 - golden**2) / 2 + (1 - golden) / 4) ** 2
    margins = rng.normal(0, 1000, size=(2, 256, 3000))
    found = _Sorted(margins[0], margins[1]).by_threshold()
    # A little below 2, because δ takes something away from a ratio of exactly 2.
    assert np.mean(found < np.log(1.98)) == pytest.approx(known, abs=0.03)


def test_perfect_unlearning_scores_a_fifth_and_more_models_do_not_help() -> None:
    found = [ceiling(models, 1.0, examples=150) for models in (16, 64)]
    assert found == pytest.approx([0.2, 0.2], abs=0.08)


def test_what_leaks_scores_less_and_the_ceiling_is_beside() -> None:
    rng = np.random.default_rng(2)
    retrained = rng.normal(size=(16, 40))
    found = forgetting(rng.normal(size=(16, 40)), retrained)
    assert found.score == pytest.approx(found.ceiling, abs=0.08)
    assert forgetting(rng.normal(6, 1, size=(16, 40)), retrained).score < 0.02
    with pytest.raises(ValueError, match="2 unlearned models; 3 or more"):
        forgetting(retrained[:2], retrained)
    with pytest.raises(ValueError, match="finite"):
        forgetting(np.full_like(retrained, np.inf), retrained)


def test_more_models_of_one_kind_are_possible() -> None:
    rng = np.random.default_rng(3)
    found = epsilons(rng.normal(size=(5, 12)), rng.normal(size=(9, 12)))
    assert ((found >= 0) & (found <= 50)).all()
    for models in itertools.permutations((5, 9)):
        sets = rng.normal(9, 1, size=(models[0], 3)), rng.normal(0, 1, size=(models[1], 3))
        assert epsilons(*sets).tolist() == [50, 50, 50]
