"""How far methods are from retraining, and which of them are told apart.

The distance of a configuration is the size of its bias against retrained references, averaged over
the metrics: mean over M of |mean over originals − mean over references|. Unlike `gap/avg`, which
averages the sizes of single runs, it does not grow with their noise.

A hierarchical bootstrap says how certain a difference of two distances is. References are drawn
anew for each forget set, and originals for all forget sets; both draws are the same for the two
methods, so that what they share cancels. Each draw takes n − 1 of n, which makes the variance of a
mean unbiased (McCarthy & Snowden 1985, Vital Health Stat. 2(95)). The seeds of an original stay
together: to draw them too would count their noise twice (Davison & Hinkley 1997, Bootstrap Methods
and their Application, section 3.8). A difference, divided by the standard deviation of its draws,
is compared with Student's t, because few units are drawn (Hesterberg 2015, Am. Stat. 69(4),
371-386). Forget sets are drawn if there are enough of them; otherwise results hold for these sets.

Legend: D draws, O originals, R references, M metrics.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from mixunlearn.metrics.groups import holm

FEWEST = 5  # originals, and references of each forget set, for an interval or a p-value
DRAWS = 2000
LEVEL = 0.05  # error probability of all claims together, and of an interval on both sides
Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Unlearned:
    """The models that one configuration unlearned, starting from several originals.

    Args:
        forget: name of the forget set.
        originals: number of each original.
        values_OM: metrics of each original after unlearning, averaged over its seeds, in percent.
    """

    forget: str
    originals: Sequence[int]
    values_OM: Array


Configurations: TypeAlias = Sequence[Unlearned]  # of one method: forget sets, searches
References: TypeAlias = Mapping[str, Array]  # forget set -> values_RM


@dataclass(frozen=True, kw_only=True)
class Distance:
    """The distance of a method to retraining, in the metrics' unit, percentage points.

    Args:
        value: the distance, at least 0; the mean over searches, then over forget sets.
        low, high: its 95 % interval, not below 0; NaN with fewer than five originals or references.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two methods compared, in percentage points.

    Args:
        first, second: their names.
        value: distance of the first − distance of the second, over the forget sets and originals
            that both have; positive: the second is nearer. NaN if they have none in common.
        p: probability of a difference at least as large if there is none, Holm-corrected over all
            pairs; NaN with fewer than five originals or references.
    """

    first: str
    second: str
    value: float
    p: float

    @property
    def apart(self) -> bool:
        """Return whether the methods are told apart."""
        return self.p < LEVEL  # NaN is not


def distance_of(method: Configurations, references: References) -> Distance:
    """Return the distance of a method to retraining.

    Args:
        method: its configurations, at least one.
        references: of at least the same forget sets.
    """
    value, error, freedom = _estimated([method], [1.0], references)
    reach = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error if freedom else math.nan
    return Distance(
        value=value, low=max(0.0, value - reach) if freedom else math.nan, high=value + reach
    )


def differences(methods: Mapping[str, Configurations], references: References) -> list[Difference]:
    """Return all pairs of methods, compared by what they have in common: forget sets and originals.

    Args:
        methods: name -> its configurations, at least one.
        references: of at least the same forget sets.
    """
    found = []
    for first, second in combinations(methods, 2):
        pair = _in_common(methods[first], methods[second])
        value, p = _tested(pair, references) if all(pair) else (math.nan, math.nan)
        found.append(Difference(first=first, second=second, value=value, p=p))
    corrected = holm([each.p for each in found])
    return [replace(each, p=p) for each, p in zip(found, corrected, strict=True)]


def _tested(pair: Sequence[Configurations], references: References) -> tuple[float, float]:
    """Return the difference of two distances and its p-value."""
    value, error, freedom = _estimated(pair, [1.0, -1.0], references)
    if not freedom:
        return value, math.nan
    if not error:  # no draw differs from another: the difference is exact
        return value, float(not value)
    return value, 2 * float(stats.t.sf(abs(value) / error, freedom))


def _in_common(first: Configurations, second: Configurations) -> list[Configurations]:
    """Return two methods, cut to the forget sets and originals that both have."""
    forget = {each.forget for each in first} & {each.forget for each in second}
    both = [[each for each in method if each.forget in forget] for method in (first, second)]
    everywhere = [set(each.originals) for method in both for each in method]
    kept = sorted(set.intersection(*everywhere)) if everywhere else []
    return [[_cut(each, kept) for each in method] for method in both] if kept else [[], []]


def _cut(found: Unlearned, kept: Sequence[int]) -> Unlearned:
    places = [list(found.originals).index(original) for original in kept]
    return replace(found, originals=kept, values_OM=found.values_OM[places])


def _estimated(
    methods: Sequence[Configurations], signs: Sequence[float], references: References
) -> tuple[float, float, int]:
    """Return a signed sum of distances, its standard error, and its degrees of freedom.

    Without enough originals or references, the last is 0 and the standard error NaN.
    """
    forget = sorted({each.forget for method in methods for each in method})
    known = {name: references[name] for name in forget}
    originals = {len(each.originals) for method in methods for each in method}
    all_alike = {name: _even(len(values_RM)) for name, values_RM in known.items()}
    one = [
        sign
        * _distances(method, known, all_alike, {n: _even(n) for n in originals}, _even(len(forget)))
        for method, sign in zip(methods, signs, strict=True)
    ]
    value = float(np.sum(one))
    counts = [*originals, *map(len, known.values())]
    if min(counts) < FEWEST:
        return value, math.nan, 0
    # A fixed seed: the same results must not get another p when the page is written again.
    rng = np.random.default_rng(0)
    # In this order, so that all pairs of methods get the same references.
    of_references = {name: _draws(rng, len(values_RM)) for name, values_RM in known.items()}
    of_originals = {n: _draws(rng, n) for n in originals}
    enough = len(forget) >= FEWEST
    of_sets = _draws(rng, len(forget)) if enough else _even(len(forget))
    many = [
        sign * _distances(method, known, of_references, of_originals, of_sets)
        for method, sign in zip(methods, signs, strict=True)
    ]
    error = float(np.std(np.sum(many, axis=0), ddof=1))
    return value, error, min([*counts, len(forget)] if enough else counts) - 1


def _even(count: int) -> Array:
    """Return equal weights as a single draw."""
    return np.full((1, count), 1 / count)


def _draws(rng: np.random.Generator, count: int) -> Array:
    """Return weights of a bootstrap that draws all units but one, with replacement."""
    return rng.multinomial(count - 1, np.full(count, 1 / count), DRAWS) / (count - 1)


def _distances(
    method: Configurations,
    references: References,
    of_references: Mapping[str, Array],
    of_originals: Mapping[int, Array],
    of_sets: Array,
) -> Array:
    """Return the distance of a method in each draw, shape (D,)."""
    sets = []
    for name, values_RM in references.items():
        means_DM = of_references[name] @ values_RM
        sizes_D = [
            np.abs(of_originals[len(each.originals)] @ each.values_OM - means_DM).mean(axis=1)
            for each in method
            if each.forget == name
        ]
        # The bias of each search's configuration counts, not that of their mean, which may cancel.
        sets.append(np.mean(sizes_D, axis=0))
    return np.asarray((np.stack(sets, axis=1) * of_sets).sum(axis=1))
