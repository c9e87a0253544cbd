"""Whether anything really moved from night to night: drift, duel, verdict.

**Drift.** Each night the champion unlearns again under S fresh seeds; forget sets come in rotation.
What a night should have given is predicted from the earlier nights under the same forget set, and
the error of that prediction, divided by its standard error, follows Student's t as long as nothing
changed; turned into a normal score it is a recursive residual (Brown, Durbin & Evans 1975,
J. R. Stat. Soc. B 37(2), 149-192) with a variance that is estimated as well (self-starting:
Hawkins 1987, The Statistician 36(4), 299-315). Gaps are distances, with a longer tail above: the
skewness of earlier nights is taken into account, as that of a Pearson III distribution, whose cube
root is nearly normal (Wilson & Hilferty 1931, PNAS 17(12), 684-688). The scores of quiet nights are
independent and standard normal, whatever the true mean and spread, so that an upper CUSUM of them
(Page 1954, Biometrika 41, 100-115) raises false alarms at a rate that can be computed (Brook &
Evans 1972, Biometrika 59(3), 539-549). It is tuned to find a shift by the margin.

**Duel.** Champion and candidate unlearn under the same seeds; their paired differences over all
nights of the duel are tested each night at a level that all nights of a month share (Bonferroni).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

import numpy as np
from scipy import optimize, stats

MONTH = 30  # nights for which an error rate is stated
STATES = 100  # that the CUSUM's values are divided into, to compute its error rate
LEAST_REFERENCE = 0.25  # of the CUSUM, in standard errors: below, alarms would need many nights
SURE = 0.05  # error of one night's interval, each side
FEWEST = 3  # values that have a third moment
NO_SKEWNESS, MOST_SKEWED = 1e-3, 2.0  # of gaps; the exponential distribution has 2
SMALLEST = 1e-3  # margins; differences that never vary still have some spread
State: TypeAlias = Literal["won", "lost", "open"]
Word: TypeAlias = Literal["unchanged", "improved", "regressed", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class Night:
    """What the champion scored on one night.

    Args:
        draw: which of the forget sets it was.
        gaps: `gap/avg` on `test` of each seed, in percentage points; at least one.
    """

    draw: int
    gaps: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A night against those before it, in percentage points; positive is worse.

    Args:
        mean: how much larger the night's mean gap is than predicted.
        low, high: its interval, 5 % to each side.
        error: standard error of the prediction.
        freedom: degrees of freedom of that error.
        skewness: of the prediction's error.
    """

    mean: float
    low: float
    high: float
    error: float
    freedom: int
    skewness: float = 0.0

    def score(self, shift: float) -> float:
        """Return the normal score of a shift: standard normal where nothing changed."""
        score = float(stats.norm.isf(stats.t.sf(shift / self.error, self.freedom)))
        if abs(self.skewness) < NO_SKEWNESS:
            return score
        third = self.skewness / 6
        return (math.cbrt(max(3 * third * score + 1, 0.0)) - 1) / third + third


@dataclass(frozen=True, kw_only=True)
class Drift:
    """The champion against its own history.

    Args:
        shift: of the last night; `None`: no earlier night to compare with.
        level, limit: of the CUSUM; beyond the limit is an alarm.
        nights: for how many nights, this one included, it has been worse; 0 without an alarm.
    """

    shift: Shift | None
    level: float
    limit: float
    nights: int


@dataclass(frozen=True, kw_only=True)
class Duel:
    """A candidate against the champion, in percentage points; positive is better.

    Args:
        mean: of the paired differences, champion − candidate.
        low: bound below which the mean is with the duel's error; infinite with one pair.
        high: bound above which it is in 5 %.
        pairs: how many.
        state: "won": it is better; "lost": not by as much as the margin; "open".
    """

    mean: float
    low: float
    high: float
    pairs: int
    state: State


def watch(nights: Iterable[Night], *, margin: float, error: float) -> Iterator[Drift]:
    """Yield, night by night, whether the champion drifted away from its history.

    After an alarm, later nights are compared with those before it, until one is within the margin.

    Args:
        nights: of this champion, on the same data and recipe, in order.
        margin: percentage points that matter.
        error: probability of a false alarm in `MONTH` quiet nights, in (0, 1).
    """
    seen: list[Night] = []  # since the last alarm, and before it
    history = seen
    level, limit, start, alarm = 0.0, math.inf, 0, False
    for night in nights:
        shift = _compared(night, history, margin)
        if alarm and shift and shift.high < margin:
            level, alarm, seen = 0.0, False, history
        elif shift and not alarm:
            reference = max(shift.score(margin / 2), LEAST_REFERENCE)
            limit = alarm_limit(round(reference, 1), error)
            start = start if level else len(seen)
            level = max(0.0, level + shift.score(shift.mean) - reference)
            alarm = level > limit
        seen = [*seen, night]
        history = seen[:start] if alarm else seen
        yield Drift(shift=shift, level=level, limit=limit, nights=len(seen) - start if alarm else 0)


def duel(differences: Sequence[float], *, margin: float, error: float) -> Duel:
    """Return how a duel stands.

    Args:
        differences: gap of the champion minus gap of the candidate, under the same seed.
        margin: percentage points that matter.
        error: probability that a candidate no better wins in `MONTH` nights, in (0, 1).
    """
    values = np.asarray(differences, dtype=float)
    mean, count = float(values.mean()), len(values)
    if count == 1:
        return Duel(mean=mean, low=-math.inf, high=math.inf, pairs=1, state="open")
    spread = max(float(values.std(ddof=1)), SMALLEST * margin) / math.sqrt(count)
    low = mean + float(stats.t.ppf(error / MONTH, count - 1)) * spread
    high = mean + float(stats.t.ppf(1 - SURE, count - 1)) * spread
    state: State = "won" if low > 0 else "lost" if high < margin else "open"
    return Duel(mean=mean, low=low, high=high, pairs=count, state=state)


def verdict(found: Drift | None, against: Duel | None, margin: float) -> Word:
    """Return a night's verdict.

    Args:
        found: the champion against its history; `None`: it was not measured.
        against: the duel; `None`: there was none.
        margin: percentage points that matter.
    """
    if found is not None and found.nights:
        return "regressed"
    if against is not None and against.state == "won":
        return "improved"
    shift = found.shift if found else None
    if shift is not None and -margin < shift.low and shift.high < margin:
        return "unchanged"
    return "inconclusive"


@cache
def alarm_limit(reference: float, error: float) -> float:
    """Return the limit of a CUSUM of standard normal scores.

    Args:
        reference: what is taken from each score.
        error: probability that one of `MONTH` nights exceeds the limit though nothing changed,
            after any number of quiet nights without an alarm.
    """

    def excess(limit: float) -> float:
        return 1 - _survival(limit, reference) ** MONTH - error

    lowest = 1e-6
    if excess(lowest) <= 0:  # so far above what is usual that a single score needs no more
        return 0.0
    return float(optimize.brentq(excess, lowest, 60.0, xtol=1e-4))


def _survival(limit: float, reference: float) -> float:
    """Return the probability of no alarm in a night that follows many without."""
    width = 2 * limit / (2 * STATES - 1)
    at = np.arange(STATES) * width
    # From state i to state j; the lowest takes all that would be below zero.
    upper = stats.norm.cdf(at[None, :] + width / 2 - at[:, None] + reference)
    moves = np.diff(upper, axis=1, prepend=0.0)
    return float(np.max(np.abs(np.linalg.eigvals(moves))))


def _compared(night: Night, history: Sequence[Night], margin: float) -> Shift | None:
    """Return a night against its prediction; `None` where there is too little to predict from."""
    draws: dict[int, list[float]] = {}
    for each in history:
        draws.setdefault(each.draw, []).extend(each.gaps)
    same, gaps = draws.get(night.draw), np.asarray(night.gaps, dtype=float)
    freedom = sum(map(len, draws.values())) - len(draws)
    if not same or not freedom:
        return None
    squares = sum(float(np.var(values)) * len(values) for values in draws.values())
    spread = max(math.sqrt(squares / freedom), SMALLEST * margin)
    error = spread * math.sqrt(1 / len(gaps) + 1 / len(same))
    mean = float(gaps.mean() - np.mean(same))
    reach = float(stats.t.ppf(1 - SURE, freedom)) * error
    both = (1 / len(gaps) + 1 / len(same)) ** 1.5
    skewness = _skewness(draws.values(), spread) * (len(gaps) ** -2 - len(same) ** -2) / both
    return Shift(
        mean=mean,
        low=mean - reach,
        high=mean + reach,
        error=error,
        freedom=freedom,
        skewness=skewness,
    )


def _skewness(samples: Iterable[Sequence[float]], spread: float) -> float:
    """Return the common skewness of samples with means of their own; 0 where they are too small."""
    found = [sample for sample in samples if len(sample) >= FEWEST]
    if not found:
        return 0.0
    # k-statistics: unbiased third moments.
    third = np.average([stats.kstat(x, 3) for x in found], weights=[len(x) for x in found])
    return float(np.clip(third / spread**3, -MOST_SKEWED, MOST_SKEWED))
