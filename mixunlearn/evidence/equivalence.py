"""Tests whether unlearned models are equivalent to retrained ones, metric by metric.

Both kinds are samples: of the originals that are unlearned, and of the seeds that are retrained.
The bias of a metric is the difference of the two means, with Welch's standard error. Two one-sided
tests at 5 % (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15, 657-680) show equivalence: the 90 %
interval lies inside ± margin.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from scipy import special

from mixunlearn.errors import InputError
from mixunlearn.evidence.estimate import LEVEL, Estimate, estimate, variance, welch
from mixunlearn.metrics.groups import holm

LEAST = 3  # models of each kind; with fewer, their spread is not known
POWER = 0.8  # with which the detectable bias is detected
MOST = 1000  # models of each kind that a plan could reasonably ask for

State: TypeAlias = Literal["equivalent", "different", "undecided", "unknown"]
Values: TypeAlias = Mapping[str, Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Bias:
    """How far unlearned models are from retrained ones in one metric, in its unit.

    Args:
        metric: its name.
        value: mean of the unlearned models − mean of the retrained ones.
        low, high: 90 % interval of the bias; infinite if the spread is unknown.
        margin: the largest bias that counts as equivalent.
        p: probability of a bias at least this large if there is none; Holm-corrected over all
            metrics. NaN if the spread is unknown.
        p_outside: the same if the bias is at its margin: small if it is shown to be larger.
        detectable: the bias that these numbers of models find to be different in 80 % of cases.
        models: number of models of each kind that would decide, if mean and spread stay as they
            are: whether an undecided bias is equivalent or different, and whether a different
            one is within its margin or outside. `None` if that is decided, or if more than 1000
            would be needed.
        state: "equivalent"; "different" from 0, which need not be outside the margin;
            "undecided"; or "unknown" if there are fewer than three models of a kind.
    """

    metric: str
    value: float
    low: float = -math.inf
    high: float = math.inf
    margin: float
    p: float = math.nan
    p_outside: float = math.nan
    detectable: float = math.inf
    models: int | None = None
    state: State = "unknown"

    @property
    def outside(self) -> bool:
        """Return whether the bias is shown to be larger than its margin."""
        return self.p_outside < LEVEL


def biases(unlearned: Values, retrained: Values, margins: Mapping[str, float]) -> list[Bias]:
    """Return the bias of each metric that has a margin.

    All of them must be equivalent for the models to be (intersection-union test), so their levels
    need no correction. That one of them differs is claimed only after Holm's correction.

    Args:
        unlearned: metric -> one value for each unlearned original.
        retrained: metric -> one value for each retrained model.
        margins: metric -> margin, > 0, in the metric's unit.

    Raises:
        InputError: there is no margin, one is not above 0, or a value is missing or not finite.
    """
    _require_margins(margins)
    for role, values in (("unlearned", unlearned), ("retrained", retrained)):
        require_values(role, values, margins)
    known = {
        name: estimate(unlearned[name], np.negative(retrained[name]))
        for name in margins
        if enough(unlearned[name], retrained[name])
    }
    differing = holm([found.beyond(0) for found in known.values()])
    outside = holm([found.beyond(margins[name]) for name, found in known.items()])
    ps = dict(zip(known, zip(differing, outside, strict=True), strict=True))
    found = []
    for name, margin in margins.items():
        y, r = unlearned[name], retrained[name]
        bias = Bias(metric=name, value=float(np.mean(y) - np.mean(r)), margin=margin)
        if name in known:
            bias = _judged(bias, known[name], *ps[name])
            bias = replace(bias, models=_models(bias, y, r, metrics=len(margins)))
        found.append(bias)
    return found


def enough(*samples: Sequence[float]) -> bool:
    """Return whether there are enough models of each kind to know how they vary."""
    return min(map(len, samples)) >= LEAST


def require_values(role: str, values: Values, names: Iterable[str]) -> None:
    """Check that each metric has values, all of them finite.

    Args:
        role: what models they are of, for the error.
        values: metric -> one value for each model.
        names: the metrics.

    Raises:
        InputError: one has none, or one that is not finite.
    """
    for name in names:
        found = np.asarray(values.get(name, ()), float)
        if not found.size:
            raise InputError(f"{role}.{name}", None, "needs a value for each model")
        for value in found[~np.isfinite(found)][:1]:
            remedy = "must be a finite number: measure this model again"
            raise InputError(f"{role}.{name}", float(value), remedy)


def _require_margins(margins: Mapping[str, float]) -> None:
    """Check that there are margins, all finite and above 0.

    Raises:
        InputError: there is none, or one is not.
    """
    if not margins:
        raise InputError("margins", dict(margins), "name at least one metric")
    for name, margin in margins.items():
        if not 0 < margin < math.inf:
            raise InputError(f"margins.{name}", margin, "must be finite and above 0")


def _judged(bias: Bias, found: Estimate, p: float, p_outside: float) -> Bias:
    """Return a bias with its tests and its state."""
    low, high = found.interval
    reach = 0.0
    if found.error:
        quantiles = special.stdtrit(found.freedom, [1 - LEVEL / 2, POWER])
        reach = float(quantiles.sum()) * found.error
    # Equivalence first: a bias can be certain and yet too small to matter.
    state: State = "different" if p < LEVEL else "undecided"
    if -bias.margin < low and high < bias.margin:
        state = "equivalent"
    return replace(
        bias, low=low, high=high, p=p, p_outside=p_outside, detectable=reach, state=state
    )


def _models(
    bias: Bias, unlearned: Sequence[float], retrained: Sequence[float], *, metrics: int
) -> int | None:
    """Return how many models of each kind would decide: more than there are."""
    spreads = [variance(unlearned), variance(retrained)]
    if bias.state == "equivalent" or bias.outside or not any(spreads):
        return None
    counts = np.arange(min(len(unlearned), len(retrained)) + 1, MOST + 1)
    error, freedom = welch(spreads, [counts, counts])
    size = abs(bias.value)
    equivalent = size + special.stdtrit(freedom, 1 - LEVEL) * error < bias.margin
    # A difference from 0 is what an undecided bias lacks, one from the margin what others do.
    bound = bias.margin if bias.state == "different" else 0.0
    tails = special.stdtr(freedom, (bound - size) / error)
    tails += special.stdtr(freedom, -(bound + size) / error)
    # Holm's correction multiplies by the number of metrics at most.
    decided = np.flatnonzero(equivalent | (tails < LEVEL / metrics))
    return int(counts[decided[0]]) if len(decided) else None
