"""Tests of equivalence, against SciPy, and how often they are right."""

import math

import numpy as np
import pytest
from scipy import stats

from mixunlearn.evidence.equivalence import Bias, biases

RNG = np.random.default_rng(7)
Y, R = RNG.normal(50.5, 1.2, 6), RNG.normal(50.0, 0.7, 9)


def only(unlearned: object, retrained: object, margin: float = 2.0) -> Bias:
    (found,) = biases({"m": list(unlearned)}, {"m": list(retrained)}, {"m": margin})  # type: ignore[call-overload]
    return found


def test_the_interval_is_welch_s() -> None:
    found = only(Y, R)
    welch = stats.ttest_ind(Y, R, equal_var=False)
    np.testing.assert_allclose((found.low, found.high), welch.confidence_interval(0.9), rtol=1e-12)
    assert found.p == pytest.approx(welch.pvalue)
    assert found.value == pytest.approx(Y.mean() - R.mean())


@pytest.mark.parametrize("margin", [0.5, 1.0, 1.3, 2.0, 3.0])
def test_equivalent_means_that_both_one_sided_tests_say_so(margin: float) -> None:
    above = stats.ttest_ind(Y + margin, R, equal_var=False, alternative="greater").pvalue
    below = stats.ttest_ind(Y - margin, R, equal_var=False, alternative="less").pvalue
    assert (only(Y, R, margin).state == "equivalent") == (max(above, below) < 0.05)


def test_a_certain_bias_within_the_margin_is_equivalent() -> None:
    found = only(Y / 100 + 0.5, R / 100, margin=2.0)
    assert found.p < 1e-6
    assert found.state == "equivalent"


def test_a_certain_bias_beyond_the_margin_is_different() -> None:
    assert only(Y + 9, R).state == "different"


def decides(y: list[float], r: list[float], count: int, margin: float) -> bool:
    """Whether as many models with the same means and spreads would decide, by SciPy's tests."""
    spreads = np.std(y, ddof=1), count, np.mean(r), np.std(r, ddof=1), count

    def p(shift: float, alternative: str) -> float:
        mean, (sd, n, *others) = np.mean(y) + shift, spreads
        tested = stats.ttest_ind_from_stats(
            mean, sd, n, *others, equal_var=False, alternative=alternative
        )
        return float(tested.pvalue)

    equivalent = max(p(margin, "greater"), p(-margin, "less")) < 0.05
    return equivalent or p(0, "two-sided") < 0.05


def test_what_is_neither_is_undecided_and_says_how_many_models_would_decide() -> None:
    y, r = [48.0, 50.0, 52.0, 54.0], [48.0, 50.0, 52.0, 51.0]
    found = only(y, r, margin=2.0)
    assert found.state == "undecided"
    assert found.models is not None
    assert decides(y, r, found.models, 2.0)
    assert not decides(y, r, found.models - 1, 2.0)


def test_a_difference_that_may_be_within_its_margin_says_how_many_models_would_decide() -> None:
    y, r = [54.0, 54.5, 55.0, 55.3], [50.0, 50.4, 49.7, 49.9]
    found = only(y, r, margin=5.0)
    assert (found.state, found.outside) == ("different", False)
    assert found.models is not None

    def decided(count: int) -> bool:
        spreads = np.std(y, ddof=1), count, np.mean(r), np.std(r, ddof=1), count
        sd, n, *others = spreads
        ps = [
            stats.ttest_ind_from_stats(
                np.mean(y) - 5, sd, n, *others, equal_var=False, alternative=side
            ).pvalue
            for side in ("less", "greater")
        ]
        return bool(min(ps) < 0.05)

    assert decided(found.models)
    assert not decided(found.models - 1)


def test_outside_the_margin_means_that_the_one_sided_test_says_so() -> None:
    for shift in (2.0, 2.5, 3.0, 4.0):
        p = stats.ttest_ind(Y + shift - 2, R, equal_var=False, alternative="greater").pvalue
        assert only(Y + shift, R, margin=2.0).p_outside == pytest.approx(p, abs=1e-4)


def test_two_models_have_no_known_spread() -> None:
    found = only([1.0, 2.0], R)
    assert (found.state, found.low, found.high) == ("unknown", -math.inf, math.inf)
    assert math.isnan(found.p)


def test_models_that_are_all_alike_are_exact() -> None:
    same = only([0.0] * 5, [0.0] * 5)
    assert (same.value, same.low, same.high, same.p, same.state) == (0, 0, 0, 1, "equivalent")
    assert only([3.0] * 5, [0.0] * 5).state == "different"
    assert only([1.0] * 5, [0.0] * 5).state == "equivalent"


def test_models_that_differ_by_rounding_only_are_exact() -> None:
    found = only([0.1 + 0.2] * 3 + [0.3], [0.3] * 4)
    assert (found.p, found.state, found.models) == (1, "equivalent", None)


def test_differences_are_corrected_for_the_number_of_metrics() -> None:
    many = {f"m{index}": list(R + index / 10) for index in range(5)}
    same = {name: list(Y) for name in many}
    found = biases(same, many, dict.fromkeys(many, 0.01))
    alone = [only(Y, values, 0.01).p for values in many.values()]
    # Holm's correction, stated another way: the k-th smallest is multiplied by m - k + 1.
    order = np.argsort(alone)
    expected = np.empty(5)
    highest = 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, alone[index] * (5 - place)))
        expected[index] = highest
    np.testing.assert_allclose([bias.p for bias in found], expected)


def test_error_rates_are_those_that_are_stated() -> None:
    """At the margin at most 5 % are called equivalent; without a bias at most 5 % different."""
    rng, wrong, different = np.random.default_rng(0), 0, 0
    draws = 1000
    for _ in range(draws):
        y, r = rng.normal(0, 1.5, 5), rng.normal(0, 1, 5)
        wrong += only(y + 2, r, margin=2.0).state == "equivalent"
        different += only(y, r, margin=0.01).state == "different"
    # Four standard errors of a share of 1000 draws.
    assert wrong / draws < 0.05 + 4 * math.sqrt(0.05 * 0.95 / draws)
    assert different / draws < 0.05 + 4 * math.sqrt(0.05 * 0.95 / draws)


def test_the_detectable_bias_is_detected_in_four_cases_of_five() -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(1000):
        y, r = rng.normal(0, 1, 12), rng.normal(0, 1, 12)
        bias = only(y, r, margin=1e-9)
        shifted = only(y + bias.detectable, r, margin=1e-9)
        found.append(shifted.state == "different")
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)
