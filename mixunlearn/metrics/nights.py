"""Whether results really changed from night to night: drift, duel, verdict.

**Blocks.** The seeds of one night share its machine, its libraries and its references, so they may
be more alike than seeds of different nights. Therefore a night is one observation: the mean of its
seeds. How much nights differ is estimated from nights, never from seeds.

**Drift.** Each night the champion unlearns again with S fresh seeds; the forget sets take turns.
The mean of a night is predicted from the earlier nights with the same forget set. As long as
nothing changes, the error of this prediction, divided by its standard error, follows Student's t.
Converted to a normal score it is a recursive residual (Brown, Durbin & Evans 1975,
J. R. Stat. Soc. B 37(2), 149-192) whose variance is estimated too (self-starting: Hawkins 1987,
The Statistician 36(4), 299-315). Gaps are distances, with a longer upper tail. So the skewness of
earlier nights is taken into account, as that of a Pearson III distribution, whose cube root is
nearly normal (Wilson & Hilferty 1931, PNAS 17(12), 684-688). The scores of quiet nights are
independent and standard normal for any true mean, spread, and share of it that a night's seeds
have in common. So an upper CUSUM of them (Page 1954,
Biometrika 41, 100-115) has a rate of false alarms that can be computed (Brook & Evans 1972,
Biometrika 59(3), 539-549). It is tuned to detect a shift by the margin.

**Duel.** Champion and candidate unlearn with the same seeds. A night's mean of their paired
differences is one observation. Those of all nights of the duel are tested each night, at a level
that all nights of a month share (Bonferroni).
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, TypeAlias

import numpy as np
from scipy import optimize, special, stats

MONTH = 30  # nights for which an error rate is stated
STATES = 100  # into which the CUSUM's values are divided, to compute its error rate
POWER = 256  # of the moves between states: nights after which the CUSUM has settled
LEAST_REFERENCE = 0.25  # of the CUSUM, in standard errors: below it, alarms need many nights
SURE = 0.05  # error of one night's interval, on each side
FEWEST = 3  # values that are needed to estimate a third moment
NO_SKEWNESS, MOST_SKEWED = 1e-3, 2.0  # of gaps; the exponential distribution has 2
SMALLEST = 1e-3  # in margins: minimum of a spread, so that equal differences cause no division by 0
State: TypeAlias = Literal["won", "lost", "open"]
Word: TypeAlias = Literal["unchanged", "improved", "regressed", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class Night:
    """The results of the champion on one night.

    Args:
        draw: number of the forget set.
        gaps: `gap/avg` on `test` for each seed, in percentage points; at least one.
    """

    draw: int
    gaps: Sequence[float]

    @cached_property
    def mean(self) -> float:
        """Return the mean over the seeds: the one observation that a night is."""
        return float(np.mean(self.gaps))

    @cached_property
    def squares(self) -> float:
        """Return the sum of the squared deviations of the seeds from their mean."""
        return float(np.var(self.gaps)) * len(self.gaps)

    @cached_property
    def third(self) -> float | None:
        """Return the unbiased third central moment of the seeds; `None` for fewer than three."""
        return float(stats.kstat(self.gaps, 3)) if len(self.gaps) >= FEWEST else None


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A night compared with those before it, in percentage points; positive is worse.

    Args:
        mean: how much larger the night's mean gap is than predicted.
        low, high: its confidence interval, 5 % on each side.
        error: standard error of the prediction.
        freedom: degrees of freedom of that error: nights less forget sets.
        skewness: of the prediction's error.
    """

    mean: float
    low: float
    high: float
    error: float
    freedom: int
    skewness: float = 0.0

    def score(self, shift: float) -> float:
        """Return the normal score of a shift: standard normal if nothing changed."""
        # By the upper tail, because the cdf of a large shift rounds to 1, whose score is infinite.
        score = -float(special.ndtri(special.stdtr(self.freedom, -shift / self.error)))
        if abs(self.skewness) < NO_SKEWNESS:
            return score
        third = self.skewness / 6
        # A Pearson III distribution has an end; a shift beyond it counts as one at the end.
        return (math.cbrt(max(3 * third * score + 1, 0.0)) - 1) / third + third


@dataclass(frozen=True, kw_only=True)
class Drift:
    """The champion compared with its own history.

    Args:
        shift: of the last night; `None` if there is no earlier night to compare with.
        level, limit: of the CUSUM; a level above the limit is an alarm.
        nights: for how many nights, including this one, it has been worse; 0 without an alarm.
    """

    shift: Shift | None
    level: float
    limit: float
    nights: int


@dataclass(frozen=True, kw_only=True)
class Duel:
    """A candidate against the champion, in percentage points; positive is better.

    Args:
        mean: of the nights' mean differences, champion − candidate.
        low: lower bound of the mean, with the duel's error probability; infinite with one night.
        high: upper bound of the mean, with error probability 5 %; infinite with one night.
        pairs: number of pairs in all nights.
        nights: number of nights, which are the observations.
        state: "won": the candidate is better; "lost": it is not better by the margin; "open".
    """

    mean: float
    low: float
    high: float
    pairs: int
    nights: int
    state: State


def watch(nights: Iterable[Night], *, margin: float, error: float) -> Iterator[Drift]:
    """Yield for each night whether the champion has drifted away from its history.

    After an alarm, later nights are compared with those before it, until one is within the margin.

    Args:
        nights: of this champion, with the same data and recipe, in order.
        margin: smallest change that matters, in percentage points.
        error: probability of a false alarm in `MONTH` quiet nights, in (0, 1).
    """
    seen: list[Night] = []  # all nights except those of past alarms
    history = seen
    level, limit, start, alarm = 0.0, math.inf, 0, False
    for night in nights:
        shift = _compared(night, history, margin)
        if alarm and shift and shift.high < margin:
            level, alarm, seen = 0.0, False, history
        elif shift and not alarm:
            # Half of the shift to detect, which is the best choice for a CUSUM.
            reference = max(shift.score(margin / 2), LEAST_REFERENCE)
            # Rounded, so that the cache of `alarm_limit` is used.
            limit = alarm_limit(round(reference, 1), error)
            # The night on which the level last rose above 0: an alarm counts from there.
            start = start if level else len(seen)
            level = max(0.0, level + shift.score(shift.mean) - reference)
            alarm = level > limit
        seen = [*seen, night]
        history = seen[:start] if alarm else seen
        yield Drift(shift=shift, level=level, limit=limit, nights=len(seen) - start if alarm else 0)


def duel(nights: Sequence[Sequence[float]], *, margin: float, error: float) -> Duel:
    """Return the present state of a duel.

    Args:
        nights: for each night, gap of the champion minus gap of the candidate, one for each seed
            that both have; at least one night, and no night is empty.
        margin: smallest change that matters, in percentage points.
        error: probability that a candidate that is not better wins in `MONTH` nights, in (0, 1).
    """
    values = np.array([np.mean(differences) for differences in nights])
    mean, count, pairs = float(values.mean()), len(values), sum(map(len, nights))
    if count == 1:
        # The pairs of one night do not show how much nights differ.
        low, high = -math.inf, math.inf
    else:
        spread = max(float(values.std(ddof=1)), SMALLEST * margin) / math.sqrt(count)
        # The test is repeated each night, so the nights of a month share the error.
        low = mean + float(special.stdtrit(count - 1, error / MONTH)) * spread
        high = mean + float(special.stdtrit(count - 1, 1 - SURE)) * spread
    state: State = "won" if low > 0 else "lost" if high < margin else "open"
    return Duel(mean=mean, low=low, high=high, pairs=pairs, nights=count, state=state)


def comparable(earlier: Mapping[int, int], draw: int) -> bool:
    """Return whether a night can be compared with those before it.

    Args:
        earlier: number of earlier nights by forget set.
        draw: forget set of the night: it needs an earlier night, to predict from, and some
            forget set needs two, to know how much nights differ.
    """
    return earlier.get(draw, 0) > 0 and max(earlier.values()) > 1


def next_comparable(past: Iterable[int], upcoming: Iterable[int]) -> int | None:
    """Return how many nights ahead the first one is that can be compared with those before it.

    Args:
        past: forget sets of all nights until now.
        upcoming: forget sets of the nights to come, in order.

    Returns:
        1 for the first of `upcoming`; `None` if none of them can be compared.
    """
    earlier = Counter(past)
    for ahead, draw in enumerate(upcoming, start=1):
        if comparable(earlier, draw):
            return ahead
        earlier[draw] += 1
    return None


def verdict(found: Drift | None, against: Duel | None, margin: float) -> Word:
    """Return a night's verdict.

    Args:
        found: the champion compared with its history; `None` if it was not measured.
        against: the duel; `None` if there was none.
        margin: smallest change that matters, in percentage points.
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
        reference: the value that is subtracted from each score.
        error: probability that one of `MONTH` nights exceeds the limit although nothing changed,
            after any number of quiet nights without an alarm.
    """

    def excess(limit: float) -> float:
        return 1 - _survival(limit, reference) ** MONTH - error

    lowest = 1e-6
    if excess(lowest) <= 0:  # the reference is so large that any positive level is rare enough
        return 0.0
    return float(optimize.brentq(excess, lowest, 60.0, xtol=1e-4))


def _survival(limit: float, reference: float) -> float:
    """Return the probability of no alarm in a night after many nights without an alarm."""
    # The lowest state is half as wide: the level is never below 0 (Brook & Evans).
    width = 2 * limit / (2 * STATES - 1)
    at = np.arange(STATES) * width
    # From state i to state j; the lowest state includes all values below zero.
    upper = special.ndtr(at[None, :] + width / 2 - at[:, None] + reference)
    moves = np.diff(upper, axis=1, prepend=0.0)
    # The largest eigenvalue, by powers: faster than all eigenvalues, and many limits are tried.
    many = np.linalg.matrix_power(moves, POWER)
    once = many.sum(axis=1)
    return float((np.max(many @ once) / np.max(once)) ** (1 / POWER))


def _compared(night: Night, history: Sequence[Night], margin: float) -> Shift | None:
    """Compare a night with its prediction; `None` if there is too little data to predict from."""
    draws = Counter(each.draw for each in history)
    if not comparable(draws, night.draw):
        return None
    means = {
        draw: sum(each.mean for each in history if each.draw == draw) / count
        for draw, count in draws.items()
    }
    same, freedom = draws[night.draw], len(history) - len(draws)
    # Each forget set has its own mean, but all share one spread of nights.
    squares = sum((each.mean - means[each.draw]) ** 2 for each in history)
    spread = max(math.sqrt(squares / freedom), SMALLEST * margin)
    error = spread * math.sqrt(1 + 1 / same)
    mean = night.mean - means[night.draw]
    reach = float(special.stdtrit(freedom, 1 - SURE)) * error
    # Third cumulants: the prediction, a mean of nights, is subtracted, so its sign is reversed.
    of_error = (1 - same**-2) / (1 + 1 / same) ** 1.5
    return Shift(
        mean=mean,
        low=mean - reach,
        high=mean + reach,
        error=error,
        freedom=freedom,
        skewness=_skewness(history, len(night.gaps), spread) * of_error,
    )


def _skewness(history: Iterable[Night], seeds: int, spread: float) -> float:
    """Return the skewness of the mean of a night; 0 if its seeds are too few to estimate it.

    Only seeds are skewed, because gaps are distances; what a night's seeds share is symmetric.
    """
    # Within nights, so that neither nights nor forget sets that differ count as skewness.
    found = [(night.third, night.squares, len(night.gaps)) for night in history]
    known = [
        (third * count, squares, count) for third, squares, count in found if third is not None
    ]
    thirds, squares, counts = map(sum, zip(*known, strict=True)) if known else (0.0, 0.0, 0)
    if not squares:
        return 0.0
    variance = squares / (counts - len(known))
    of_seeds = max(-MOST_SKEWED, min(MOST_SKEWED, thirds / counts / variance**1.5))
    # The seeds' share of a night's variance; chance may put it above 1.
    share = min(1.0, variance / seeds / spread**2)
    return float(of_seeds / math.sqrt(seeds) * share**1.5)
