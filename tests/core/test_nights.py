"""Drift, duel and verdict, against independent statements of what they are."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from mixunlearn.metrics.nights import (
    MONTH,
    Drift,
    Duel,
    Night,
    Shift,
    alarm_limit,
    duel,
    next_comparable,
    verdict,
    watch,
)

MARGIN, ERROR = 1.0, 0.025


def nights(means: npt.ArrayLike, *, sd: float, seeds: int, draws: int, seed: int) -> list[Night]:
    """Return nights with normal gaps around means; each forget set has an effect of its own."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(0, 2, draws)
    found = []
    for index, mean in enumerate(np.asarray(means, dtype=float)):
        gaps = mean + effects[index % draws] + rng.normal(0, sd, seeds)
        found.append(Night(draw=index % draws, gaps=gaps.tolist()))
    return found


def last(given: list[Night], error: float = ERROR) -> Drift:
    *_, found = watch(given, margin=MARGIN, error=error)
    return found


def test_a_shift_is_the_prediction_error_of_a_regression_of_nights_on_forget_sets() -> None:
    given = nights(np.full(7, 4.0), sd=0.5, seeds=3, draws=2, seed=1)
    shift = last(given).shift
    assert shift
    history, tonight = given[:-1], given[-1]
    means = np.array([np.mean(night.gaps) for night in history])
    design = np.array([[night.draw == k for k in range(2)] for night in history], dtype=float)
    weights, squares, *_ = np.linalg.lstsq(design, means, rcond=None)
    row = np.array([tonight.draw == k for k in range(2)], dtype=float)
    freedom = len(means) - 2
    leverage = row @ np.linalg.inv(design.T @ design) @ row
    error = math.sqrt(squares[0] / freedom * (1 + leverage))
    assert shift.freedom == freedom
    assert shift.mean == pytest.approx(np.mean(tonight.gaps) - row @ weights)
    assert shift.error == pytest.approx(error)
    low, high = stats.t.interval(0.9, freedom, loc=shift.mean, scale=error)
    assert (shift.low, shift.high) == pytest.approx((low, high))


@pytest.mark.parametrize("of_nights", [0.0, 0.4])  # the sd of what a night's seeds share
@pytest.mark.parametrize("night", [4, 8])
def test_scores_of_quiet_nights_are_standard_normal(night: int, of_nights: float) -> None:
    scores = []
    for seed in range(120):
        means = 3 + np.random.default_rng([seed, 1]).normal(0, of_nights, night + 1)
        shift = last(nights(means, sd=0.7, seeds=4, draws=2, seed=seed)).shift
        assert shift
        scores.append(shift.score(shift.mean))
    assert stats.kstest(scores, "norm").pvalue > 0.01


@pytest.mark.parametrize("skewness", [-0.5, 0.2, 0.9])
def test_a_skewed_error_is_scored_as_one_of_pearsons_third_type(skewness: float) -> None:
    shift = Shift(mean=0, low=-1, high=1, error=2.0, freedom=10**9, skewness=skewness)
    for quantile in (0.02, 0.3, 0.7, 0.98, 0.999):
        value = 2.0 * stats.pearson3.ppf(quantile, skewness)
        assert shift.score(value) == pytest.approx(stats.norm.ppf(quantile), abs=0.03)


def test_skewness_is_that_of_the_difference_of_two_means() -> None:
    rng = np.random.default_rng(2)
    values = rng.gamma(2.0, 1.0, (400, 4))
    given = [Night(draw=i % 2, gaps=(row + 5 * (i % 2)).tolist()) for i, row in enumerate(values)]
    shift = last(given).shift
    assert shift
    tonight, before = 4, 4 * 199  # of the same forget set
    expected = math.sqrt(2) * (tonight**-2 - before**-2) / (1 / tonight + 1 / before) ** 1.5
    assert shift.skewness == pytest.approx(expected, rel=0.15)
    assert last([Night(draw=0, gaps=[1.0, 2.0])] * 3).shift.skewness == 0  # type: ignore[union-attr]


@pytest.mark.parametrize(("reference", "error"), [(0.25, 0.025), (0.8, 0.025), (1.5, 0.2)])
def test_the_limit_is_exceeded_as_often_as_it_says(reference: float, error: float) -> None:
    limit, months, rng = alarm_limit(reference, error), 40_000, np.random.default_rng(0)
    level, alarmed = np.zeros(months), np.zeros(months, dtype=bool)
    for night in range(3 * MONTH):  # the last of three months; in the first two it settles
        level = np.maximum(0, level + rng.standard_normal(months) - reference)
        over = level > limit
        alarmed |= over & (night >= 2 * MONTH)
        level[over] = 0.0
    assert alarmed.mean() == pytest.approx(error, rel=0.12)


def test_a_shift_far_above_what_is_usual_needs_no_second_night() -> None:
    assert alarm_limit(5.0, 0.025) == 0.0
    assert 0 < alarm_limit(2.5, 0.025) < alarm_limit(0.5, 0.025) < 20


def test_an_alarm_lasts_as_long_as_its_cause() -> None:
    means = np.r_[np.full(12, 3.0), np.full(8, 6.0), np.full(4, 3.0)]
    found = [*watch(nights(means, sd=0.5, seeds=5, draws=2, seed=3), margin=MARGIN, error=ERROR)]
    assert [drift.nights for drift in found[:12]] == [0] * 12
    assert [drift.nights for drift in found[12:20]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [drift.nights for drift in found[20:]] == [0] * 4
    assert all(found[index].shift.mean == pytest.approx(3, abs=1) for index in range(12, 20))  # type: ignore[union-attr]


def test_half_the_margin_is_no_drift_even_where_nothing_varies() -> None:
    same = [Night(draw=0, gaps=[2.0, 2.0])] * 8
    assert last([*same, Night(draw=0, gaps=[2.4, 2.4])]).nights == 0
    assert last([*same, Night(draw=0, gaps=[2.6, 2.6])]).nights == 1
    assert last([*same, Night(draw=0, gaps=[0.5, 0.5])]).nights == 0


def test_what_cannot_be_compared_yet_has_no_shift() -> None:
    first, other = Night(draw=0, gaps=[1.0, 2.0]), Night(draw=1, gaps=[1.0, 2.0])
    shifts = [
        drift.shift for drift in watch([first, other, first, other], margin=MARGIN, error=ERROR)
    ]
    assert shifts[:3] == [None, None, None]  # one difference of nights says nothing of its spread
    assert shifts[3] is not None


@pytest.mark.parametrize(
    ("past", "draws", "ahead"),
    [([0], 1, 2), ([0, 0], 1, 1), ([0], 3, 4), ([0, 1, 2], 3, 2), ([0, 1, 2, 0], 3, 1)],
)
def test_the_next_night_that_can_be_compared(past: list[int], draws: int, ahead: int) -> None:
    upcoming = [(past[-1] + step) % draws for step in range(1, 10)]
    assert next_comparable(past, upcoming) == ahead
    assert next_comparable(past, upcoming[: ahead - 1]) is None
    days = [*past, *upcoming][: len(past) + ahead]
    found = [*watch([Night(draw=d, gaps=[1.0, 2.0]) for d in days], margin=MARGIN, error=ERROR)]
    assert [drift.shift is None for drift in found[len(past) :]] == [True] * (ahead - 1) + [False]


def test_the_bounds_of_a_duel_are_those_of_a_t_test_on_nights() -> None:
    rng = np.random.default_rng(5)
    found_nights = rng.normal(1, 1, (6, 4)) + rng.normal(0, 0.5, (6, 1))
    found = duel(found_nights.tolist(), margin=MARGIN, error=0.03)
    level, means = 0.03 / MONTH, found_nights.mean(axis=1)
    test = stats.ttest_1samp(means, 0, alternative="greater")
    assert found.mean == pytest.approx(float(np.mean(means)))
    assert found.low == pytest.approx(float(test.confidence_interval(1 - level).low))
    upper = stats.ttest_1samp(means, 0, alternative="less").confidence_interval(0.95)
    assert found.high == pytest.approx(float(upper.high))
    assert (found.pairs, found.nights) == (24, 6)
    assert found.state == ("won" if test.pvalue < level else "lost" if upper.high < 1 else "open")


@pytest.mark.parametrize(
    ("means", "state"),
    [
        ([2.0, 2.1, 1.9, 2.0, 2.05, 1.95], "won"),
        ([0.1, -0.1, 0.0, 0.1, -0.1], "lost"),  # not better by the margin
        ([-2.0, -2.1, -1.9, -2.2], "lost"),
        ([4.0, -2.0, 3.0, -1.0], "open"),
        ([9.0], "open"),
        ([0.0, 0.0, 0.0], "lost"),
    ],
)
def test_duels(means: list[float], state: str) -> None:
    by_night = [[mean - 0.5, mean + 0.5] for mean in means]
    assert duel(by_night, margin=MARGIN, error=0.05).state == state


def test_one_night_of_many_pairs_decides_nothing() -> None:
    found = duel([[2.0, 2.1, 1.9, 2.0, 2.05, 1.95]], margin=MARGIN, error=0.05)
    assert (found.state, found.low, found.high) == ("open", -math.inf, math.inf)


def false_alarms(share: float, months: int, *, seeds_as_nights: bool) -> float:
    """Return the share of quiet months with an alarm, if a night's seeds share variance.

    Args:
        share: of the variance of a seed, common to the seeds of a night.
        months: number of simulated months, of 30 nights, 5 seeds and one forget set.
        seeds_as_nights: count each seed as an observation, as if seeds were independent.
    """
    wrong, rng = 0, np.random.default_rng(7)
    for _ in range(months):
        own, common = rng.normal(0, 0.7, (MONTH, 5)), rng.normal(0, 0.7, (MONTH, 1))
        gaps = 3 + math.sqrt(1 - share) * own + math.sqrt(share) * common
        if seeds_as_nights:
            wrong += naive_alarm(gaps)
        else:
            given = [Night(draw=0, gaps=row.tolist()) for row in gaps]
            wrong += any(each.nights for each in watch(given, margin=MARGIN, error=ERROR))
    return wrong / months


def naive_alarm(gaps: npt.NDArray[np.float64]) -> bool:
    """Return whether a CUSUM alarms whose standard error counts each seed as independent."""
    level = 0.0
    for night in range(2, len(gaps)):
        before, seeds = gaps[:night].ravel(), gaps.shape[1]
        error = before.std(ddof=1) * math.sqrt(1 / seeds + 1 / len(before))
        reference = max(MARGIN / 2 / error, 0.25)
        level = max(0.0, level + (gaps[night].mean() - before.mean()) / error - reference)
        if level > alarm_limit(round(reference, 1), ERROR):
            return True
    return False


def test_seeds_that_share_variance_cause_no_false_alarms() -> None:
    # Three standard errors above the stated rate; seed by seed the rate is several times as high.
    months = 60
    most = ERROR + 3 * math.sqrt(ERROR * (1 - ERROR) / months)
    assert false_alarms(0.1, months, seeds_as_nights=True) > most
    assert false_alarms(0.1, months, seeds_as_nights=False) <= most


def shifted(low: float, high: float, alarm: int = 0) -> Drift:
    shift = Shift(mean=(low + high) / 2, low=low, high=high, error=0.1, freedom=9)
    return Drift(shift=shift, level=0.0, limit=4.0, nights=alarm)


WON = Duel(mean=2.0, low=1.0, high=3.0, pairs=5, nights=2, state="won")
OPEN = Duel(mean=0.0, low=-1.0, high=3.0, pairs=5, nights=2, state="open")


@pytest.mark.parametrize(
    ("drift", "against", "word"),
    [
        (shifted(-0.4, 0.6), None, "unchanged"),
        (shifted(-0.4, 0.6), OPEN, "unchanged"),
        (shifted(-0.4, 0.6), WON, "improved"),
        (shifted(2.0, 3.0, alarm=2), WON, "regressed"),
        (shifted(-0.4, 1.6), None, "inconclusive"),
        (shifted(-1.4, 0.2), OPEN, "inconclusive"),
        (None, None, "inconclusive"),
        (None, WON, "improved"),
        (Drift(shift=None, level=0.0, limit=math.inf, nights=0), OPEN, "inconclusive"),
    ],
)
def test_verdicts(drift: Drift | None, against: Duel | None, word: str) -> None:
    assert verdict(drift, against, MARGIN) == word
